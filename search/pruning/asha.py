"""Asynchronous successive halving (ASHA) as a pure state machine: reports in, decisions out.

Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning" (arXiv 1810.05934), in the
stopping variant that Ray Tune has: a trial above the cutoff of those before it goes on at once,
any other is stopped for good. Knows neither Ray nor a clock nor global randomness, so that a study
continued from its ledger decides as the uninterrupted one would have.
"""

import math
import random
from bisect import insort
from dataclasses import dataclass
from typing import Any, Literal, Self

Action = Literal["continue", "stop", "stall", "complete"]


@dataclass(frozen=True)
class Decision:
    """What becomes of a trial after a report."""

    action: Action
    """stop: judged not worth going on. stall: it no longer improves (search/pruning/stall.py).
    complete: it reached max_t."""
    reason: str = ""
    """For people; empty when no rung was reached."""
    rung: int | None = None
    """Epoch of the highest rung this report was judged at, None if at none."""


@dataclass
class _Progress:
    """Where one live trial stands."""

    bracket: int
    next_rung: int
    recent: list[float]
    """Its last values, at most `smoothing`, larger is better."""


def rung_levels(
    *, grace_period: int, max_t: int, reduction_factor: int, bracket: int, validate_every: int
) -> list[int]:
    """Return the epochs at which a bracket judges: grace_period * reduction_factor**(k + bracket).

    By multiplication, since int(log(1000) / log(10)) is 2. Each is rounded up to an epoch that is
    validated, and lies below max_t, where every trial ends anyway.
    """
    levels: list[int] = []
    level = grace_period * reduction_factor**bracket
    while (rung := -(-level // validate_every) * validate_every) < max_t:
        if rung not in levels:
            levels.append(rung)
        level *= reduction_factor
    return levels


def bracket_shares(rungs: list[list[int]]) -> list[float]:
    """Return the share of the trials that each bracket receives: a softmax of its rungs' number."""
    weights = [math.exp(len(levels)) for levels in rungs]
    return [weight / sum(weights) for weight in weights]


class Asha:
    """The rungs of a study and what was recorded in them.

    Args:
        grace_period: Epoch of the first rung; no trial is stopped before it.
        max_t: Epoch at which a trial is complete.
        reduction_factor: One in this many passes a rung; an integer of at least 2.
        brackets: Ladders of rungs; bracket s begins at grace_period * reduction_factor**s.
        smoothing: A trial is ranked by the mean of this many last values.
        mode: Whether larger ("max") or smaller ("min") values are better.
        seed: Decides, with a trial's number, its bracket.
        validate_every: Epochs between reports.
    """

    def __init__(
        self,
        *,
        grace_period: int,
        max_t: int,
        reduction_factor: int,
        brackets: int,
        smoothing: int,
        mode: Literal["min", "max"],
        seed: int,
        validate_every: int,
    ):
        assert grace_period >= 1 and max_t >= 0 and reduction_factor >= 2
        assert brackets >= 1 and smoothing >= 1 and validate_every >= 1 and mode in ("min", "max")
        self._settings = {
            "grace_period": grace_period,
            "max_t": max_t,
            "reduction_factor": reduction_factor,
            "brackets": brackets,
            "smoothing": smoothing,
            "mode": mode,
            "seed": seed,
            "validate_every": validate_every,
        }
        self.max_t = max_t
        self.reduction_factor = reduction_factor
        self.smoothing = smoothing
        self.sign = 1.0 if mode == "max" else -1.0
        self.seed = seed
        self.rungs = [
            rung_levels(
                grace_period=grace_period,
                max_t=max_t,
                reduction_factor=reduction_factor,
                bracket=bracket,
                validate_every=validate_every,
            )
            for bracket in range(brackets)
        ]
        self._results: list[list[list[float]]] = [[[] for _ in levels] for levels in self.rungs]
        self._trials: dict[int, _Progress] = {}

    def add(self, trial: int) -> int:
        """Enter a trial and return its bracket, which depends on (seed, trial) alone."""
        draw = random.Random(f"bracket/{self.seed}/{trial}")
        [bracket] = draw.choices(range(len(self.rungs)), bracket_shares(self.rungs))
        self._trials.setdefault(trial, _Progress(bracket, next_rung=0, recent=[]))
        return bracket

    def report(self, trial: int, epoch: int, value: float) -> Decision:
        """Judge a trial by its value at an epoch.

        Every rung that was reached since the last report is walked upwards. The cutoff is that of
        the results recorded before this one; the first trial at a rung passes. After "stop" and
        "complete" the trial is forgotten, its results stay. A value that is not finite stops.
        """
        progress = self._trials[trial]
        decision = self.report_protected(epoch, value, self.max_t)
        if decision.action == "continue":
            progress.recent = [*progress.recent, self.sign * value][-self.smoothing :]
            decision = self._walk(progress, epoch)
        if decision.action != "continue":
            self.forget(trial)
        return decision

    def forget(self, trial: int) -> None:
        """Drop a trial that has ended; what it recorded in the rungs stays."""
        self._trials.pop(trial, None)

    @staticmethod
    def report_protected(epoch: int, value: float, max_t: int) -> Decision:
        """Judge a trial outside the rungs: it runs to max_t unless its value is not finite."""
        if not math.isfinite(value):
            return Decision("stop", f"epoch {epoch}: value is {value}")
        if epoch >= max_t:
            return Decision("complete", f"epoch {epoch} is its last")
        return Decision("continue")

    def _walk(self, progress: _Progress, epoch: int) -> Decision:
        rank = math.fsum(progress.recent) / len(progress.recent)
        levels = self.rungs[progress.bracket]
        decision = Decision("continue")
        while progress.next_rung < len(levels) and levels[progress.next_rung] <= epoch:
            rung = levels[progress.next_rung]
            results = self._results[progress.bracket][progress.next_rung]
            cutoff, before = _cutoff(results, self.reduction_factor), len(results)
            insort(results, rank)
            progress.next_rung += 1
            stops = rank < cutoff
            better = "above" if stops == (self.sign < 0) else "below"
            reason = f"rung {rung}: {self.sign * rank:.4g} "
            if not before:
                reason += "is the first"
            elif rank == cutoff:
                reason += f"equals the cutoff of {before}"
            else:
                reason += f"{better} cutoff {self.sign * cutoff:.4g} of {before}"
            if stops:
                return Decision("stop", reason, rung)
            decision = Decision("continue", reason, rung)
        return decision

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as JSON values."""
        return {
            "settings": dict(self._settings),
            "results": [[list(results) for results in bracket] for bracket in self._results],
            "trials": {
                str(trial): [progress.bracket, progress.next_rung, list(progress.recent)]
                for trial, progress in self._trials.items()
            },
        }

    @classmethod
    def restore(cls, snapshot: dict[str, Any]) -> Self:
        """Rebuild from `snapshot`, also after a passage through JSON."""
        asha = cls(**snapshot["settings"])
        asha._results = [[list(results) for results in bracket] for bracket in snapshot["results"]]
        asha._trials = {
            int(trial): _Progress(bracket, next_rung, list(recent))
            for trial, (bracket, next_rung, recent) in snapshot["trials"].items()
        }
        return asha


def _cutoff(results: list[float], reduction_factor: int) -> float:
    """Return the (1 - 1/reduction_factor) percentile of ascending results, -inf if there are none.

    numpy's linear interpolation with the position in integers: in floats (n - 1) * (1 - 1/3) can
    exceed the integer it should be, and a trial equal to the cutoff would be stopped.
    """
    if not results:
        return -math.inf
    below, part = divmod((len(results) - 1) * (reduction_factor - 1), reduction_factor)
    if part == 0:
        return results[below]
    return results[below] + (results[below + 1] - results[below]) * part / reduction_factor
