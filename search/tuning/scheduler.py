"""Who goes on, behind Ray Tune's TrialScheduler, and the place where the driver writes the ledger.

`on_trial_result` is Tune's one hook that sees a report first and answers with the decision; what
it records is on disk before the decision is acted on. Deaths and ends are recorded here as well.
"""

from collections import deque
from collections.abc import Container
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from search.execution.faults.failures import Cause, fault_of
from search.execution.faults.recovery import Recovery
from search.ledger.case_lists import kept_cases, with_cases
from search.ledger.decisions import decision_events
from search.ledger.events import COUNTED, OF_THE_MACHINE
from search.ledger.hand import ended_by_hand
from search.ledger.session import StudySession
from search.ledger.trial_state import Report, TrialState

MAX_FAILURES = 3
"""A trial has failed when so many of its attempts in a row died by their own fault, without a new
report, over all launches."""
MAX_MACHINE_FAULTS = 8
"""Or so many by what looks like a fault of the machine: with the pauses between them, that is one
of seven minutes, or of this trial's own appetite."""
MAX_FAILED_TRIALS = 3
"""The study is broken when so many trials in a row failed and none has ever reported."""


class Scheduler(TrialScheduler):
    """Ray Tune's scheduler of a study.

    Args:
        session: The study.
        recovery: Is told of deaths, and when and where a trial may start again.
        hung: Names of the attempts that the driver ended since they gave no sign of life.
    """

    def __init__(self, session: StudySession, recovery: Recovery, hung: Container[str] = ()):
        super().__init__()  # type: ignore[no-untyped-call]
        self._session = session
        self._recovery = recovery
        self._hung = hung
        self._waiting: deque[Trial] = deque()

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Record a validation and the decision on it with one fsync, and return the decision."""
        number, epoch, metrics = trial.config["trial"], result["epoch"], dict(result["metrics"])
        session = self._session
        report = Report(epoch, metrics[session.study.objective.metric], metrics)
        where = {key: result[key] for key in ("gpu", "path") if result.get(key)}
        reported = {"event": "reported", "trial": number, "epoch": epoch, "value": report.value,
                    "metrics": metrics, **where}  # fmt: skip
        cases = kept_cases(dict(result.get("cases") or ()))
        self._recovery.reported(number)
        decision = session.pruner.decide(session.state.trials[number], report)
        session.record(
            *with_cases(reported, cases, session.state.case_lists),
            *decision_events(number, report, decision),
        )
        return self.CONTINUE if decision.action == "continue" else self.STOP

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Record how an attempt ended by itself, with a result instead of a validation."""
        number, ending = trial.config["trial"], result.get("ending")
        state = self._session.state.trials[number]
        self._recovery.ended(number)
        why = self._session.why_stopped.get(number)
        if state.ending:  # a decision was carried out; it is recorded already
            return
        about = {"trial": number, "epoch": state.epoch, "reason": result["reason"]}
        if ending == "interrupted" and state.stop_asked:
            self._session.record(ended_by_hand(state))
        elif ending == "interrupted":
            by = {"by": self._session.stopped_by} if self._session.stopped_by else {}
            if why and not self._session.stopping:
                about["reason"] = why
            self._session.record({"event": "interrupted", **about, "cause": "stop", **by})
        else:
            self._session.record({"event": "ended", **about, "ending": ending})

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Record an attempt's death, and its trial's where another attempt makes no sense."""
        number = trial.config["trial"]
        state = self._session.state.trials[number]
        fault = fault_of(trial, hung=trial.trial_id in self._hung)
        fault = self._recovery.told_by_the_kernel(number, fault)
        cause, reason = self._recovery.died(number, fault.cause), fault.reason
        if state.stop_asked:
            self._session.record(ended_by_hand(state))
            return
        about = {"trial": number, "epoch": state.epoch, "reason": reason, "cause": cause}
        mendless = fault.mendless and not self._recovery.has_another_node(number)
        if not (mendless or _was_last(state, cause)):
            again_s = round(self._recovery.pause_s(number), 1)
            pause = {"again_s": again_s} if again_s else {}
            self._session.record({"event": "interrupted", **about, **pause})
            if cause == "data":  # no wait mends that, and every trial would meet it
                self._session.broken, self._session.data_changed = reason, True
            return
        self._session.record({"event": "ended", **about, "ending": "failed"})
        trials = self._session.state.trials.values()
        failed = [t for t in trials if t.ending == "failed"]
        if len(failed) >= MAX_FAILED_TRIALS and not any(t.reports for t in trials):
            self._session.broken = f"{len(failed)} trials failed and none has reported: {reason}"

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Put a new attempt at the end of the queue, and let go of those that have ended."""
        self._waiting.append(trial)
        _forget_ended(tune_controller)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        """Do nothing: an attempt that no longer waits leaves the queue by itself."""

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Return the attempt that has waited longest.

        Without this order Tune gives warm actors to the newest, and a trial that is to be
        continued can wait until the study's end. Scanning all trials would cost more than the rest.
        """
        for trial in self._waiting:
            if trial.status == Trial.PENDING and self._waits_in_vain(trial):
                _give_up(tune_controller, trial)
        while self._waiting and self._waiting[0].status != Trial.PENDING:
            self._waiting.popleft()
        return self._waiting[0] if self._waiting else None

    def _waits_in_vain(self, trial: Trial) -> bool:
        """Return whether an attempt is not to begin: there may never be a place for it.

        The study stops; a person has ended its trial; or the nodes that it could start on are
        gone, and another takes its place.
        """
        return (
            bool(self._session.stopping or self._session.broken)
            or self._session.state.trials[trial.config["trial"]].stop_asked
            or not self._recovery.can_start(trial.config["avoid"])
        )

    def debug_string(self) -> str:
        """Return Tune's status line, which is not shown."""
        return ""

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing: Tune pickles schedulers, and all that this one knows is in the ledger."""
        return {}


def _give_up(tune_controller: Any, trial: Trial) -> None:
    """Let an attempt go that has no process yet.

    Tune's public way, `request_stop_trial`, writes into a list that nothing reads (Ray 2.60).
    """
    trial.init_local_path()  # without a name of it, Tune cannot list its results
    tune_controller.stop_trial(trial)
    if trial in tune_controller._staged_trials:  # else an idle process would keep a place for it
        tune_controller._unstage_trial_with_resources(trial)


def _forget_ended(tune_controller: Any) -> None:
    """Let Tune forget the attempts that have ended.

    It keeps them until the study's end, some 60 KiB each, and goes through all of them at every
    step (Ray 2.60). What is known of them is in the ledger.
    """
    ended = tune_controller._stopped_trials | tune_controller._failed_trials
    if not ended:
        return
    tune_controller._trials[:] = [t for t in tune_controller._trials if t not in ended]
    for kept in ("_stopped_trials", "_failed_trials", "_trials_to_cache"):
        getattr(tune_controller, kept).difference_update(ended)


def _was_last(trial: TrialState, cause: Cause) -> bool:
    """Return whether a trial has failed with a death by this cause."""
    if cause in OF_THE_MACHINE:
        return trial.machine_faults + 1 >= MAX_MACHINE_FAULTS
    return cause in COUNTED and trial.failures + 1 >= MAX_FAILURES
