"""Thresholds: no case chooses its own, and what is counted is what is scored."""

from pathlib import Path

import numpy as np
import pytest

from trainer.configfile import ConfigError
from trainer.evaluation.metrics import score_case
from trainer.evaluation.threshold_calibration import (
    CANDIDATES,
    best_threshold,
    cross_fit,
    dice_by_threshold,
)
from trainer.saved.frozen_threshold import FrozenThreshold


def test_dice_by_threshold_is_that_of_score_case() -> None:
    rng = np.random.default_rng(0)
    # Many values lie exactly on a candidate.
    probability = (rng.integers(0, 41, (9, 8, 7)) / 40).astype(np.float32)
    truth, brain = probability + rng.normal(0, 0.3, (9, 8, 7)) > 0.8, rng.random((9, 8, 7)) > 0.3
    found = dice_by_threshold(probability, truth, brain)
    for threshold, dice in zip(CANDIDATES, found, strict=True):
        score = score_case("a", truth, probability >= threshold, brain, (1, 1, 1))
        assert dice == pytest.approx(score.dice)
    nothing = np.zeros_like(truth)
    empty = dice_by_threshold(probability / 2, nothing, brain)
    assert empty[CANDIDATES.index(0.45)] == 0
    assert empty[CANDIDATES.index(0.55)] == 1


def peaked(at: list[float]) -> np.ndarray:
    """Dice by case with its peak at the given thresholds."""
    return 0.8 - np.abs(np.array(CANDIDATES)[None] - np.array(at)[:, None])


def test_each_case_is_scored_at_the_best_threshold_of_the_others() -> None:
    dice, lesion = peaked([0.2, 0.3, 0.7, 0.9]), [True, True, True, False]
    found = cross_fit(dice, lesion)
    for case in range(4):
        others = [i for i in range(3) if i != case]
        sums = [sum(dice[i, c] for i in others) for c in range(19)]
        assert sum(dice[i, CANDIDATES.index(found[case])] for i in others) == pytest.approx(
            max(sums)
        )
    # The median of the three with lesion; of the whole range between two, the nearest to 0.5.
    assert found == [0.5, 0.5, 0.3, 0.3]
    # What a case itself would like changes nothing for it.
    dice[0] = peaked([0.95])[0]
    assert cross_fit(dice, lesion)[0] == found[0]


def test_equals_stay_near_a_half_and_nobody_says_a_half() -> None:
    assert best_threshold(np.ones((3, 19))) == 0.5
    assert best_threshold(np.ones((0, 19))) == 0.5
    assert cross_fit(peaked([0.2]), [True]) == [0.5]


def test_a_frozen_threshold_comes_back(tmp_path: Path) -> None:
    assert FrozenThreshold.load(tmp_path) is None
    frozen = FrozenThreshold(0.35, 0.4, 12, "abc", {"method": "ddim"})
    frozen.save(tmp_path)
    assert FrozenThreshold.load(tmp_path) == frozen
    (tmp_path / "threshold.json").write_text("{")
    with pytest.raises(ConfigError, match="damaged"):
        FrozenThreshold.load(tmp_path)
