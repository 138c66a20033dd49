"""Tune's Callback of the driver: what people ask for, hung trials, threshold, pictures."""

import time
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from search.execution.faults.recovery import Recovery
from search.execution.faults.watchdog import Watchdog
from search.execution.image_worker import ImageWorker
from search.ledger.budget import budget_rule
from search.ledger.journal import Event
from search.ledger.session import StudySession
from search.ledger.users import user_name
from search.ledger.waiting import Wait
from search.monitor.console import ProgressDisplay
from search.monitor.space import SpaceWatch
from search.storage.dataset_cache import address_for_all_nodes, open_store
from search.storage.requests import end_by_hand, take_up
from search.study.config import StudyConfig
from search.study.reference import Reference
from search.tuning.checkpoint_keeper import CheckpointKeeper
from search.tuning.leaving import Leaving
from search.tuning.searcher import StudySearcher
from search.tuning.shares import Shares

WHERE_S = 30.0
"""In which a process that has just started says where it is, if it lives."""


COMPUTED = {
    "threshold": "the best threshold",
    "data": "what a perfect model could score",
    "masks": "the score of the masks",
}
"""Beside the trials, by the kind of event that it becomes."""


class DriverCallback(tune.Callback):
    """Looks after a running study: what people ask for, hung trials, the data, pictures, links.

    Args:
        session: The study.
        searcher: Knows which trials have an attempt.
        progress: Where people are told.
        links: Events that another thread wants recorded.
        watchdog: Finds trials that hang.
        recovery: Is told where trials run.
        fits: Returns why trials of a study have no room on the cluster; empty if they have.
        shares: Where others may use the cluster as well.
    """

    PERIOD_S = 0.5

    def __init__(
        self,
        session: StudySession,
        searcher: StudySearcher,
        progress: ProgressDisplay,
        links: "SimpleQueue[Event]",
        watchdog: Watchdog,
        recovery: Recovery,
        fits: Callable[[StudyConfig], str],
        shares: Shares | None,
    ):
        self._session = session
        self._searcher = searcher
        self._progress = progress
        self._links = links
        self._watchdog = watchdog
        self._recovery = recovery
        self._fits = fits
        self._shares = shares
        self._next_s = 0.0
        self._told_to_stop = False
        self._image_worker = ImageWorker(session, progress.print_line)
        self._leaving = Leaving(session, searcher, recovery)
        self._space = SpaceWatch(session.folder)
        self._keeper = CheckpointKeeper(session, searcher.trials_with_attempt, progress.print_line)
        data = session.study.data
        store, fold = address_for_all_nodes(data.store), data.fold
        self._beside = {
            kind: task.remote(store, fold)
            for kind, task in (("threshold", _threshold), ("data", _data))
            if session.study.has_data and getattr(session.state, kind) is None
        }
        # On the driver's node, which is known to see the folder.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        for reference in session.study.mask_references:
            known = session.state.masks.get(reference.name)
            self._beside[f"masks {reference.name}"] = _masks.options(
                scheduling_strategy=here
            ).remote(reference, store, fold, known)

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Record that an attempt has got its process, which idles now and so answers at once."""
        actor = trial.temporary_state.ray_actor
        assert actor is not None
        answer: ray.ObjectRef[dict[str, Any]] = actor.where.remote()
        number = trial.config["trial"]
        try:
            where = ray.get(answer, timeout=WHERE_S)
        except ray.exceptions.RayError:  # its end is told to the scheduler
            where = {"host": "", "node": "", "pid": 0, "cpu": "", "threads": 0, "oom_kills": 0}
        node, oom_kills = where.pop("node"), where.pop("oom_kills")
        self._recovery.started(number, node, where["host"], oom_kills)
        self._session.record(
            {"event": "started", "trial": number, "attempt": trial.config["attempt"], **where}
        )

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Poll twice a second; Tune calls at every turn of its loop."""
        if time.monotonic() >= self._next_s:
            self.poll()
            self._watchdog.check(trials)
            self._next_s = time.monotonic() + self.PERIOD_S

    def poll(self) -> None:
        """Look after all but the trials; while all of them rest, Tune calls no one."""
        while not self._links.empty():
            self._session.record(self._links.get())
        self._collect_beside(wait_s=0)
        self._image_worker.poll()
        self._keeper.poll()
        if self._space.look(self._session.study, self._session.state):
            self._progress.print_line(f"note: {self._space.note}")
        session = self._session
        self._leaving.poll()
        if self._shares:
            self._shares.poll()
        take_up(session, fits=self._fits)
        end_by_hand(session, self._searcher.trials_with_attempt())
        session.stopping = session.stopping or self._why_to_stop()
        if (session.stopping or session.broken) and not self._told_to_stop:
            self._told_to_stop = True
            self._stop_trials()

    def _why_to_stop(self) -> str:
        folder = self._session.folder
        if self._session.asked_to_stop(folder):
            with suppress(FileNotFoundError):
                self._session.stopped_by = user_name((folder / "stop").stat().st_uid)
            return "the stop file"
        if spent := self._session.overspent(self._session.now_s):
            self._session.record(spent)
            return budget_rule(spent)
        return ""

    def _stop_trials(self) -> None:
        trials = self._searcher.trials_with_attempt()
        if self._session.stopping:
            self._progress.print_line(
                f"stopping ({self._session.stopping}): {len(trials)} trials write their "
                "checkpoints; a second signal ends at once"
            )
        for number in trials:
            self._session.ask_to_stop(number)

    def _collect_beside(self, wait_s: float) -> None:
        """Record what was computed beside the trials."""
        if not self._beside:
            return
        done, _ = ray.wait([*self._beside.values()], timeout=wait_s)
        for what in [what for what, task in self._beside.items() if task in done]:
            kind = what.partition(" ")[0]
            try:
                found: dict[str, Any] = ray.get(self._beside.pop(what))
                if found:
                    self._session.record({"event": kind, **found})
            except ray.exceptions.RayError as error:
                reason = str(getattr(error, "cause", error)).splitlines()[-1]
                self._progress.print_line(f"{_what(what)} could not be computed: {reason}")

    def finish(self) -> None:
        """Wait for what is computed beside, unless the study is being stopped; record the rest."""
        self.poll()
        waits = Wait(lambda why: self._progress.print_line(f"waits: {why}"))
        while self._beside and not self._told_to_stop:
            said = ", ".join(_what(each) for each in self._beside)
            waits.on(f"for what is computed beside the trials: {said}")
            self._collect_beside(wait_s=self.PERIOD_S)
            self.poll()
        if self._shares:
            self._shares.leave()
        if self._told_to_stop:
            self._image_worker.close()
        else:
            self._image_worker.finish()
            self._keeper.finish()

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing: Tune pickles callbacks, and this one's copy is never used."""
        return {}


def _what(beside: str) -> str:
    """Return in words what is computed beside the trials."""
    kind, _, name = beside.partition(" ")
    return COMPUTED[kind] + f" {name}" * bool(name)


@ray.remote(num_cpus=0)
def _threshold(store: str, fold: int) -> dict[str, Any]:
    """Compute the best threshold beside the trials: in the driver it would delay their reports."""
    from trainer.evaluation.threshold_baseline import best_threshold

    return best_threshold(open_store(store), fold)


@ray.remote(num_cpus=0)
def _data(store: str, fold: int) -> dict[str, Any]:
    from search.storage.data_facts import data_facts

    return data_facts(store, fold)


@ray.remote(num_cpus=0)
def _masks(reference: Reference, store: str, fold: int, known: Event | None) -> dict[str, Any]:
    from search.storage.mask_scores import scored

    return scored(reference, store, fold, known)
