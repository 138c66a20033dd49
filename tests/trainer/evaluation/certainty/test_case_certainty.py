"""Brier score, calibration error and uncertainty of one case, against values by hand."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from trainer.evaluation.certainty.case_certainty import (
    brier_score,
    certainty,
    entropy,
    expected_calibration_error,
)


def test_brier_is_that_of_sklearn() -> None:
    probability = np.random.default_rng(1).random(500)
    truth = np.random.default_rng(2).random(500) < 0.3
    assert brier_score(probability, truth) == pytest.approx(brier_score_loss(truth, probability))


def test_calibration_error_by_hand() -> None:
    # Bins of 1/15: three voxels at 0.1 of which one is lesion, one at 0.9 that is none, one at 1.
    probability = np.array([0.1, 0.1, 0.1, 0.9, 1.0])
    truth = np.array([True, False, False, False, True])
    by_hand = 3 / 5 * abs(0.1 - 1 / 3) + 1 / 5 * 0.9 + 1 / 5 * 0
    assert expected_calibration_error(probability, truth) == pytest.approx(by_hand)


def test_what_happens_as_often_as_it_is_said_is_calibrated() -> None:
    probability, flips = np.random.default_rng(3).random((2, 20_000))
    assert expected_calibration_error(probability, probability > flips) < 0.02
    assert expected_calibration_error(probability**3, probability > flips) > 0.2


def test_entropy() -> None:
    assert entropy(np.array([0.0, 0.5, 1.0, 0.25])) == pytest.approx([0, 1, 0, 0.811278], abs=1e-6)


def test_only_the_brain_counts() -> None:
    probability = np.array([[[0.5, 0.9, 0.25, 1.0]]], np.float32)
    truth = np.array([[[True, True, False, True]]])
    brain = np.array([[[True, True, True, False]]])
    judged = certainty("a", probability, truth, brain, 0.6)
    assert judged.dice == pytest.approx(2 / 3)
    assert judged.brier == pytest.approx((0.25 + 0.01 + 0.0625) / 3)
    assert judged.uncertainty == pytest.approx(0.468996, abs=1e-6)  # of the 0.9 alone
    nothing = certainty("a", probability, truth, brain, 0.95)
    assert (nothing.dice, nothing.uncertainty) == (0, 1)
