"""The stall rule as a pure state machine: a trial that no longer improves ends."""

import math
from dataclasses import dataclass, field


@dataclass
class _Course:
    """Where one trial stands; larger is better."""

    recent: list[float] = field(default_factory=list)
    best: float = -math.inf
    best_epoch: int = 0


class StallRule:
    """Ends a trial whose smoothed objective has not improved for a while.

    Args:
        patience: Epochs without improvement after which a trial ends.
        min_delta: Smallest rise of the smoothed value over the best so far that is an improvement.
        smoothing: The smoothed value is the mean of this many last values.
        grace_period: Patience begins here at the earliest, as a trial that is still warming up
            cannot improve.
        sign: 1 where larger values are better, else -1.
    """

    def __init__(
        self, *, patience: int, min_delta: float, smoothing: int, grace_period: int, sign: float
    ):
        assert patience >= 1 and min_delta >= 0 and smoothing >= 1 and sign in (1, -1)
        self.patience = patience
        self.min_delta = min_delta
        self.smoothing = smoothing
        self.grace_period = grace_period
        self.sign = sign
        self._courses: dict[int, _Course] = {}

    def report(self, trial: int, epoch: int, value: float) -> str:
        """Take in a finite value and return why the trial is stalled; empty while it is not."""
        course = self._courses.setdefault(trial, _Course())
        course.recent = [*course.recent, self.sign * value][-self.smoothing :]
        smoothed = math.fsum(course.recent) / len(course.recent)
        if smoothed > course.best and smoothed >= course.best + self.min_delta:
            course.best, course.best_epoch = smoothed, epoch
        waited = epoch - max(course.best_epoch, self.grace_period)
        if waited < self.patience:
            return ""
        return (
            f"no improvement of {self.min_delta:g} over {self.sign * course.best:.4g} (epoch "
            f"{course.best_epoch}) within {self.patience} epochs"
        )
