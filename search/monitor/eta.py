"""How long a study still takes: what is left of its epochs, at the pace that was measured."""

from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

from search.ledger.budget import overspent
from search.ledger.state import StudyState
from search.ledger.trial_state import TrialState
from search.monitor.snapshot import StudySnapshot
from search.study.config import StudyConfig
from search.study.rungs import rung_table

PRIOR_TRIALS = 3.0
"""As many trials that get on count the assumption that none stalls or fails between two rungs."""


class Estimate(NamedTuple):
    """An estimate. Times are None before anything was measured."""

    epochs: float
    """Expected still."""
    seconds: float | None
    """Until the end, by the plan or by a budget."""
    limit: str
    """The budget that ends it before its plan is done, `gpu_hours` say; empty if none does."""


class Forecast:
    """Estimates the end of a study.

    How many trials to come pass a rung is what the dry run's simulation expects of the
    later ones in a study; how many get from there to the next, and do not stall or fail, is what
    was seen. The pace is each trial's own, its validations and repeated work included, or that of
    the trial that it confirms, and the mean of those searched for those to come. As many trials run
    at once as did since the newest launch started one.

    Args:
        study: For the simulation, which takes a twentieth of a second for each quarter of it.
    """

    def __init__(self, study: StudyConfig):
        self._study = study
        self._simulated: dict[int, list[list[float]]] = {0: []}
        """By the number of searched trials; then by bracket and rung, how many reach it."""

    def _expected_of(self, num_trials: int) -> list[list[float]]:
        """Return how many of a study's first trials reach each rung of each bracket."""
        if num_trials not in self._simulated:
            trials = self._study.trials.model_copy(update={"num_trials": num_trials})
            table: list[list[float]] = []
            for rung in rung_table(self._study.model_copy(update={"trials": trials})):
                table += [[]] * (rung.bracket == len(table))
                table[-1] = [*table[-1], rung.trials]
            self._simulated[num_trials] = table
        return self._simulated[num_trials]

    def _passes(self, snapshot: StudySnapshot) -> list[list[float]]:
        """Return for each bracket and rung the chance to pass the rung before it, from now on.

        From now on: among the trials after the last full quarter, few of which are the first at a
        rung, which always pass.
        """
        num_trials = snapshot.state.num_trials(snapshot.study)
        begun = num_trials * min(3, 4 * len(snapshot.state.searched()) // num_trials) // 4
        before, after = self._expected_of(begun), self._expected_of(num_trials)
        passes = []
        for bracket, levels in enumerate(after):
            late = (
                [a - b for a, b in zip(levels, before[bracket], strict=True)] if begun else levels
            )
            shares = [b / a if a > 0 else 1.0 for a, b in pairwise(late)]
            passes.append([1.0, *(min(1.0, max(0.0, share)) for share in shares)])
        return passes

    def estimate(self, snapshot: StudySnapshot, now: float) -> Estimate:
        """Return the estimate for a study that is being run.

        Args:
            snapshot: Where it stands.
            now: Unix seconds.
        """
        study, state = snapshot.study, snapshot.state
        zero = not study.trains  # then each trial is one validation, counted as an epoch
        live, alone = _unfinished(snapshot)
        passes = self._passes(snapshot)
        left = [_left(snapshot, trial, passes) + (zero and not trial.reports) for trial in live]
        to_come = [] if alone else _to_come(snapshot, passes)
        epochs = sum(left) + sum(to_come)
        # The control may be several times as fast as what is searched.
        pace_s = _pace_s(snapshot, state.searched()) or _pace_s(snapshot, state.trials.values())
        if not pace_s:
            return Estimate(epochs * (not zero), None, "")
        jobs_s = [rest * pace_s for rest in to_come]
        for trial, rest in zip(live, left, strict=True):
            own_s = _pace_s(snapshot, _alike(state, trial)) or pace_s
            since_s = max(0.0, now - snapshot.last_report_s.get(trial.number, now))
            jobs_s.append(max(0.0, rest * own_s - min(since_s, own_s)))
        at_once = max(1, min(snapshot.at_once, study.trials.max_concurrent or snapshot.at_once))
        seconds, limit = max(sum(jobs_s) / at_once, max(jobs_s, default=0.0)), ""
        if not alone:
            for what, limit_s in _limits_s(snapshot, now, at_once, pace_s):
                if limit_s < seconds:
                    seconds, limit = limit_s, what
        return Estimate(epochs * (not zero), seconds, limit)


def _pace_s(snapshot: StudySnapshot, trials: Iterable[TrialState]) -> float:
    """Return the seconds that an epoch of some trials took on average, 0 before the first."""
    seconds = snapshot.state.meter.by_trial
    begun = [trial for trial in trials if trial.reports]
    epochs = sum(trial.epoch or 1 for trial in begun)  # a validation alone counts as one
    return sum(seconds.get(trial.number, 0.0) for trial in begun) / epochs if epochs else 0.0


def _alike(state: StudyState, trial: TrialState) -> list[TrialState]:
    """Return whose epochs take as long as a trial's: its own, or those of the one it confirms."""
    return [trial] if trial.reports or trial.of is None else [state.trials[trial.of]]


def _left(snapshot: StudySnapshot, trial: TrialState, passes: list[list[float]]) -> float:
    """Return the epochs that a trial is expected to train still."""
    rest = trial.goal(snapshot.study) - trial.epoch
    if trial.protected or trial.segments:
        return rest
    return min(rest, _expected(snapshot, passes, snapshot.rungs.bracket(trial.number), trial.epoch))


def _to_come(snapshot: StudySnapshot, passes: list[list[float]]) -> list[float]:
    """Return the epochs expected of each trial that is not proposed yet."""
    study, state = snapshot.study, snapshot.state
    protected, searched = state.num_protected_to_come(study), state.num_searched_to_come(study)
    zero = not study.trains
    expected = sum(
        share * _expected(snapshot, passes, bracket, 0)
        for bracket, share in enumerate(snapshot.rungs.shares)
    )
    rests = [float(study.scheduler.max_t)] * protected
    return [rest + zero for rest in rests + [expected] * searched]


def _expected(
    snapshot: StudySnapshot, passes: list[list[float]], bracket: int, epoch: int
) -> float:
    """Return the epochs expected of a searched trial after an epoch."""
    rungs, total, chance, begun = snapshot.rungs, 0.0, 1.0, False
    for level, at in enumerate(rungs.levels[bracket]):
        if at <= epoch:
            continue
        if begun:
            reached, lost = rungs.reached[bracket], rungs.lost[bracket][level]
            stopped = reached[level - 1] - rungs.went_on[bracket][level - 1]
            got_on = reached[level] + PRIOR_TRIALS
            chance *= passes[bracket][level] * got_on / (got_on + max(0, lost - stopped))
        total += chance * (at - epoch)
        epoch, begun = at, True
    return total


def _limits_s(
    snapshot: StudySnapshot, now: float, at_once: int, pace_s: float
) -> list[tuple[str, float]]:
    """Return in how many seconds each budget is spent."""
    study = snapshot.study
    spent = snapshot.state.meter.spent(study.trials, now)
    seconds_each = {
        "epochs": pace_s / at_once,
        "gpu_hours": 3600 / at_once / (study.trials.gpus or 1),
        "wall_hours": 3600.0,
    }
    return [
        (what, max(0.0, limit - spent[what]) * seconds_each[what])
        for what, limit in study.budget.model_dump().items()
        if limit is not None and (what != "gpu_hours" or study.trials.gpus)
    ]


def _unfinished(snapshot: StudySnapshot) -> tuple[list[TrialState], bool]:
    """Return the trials that the newest launch is to end, and whether it proposes none.

    What `resume` and `confirm` ask for runs alone, whatever the plan lacks and no matter which
    budget is spent. A launch of the whole plan begins with its oldest trials, so where it has
    others to run, one of those has been started; before anything has, what this launch asked for
    tells, or that the plan has nothing left or no budget to run.
    """
    study, state = snapshot.study, snapshot.state
    extra = {t.number for t in state.trials.values() if t.segments or t.kind == "confirm"}
    if snapshot.started:
        alone = snapshot.started <= extra
    else:
        waits = any(trial.number in extra for trial in state.live())
        others = any(trial.number not in extra for trial in state.live())
        planned = state.planned(study) and not others
        over = planned or overspent(study, state.meter) is not None
        alone = snapshot.asks_for_more or (waits and over)
    return [trial for trial in state.live() if not alone or trial.number in extra], alone
