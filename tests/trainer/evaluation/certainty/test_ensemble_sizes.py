"""Sub-ensembles of one ensemble's masks, and what is said of them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from trainer.data.store import Store
from trainer.evaluation.certainty.case_certainty import CaseCertainty
from trainer.evaluation.certainty.ensemble_sizes import EnsembleSizes, sizes
from trainer.evaluation.certainty.report import report


def test_sizes() -> None:
    assert [sizes(n) for n in (1, 2, 3, 8, 32)] == [
        [1], [1, 2], [1, 2, 3], [1, 2, 4, 8], [1, 2, 4, 8, 16, 32]
    ]  # fmt: skip


def test_each_size_is_the_first_of_the_same_masks(phantom_store: Path) -> None:
    store = Store.open(phantom_store)
    case = store.cases[0]
    shape = (case.num_slices, store.image_size, store.image_size)
    members = torch.stack([torch.full(shape, value) for value in (0.0, 1.0, 0.5, 0.5)])
    judged = EnsembleSizes(store, 4, "mean", 0.5)
    judged.add(case, members)
    brier = {size: found[0].brier for size, found in judged.by_size.items()}
    brain = store.native_brain(case)
    lesion = np.count_nonzero(store.native_mask(case) & brain) / np.count_nonzero(brain)
    # Where the box that the network sees covers the brain; of it the phantom's does.
    assert brier[1] == pytest.approx(lesion)
    assert brier[2] == pytest.approx(0.25, rel=0.05)
    assert brier[4] == pytest.approx(brier[2])


def case(number: int, dice: float, brier: float, *, has_lesion: bool = True) -> CaseCertainty:
    return CaseCertainty(str(number), dice, has_lesion, brier, brier, dice)


def test_a_paired_difference_to_the_next_larger() -> None:
    one = [case(i, 0.5 + i / 100, 0.2) for i in range(12)]
    two = [case(i, 0.6 + i / 100, 0.1) for i in range(12)]
    empty = case(12, 1.0, 0.0, has_lesion=False)
    found = report({1: [*one, empty], 2: [*two, empty]}, {str(i): str(i) for i in range(13)})
    first, last = found.by_size
    assert (first.members, last.members, last.next_larger) == (1, 2, None)
    assert first.means["dice"].value == pytest.approx(0.555)  # of those with a lesion
    assert last.means["brier"].value == pytest.approx(0.1 * 12 / 13)
    assert first.next_larger is not None
    assert first.next_larger["dice"].value == pytest.approx(0.1)
    assert first.next_larger["dice"].interval == pytest.approx((0.1, 0.1))
    head, row, _ = found.rows()
    assert head[:3] == ["members", "Dice", "next larger minus it"]
    assert row[:3] == ["1", row[1], "+0.1000 [+0.1000, +0.1000]"]
    assert found.cases[0] == two[0]
    assert len(report({1: one}, {str(i): str(i) for i in range(12)}).rows()) == 0


def test_few_cases_have_no_interval() -> None:
    found = report({1: [case(i, 0.5, 0.2) for i in range(3)]}, dict.fromkeys("012", "one"))
    assert found.lines() == [
        "calibration: ECE 0.20000, the mean of 3 cases",
        "calibration: Brier score 0.20000, the mean of 3 cases",
        "",
        "does uncertainty rank the cases by Dice: cannot be told with 3 cases: the Dice of all "
        "cases is the same",
        "risk-coverage area 0.5000, in random order 0.5000, at best 0.5000",
    ]
    empty = report({1: [case(0, 1.0, 0.0, has_lesion=False)]}, {"0": "one"})
    assert empty.ranking is None
