"""The rungs of a study, and how many of its trials are expected to reach each."""

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from search.pruning.asha import Asha
from search.study.config import StudyConfig

SIMULATED_TRIALS = 3000
"""Over which expectations are averaged; enough for about 2 %, and a tenth of a second."""


def rungs_of(study: StudyConfig) -> list[list[int]]:
    """Return the epochs of each bracket's rungs, below max_t."""
    return study.asha().rungs


@dataclass(frozen=True)
class Rung:
    """A row of the rung table."""

    bracket: int
    epoch: int
    trials: float
    """Searched trials expected to reach it, on average."""
    images: int | None
    """Training images of one trial up to here; None where segtune does not train it."""


def rung_table(study: StudyConfig) -> list[Rung]:
    """Return the rungs of each bracket, and max_t as the last row of each.

    What to expect is found by letting the study's own ASHA judge trials of random, lasting quality
    that arrive one by one. More pass than one in reduction_factor: the first at a rung always
    does, and those that arrive late at a high rung have been selected more sharply.
    """
    blank, epoch_images = study.asha().snapshot(), study.epoch_images
    draw, num_trials = random.Random(0), study.trials.num_trials
    repeats = -(-SIMULATED_TRIALS // num_trials)
    reached: Counter[tuple[int, int]] = Counter()
    for repeat in range(repeats):
        asha = Asha.restore(blank)
        for trial in range(repeat * num_trials, (repeat + 1) * num_trials):
            bracket, quality = asha.add(trial), draw.random()
            for epoch in [*asha.rungs[bracket], study.scheduler.max_t]:
                reached[bracket, epoch] += 1
                if asha.report(trial, epoch, quality).action != "continue":
                    break
    return [
        Rung(
            bracket, epoch, reached[bracket, epoch] / repeats, epoch_images and epoch * epoch_images
        )
        for bracket, levels in enumerate(Asha.restore(blank).rungs)
        for epoch in [*levels, study.scheduler.max_t]
    ]


def expected_epochs(rungs: Iterable[Rung]) -> float:
    """Return the epochs that the searched trials of a rung table train together."""
    epochs, before = 0.0, Rung(-1, 0, 0, 0)
    for rung in rungs:
        since = before.epoch if rung.bracket == before.bracket else 0
        epochs += rung.trials * (rung.epoch - since)
        before = rung
    return epochs
