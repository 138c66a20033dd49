"""AUROC, the risk-coverage area and the bootstrap, against sklearn, hands and coverage."""

from math import isnan

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from trainer.evaluation.certainty.bootstrap import FEWEST, Bootstrap
from trainer.evaluation.certainty.ranking import aurc, auroc, rank

RNG = np.random.default_rng(0)


def names(number: int) -> list[str]:
    return [f"patient {i}" for i in range(number)]


def test_auroc_is_that_of_sklearn() -> None:
    score = RNG.integers(0, 6, 60).astype(float)  # with ties
    positive = RNG.random(60) < 0.4
    assert auroc(score, positive) == pytest.approx(roc_auc_score(positive, score))
    assert isnan(auroc(score, np.zeros(60, bool)))


def test_risk_coverage_by_hand() -> None:
    risk = np.array([0.1, 0.4, 0.7])
    assert aurc(np.array([1.0, 2.0, 3.0]), risk) == pytest.approx((0.1 + 0.25 + 0.4) / 3)
    assert aurc(np.array([3.0, 2.0, 1.0]), risk) == pytest.approx((0.7 + 0.55 + 0.4) / 3)
    assert aurc(np.zeros(3), risk) == pytest.approx(0.4)  # equals: as in random order


def test_an_uncertainty_that_ranks_and_one_that_does_not() -> None:
    dice = RNG.random(40)
    found = rank(dice, 1 - dice, names(40))
    assert found.verdict == "it does"
    assert found.auroc.value == 1
    assert found.aurc.value == pytest.approx(found.aurc_oracle)
    assert found.aurc_oracle < found.aurc_random == pytest.approx(1 - dice.mean())
    assert rank(dice, dice, names(40)).verdict == "it does, the wrong way round"
    assert rank(dice, RNG.random(40), names(40)).verdict == "cannot be told with 40 cases"
    few = rank(dice[:5], 1 - dice[:5], names(5))
    assert few.auroc.interval is None
    assert few.verdict == "cannot be told with 5 cases"


def test_an_interval_is_about_as_wide_as_student_says() -> None:
    values = RNG.normal(size=50)
    estimate = Bootstrap(names(50)).mean(values)
    assert estimate.interval is not None
    width = estimate.interval[1] - estimate.interval[0]
    assert width == pytest.approx(2 * 1.96 * values.std() / np.sqrt(50), rel=0.1)


def test_cases_of_a_patient_are_drawn_together() -> None:
    values, patients = np.repeat(RNG.normal(size=20), 5), np.repeat(names(20), 5)
    alone = Bootstrap(names(100)).mean(values)
    together = Bootstrap([*patients]).mean(values)
    assert alone.interval and together.interval
    wider = np.ptp(together.interval) / np.ptp(alone.interval)
    assert wider == pytest.approx(np.sqrt(5), rel=0.15)
    assert Bootstrap(["one"] * 100).mean(values).interval is None
    assert Bootstrap(names(FEWEST - 1)).mean(values[: FEWEST - 1]).interval is None


def test_what_is_nan_does_not_count() -> None:
    values = np.array([1.0, 2.0, np.nan] * 5)
    estimate = Bootstrap(names(15)).mean(values)
    assert estimate.value == 1.5
    assert estimate.interval is not None
    assert isnan(Bootstrap(names(15)).mean(np.full(15, np.nan)).value)
