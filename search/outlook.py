"""How long a study still takes: what is left of its epochs, at the pace that was measured."""

from typing import NamedTuple

from search.preview import rung_table
from search.standing import Standing
from search.state import TrialState
from search.study import StudyConfig

PRIOR_TRIALS = 3.0
"""As many trials the simulated chance to get from one rung to the next counts."""


class Outlook(NamedTuple):
    """An estimate. Times are None before anything was measured."""

    epochs: float
    """Expected still."""
    seconds: float | None
    """Until the end, by the plan or by a budget."""
    limit: str
    """The budget that ends it before its plan is done, `gpu_hours` say; empty if none does."""


class Forecast:
    """Estimates the end of a study.

    A trial gets from one rung to the next with the share of trials that did, where those of
    search/preview.py's simulation count as PRIOR_TRIALS at first. So what the simulation does not
    know, such as the stall rule and diverged trials, comes in as it happens. The pace is each
    trial's own, its first epochs, validations and repeated work included, and the mean of all for
    those to come. Carriers are as many as ran at once since the launch began.

    Args:
        study: For the simulation, which takes a tenth of a second.
    """

    def __init__(self, study: StudyConfig):
        self._simulated: list[list[float]] = []
        """For each bracket and rung, the chance to get there from the rung before."""
        before = 0.0
        for rung in rung_table(study):
            if rung.bracket == len(self._simulated):
                self._simulated.append([])
                before = rung.trials
            self._simulated[-1].append(rung.trials / before if before else 0.0)
            before = rung.trials

    def look(self, standing: Standing, now: float) -> Outlook:
        """Return the outlook of a study that is being run.

        Args:
            standing: Where it stands.
            now: Unix seconds.
        """
        study, state = standing.study, standing.state
        zero = study.scheduler.max_t == 0  # then each trial is one validation, counted as an epoch
        live, alone = _carried(standing)
        left = [self._left(standing, trial) + (zero and not trial.reports) for trial in live]
        to_come = [] if alone else self._to_come(standing)
        epochs = sum(left) + sum(to_come)
        done = len(state.reported) if zero else state.meter.epochs
        if not done or not state.meter.carrier_s:
            return Outlook(epochs * (not zero), None, "")
        pace_s = state.meter.carrier_s / done
        jobs_s = [rest * pace_s for rest in to_come]
        for trial, rest in zip(live, left, strict=True):
            own_s = pace_s
            if trial.epoch and not zero:
                own_s = state.meter.by_trial.get(trial.number, 0.0) / trial.epoch
            since_s = max(0.0, now - standing.heard_s.get(trial.number, now))
            jobs_s.append(max(0.0, rest * own_s - min(since_s, own_s)))
        at_once = max(1, standing.at_once)
        seconds, limit = max(sum(jobs_s) / at_once, max(jobs_s, default=0.0)), ""
        if not alone:
            for what, limit_s in self._limits_s(standing, now, at_once, pace_s):
                if limit_s < seconds:
                    seconds, limit = limit_s, what
        return Outlook(epochs * (not zero), seconds, limit)

    def _left(self, standing: Standing, trial: TrialState) -> float:
        """Return the epochs that a trial is expected to train still."""
        rest = trial.goal(standing.study) - trial.epoch
        if trial.protected or trial.segments:
            return rest
        return min(rest, self._expected(standing, standing.rungs.bracket(trial.number), trial))

    def _to_come(self, standing: Standing) -> list[float]:
        """Return the epochs expected of each trial that is not proposed yet."""
        study, state = standing.study, standing.state
        protected = sum(t.protected and t.kind != "confirm" for t in state.trials.values())
        searched = study.trials.num_trials - len(state.searched())
        zero = study.scheduler.max_t == 0
        expected = sum(
            share * self._expected(standing, bracket)
            for bracket, share in enumerate(standing.rungs.shares)
        )
        rests = [float(study.scheduler.max_t)] * (study.num_protected - protected)
        return [rest + zero for rest in rests + [expected] * searched]

    def _expected(self, standing: Standing, bracket: int, trial: TrialState | None = None) -> float:
        """Return the epochs expected of a searched trial, from where it is."""
        rungs, epoch = standing.rungs, trial.epoch if trial else 0
        total, chance, begun = 0.0, 1.0, False
        for level, at in enumerate(rungs.levels[bracket]):
            if at <= epoch:
                continue
            if begun:
                reached, lost = rungs.reached[bracket][level], rungs.lost[bracket][level]
                prior = PRIOR_TRIALS * self._simulated[bracket][level]
                chance *= (reached + prior) / (reached + lost + PRIOR_TRIALS)
            total += chance * (at - epoch)
            epoch, begun = at, True
        return total

    @staticmethod
    def _limits_s(
        standing: Standing, now: float, at_once: int, pace_s: float
    ) -> list[tuple[str, float]]:
        """Return in how many seconds each budget is spent."""
        study = standing.study
        spent = standing.state.meter.spent(study.trials.gpus_per_trial, now)
        seconds_each = {
            "epochs": pace_s / at_once,
            "gpu_hours": 3600 / at_once / (study.trials.gpus_per_trial or 1),
            "wall_hours": 3600.0,
        }
        return [
            (what, max(0.0, limit - spent[what]) * seconds_each[what])
            for what, limit in study.budget.model_dump().items()
            if limit is not None and (what != "gpu_hours" or study.trials.gpus_per_trial)
        ]


def _carried(standing: Standing) -> tuple[list[TrialState], bool]:
    """Return the trials that the newest launch is to end, and whether it proposes none.

    What `resume` and `confirm` ask for is carried alone; a launch of the whole plan begins with
    its oldest trials, so where it has others to carry, one of those has been started.
    """
    state = standing.state
    extra = {trial.number for trial in state.trials.values() if trial.segments or trial.of}
    extra |= {trial.number for trial in state.confirming()}
    alone = bool(standing.started) and standing.started <= extra
    return [trial for trial in state.live() if not alone or trial.number in extra], alone
