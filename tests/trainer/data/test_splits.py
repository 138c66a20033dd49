"""Splits: a fifth sealed, five folds, by lesion volume, from a seed."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.splits import make_splits


@given(st.integers(1, 60), st.integers(0, 1000))
def test_every_case_is_in_one_part_and_the_parts_have_their_sizes(num_cases, seed):
    volumes = {f"case{n}": float(n % 7) for n in range(num_cases)}

    folds = make_splits(volumes, seed)

    count = Counter(folds.values())
    assert folds.keys() == volumes.keys()
    assert count[None] == (round(num_cases / 5) if num_cases > 2 else 0)
    sizes = [count[fold] for fold in range(5)]
    assert max(sizes) - min(sizes) <= 1
    assert count[0] > 0


def test_folds_and_test_span_the_lesion_volumes():
    volumes = {f"case{n:03d}": float(np.exp(n / 20)) for n in range(150)}

    folds = make_splits(volumes, seed=3)

    everything = np.log([*volumes.values()])
    for part in (None, 0, 1, 2, 3, 4):
        inside = np.log([volumes[case] for case, fold in folds.items() if fold == part])
        assert np.mean(inside) == pytest.approx(everything.mean(), abs=0.15 * np.ptp(everything))
        for quarter in np.split(np.sort(everything), [38, 75, 112]):
            assert ((inside >= quarter[0]) & (inside <= quarter[-1])).sum() >= 4


def test_the_seed_decides_and_the_order_of_cases_does_not():
    volumes = {f"case{n}": float(n**2 % 11) for n in range(40)}
    turned = dict(reversed(volumes.items()))

    assert make_splits(volumes, 1) == make_splits(turned, 1)
    assert make_splits(volumes, 1) != make_splits(volumes, 2)
