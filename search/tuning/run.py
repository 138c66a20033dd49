"""One run of Ray Tune over a study: start Ray, carry the trials, and leave nothing behind.

Import it after `search.workflows.launch.before_ray`: Ray reads its switches when it is imported.
"""

import gc
import logging
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import ray
from ray import tune
from ray.tune.execution import class_cache
from ray.tune.experiment import Trial

from search.execution.capacity import Slots
from search.execution.image_worker import Painter
from search.execution.preflight import check_shared
from search.execution.trainable import Trainable
from search.execution.watchdog import Silence
from search.ledger.budget import budget_rule
from search.ledger.journal import Event
from search.ledger.session import LiveStudy
from search.monitor.console import Progress
from search.sampler.sampler import Sampler
from search.storage.dataset_cache import open_store, seen_from_all
from search.tuning.scheduler import Scheduler
from search.tuning.searcher import Proposer

# Tune would hand the driver's AWS keys on in a runtime environment, which Ray writes to its logs.
class_cache.ENV_VARS_TO_PROPAGATE.difference_update(
    [name for name in class_cache.ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")]
)

SLOTS_WAIT_S = 60.0
"""In which the nodes of a cluster join whose head was started again."""


def carry_out(
    live: LiveStudy, progress: Progress, links: "SimpleQueue[Event]", *, address: str, fit: str
) -> None:
    """Run a study's trials until all have ended, or until it is told to stop.

    Args:
        live: The study.
        progress: Where people are told.
        links: Events that another thread wants recorded.
        address: A Ray cluster, or "local" to start one on this machine.
        fit: `module:function` with the contract of `trainer.loop.fit`.

    Raises:
        ValueError: Ray cannot be reached, or no node has what one trial needs.
        OSError: The ledger cannot be written.
    """
    with ray_session(address):
        slots = Slots(live.study.trials.cpus_per_trial, live.study.trials.gpus_per_trial)
        # Trials that were carried once fit on nodes which may have yet to join again.
        again = live.state.trials and address != "local"
        slots.check(wait_s=SLOTS_WAIT_S if again else 0, say=progress.say)
        if address != "local":
            check_shared(live.folder, live.study.data.store)
        sampler = Sampler(live.study)
        for event in live.ledger.events:
            sampler.hear(event)
        live.listeners.insert(0, sampler.hear)
        proposer = Proposer(live, sampler, slots.count, fit)
        silence = Silence(live)
        attendant = Attendant(live, proposer, progress, links, silence)
        with _signals(live), tempfile.TemporaryDirectory(prefix="segtune-") as scratch:
            _fit(live, Scheduler(live, silence.ended), proposer, attendant, scratch)
            attendant.finish()


def _fit(
    live: LiveStudy, scheduler: Scheduler, proposer: Proposer, attendant: "Attendant", scratch: str
) -> None:
    """Call Tune. The files it writes are of no use to us and go to a folder that is deleted."""
    tuner = tune.Tuner(
        Trainable,
        # No metric anywhere: a report without it would abort everything.
        tune_config=tune.TuneConfig(
            search_alg=proposer,
            scheduler=scheduler,
            num_samples=-1,
            reuse_actors=True,
            trial_name_creator=lambda trial: f"trial_{trial.config['trial']:04d}",
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=scratch,
            callbacks=[attendant],
            failure_config=tune.FailureConfig(max_failures=0),
            checkpoint_config=tune.CheckpointConfig(
                checkpoint_at_end=False, checkpoint_frequency=0
            ),
            verbose=0,
        ),
    )
    try:
        tuner.fit()
    except Exception:
        if live.error:  # Tune has it as text only
            raise live.error from None
        raise


class Attendant(tune.Callback):
    """Looks after a running study: the stop file, hung trials, threshold, pictures, links.

    Args:
        live: The study.
        proposer: Knows which trials have a carrier.
        progress: Where people are told.
        links: Events that another thread wants recorded.
        silence: Finds trials that hang.
    """

    PERIOD_S = 0.5

    def __init__(
        self,
        live: LiveStudy,
        proposer: Proposer,
        progress: Progress,
        links: "SimpleQueue[Event]",
        silence: Silence,
    ):
        self._live = live
        self._proposer = proposer
        self._progress = progress
        self._links = links
        self._silence = silence
        self._next_s = 0.0
        self._told_to_stop = False
        self._painter = Painter(live, progress.say)
        store, fold = seen_from_all(live.study.data.store), live.study.data.fold
        self._threshold = None if live.state.threshold else _threshold.remote(store, fold)

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Record that a carrier has its process, which idles now and so answers at once."""
        where = ray.get(trial.temporary_state.ray_actor.where.remote())
        about = {"trial": trial.config["trial"], "attempt": trial.config["attempt"]}
        self._live.record({"event": "started", **about, **where})

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Look around twice a second; Tune calls at every turn of its loop."""
        if time.monotonic() >= self._next_s:
            self._look_around()
            self._silence.look(trials)
            self._next_s = time.monotonic() + self.PERIOD_S

    def _look_around(self) -> None:
        while not self._links.empty():
            self._live.record(self._links.get())
        self._collect_threshold(wait_s=0)
        self._painter.look()
        live = self._live
        live.stopping = live.stopping or self._why_to_stop()
        if (live.stopping or live.broken) and not self._told_to_stop:
            self._told_to_stop = True
            self._stop_trials()

    def _why_to_stop(self) -> str:
        if (self._live.folder / "stop").exists():
            return "the stop file"
        if spent := self._live.overspent(now=time.time()):
            self._live.record(spent)
            return budget_rule(spent)
        return ""

    def _stop_trials(self) -> None:
        carried = self._proposer.carried()
        if self._live.stopping:
            self._progress.say(
                f"stopping ({self._live.stopping}): {len(carried)} trials write their checkpoints; "
                "a second signal ends at once"
            )
        for number in carried:
            run_dir = self._live.trial_dir(number)
            run_dir.mkdir(parents=True, exist_ok=True)
            (run_dir / "stop").touch()

    def _collect_threshold(self, wait_s: float) -> None:
        if self._threshold is None:
            return
        done, _ = ray.wait([self._threshold], timeout=wait_s)
        if not done:
            return
        task, self._threshold = self._threshold, None
        try:
            self._live.record({"event": "threshold", **ray.get(task)})
        except ray.exceptions.RayError as error:
            reason = str(getattr(error, "cause", error)).splitlines()[-1]
            self._progress.say(f"the best threshold could not be computed: {reason}")

    def finish(self) -> None:
        """Wait for threshold and pictures, unless the study is being stopped; record the rest."""
        self._look_around()
        while self._threshold is not None and not self._told_to_stop:
            self._collect_threshold(wait_s=self.PERIOD_S)
            self._look_around()
        if self._told_to_stop:
            self._painter.close()
        else:
            self._painter.finish()

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing: Tune pickles callbacks, and this one's copy is never used."""
        return {}


@ray.remote(num_cpus=0)
def _threshold(store: str, fold: int) -> dict[str, Any]:
    """Compute the best threshold beside the trials: in the driver it would delay their reports."""
    from trainer.evaluation.threshold_baseline import best_threshold

    return best_threshold(open_store(store), fold)


@contextmanager
def ray_session(address: str) -> Iterator[None]:
    """Start or join Ray, quietly, and leave it; one that was started here ends here."""
    local: dict[str, Any] = {"num_cpus": os.cpu_count(), "include_dashboard": False}
    # Ray's daemons inherit the mask. Else a SIGTERM to the process group would end them first.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            **(local if address == "local" else {}),
        )
    except ConnectionError as error:
        raise ValueError(f"--address {address}: no Ray cluster answers there") from error
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    for name in ("ray", "ray.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        # Ray ends the whole process, status 1, if another thread (MLflow's) happens to collect an
        # old reference to one of its objects while it shuts down.
        gc.collect()
        gc.disable()
        try:
            ray.shutdown()
        finally:
            gc.enable()


@contextmanager
def _signals(live: LiveStudy) -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into a request to stop; a second acts as before."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask_to_stop(number: int, frame: Any) -> None:
        live.stopping = live.stopping or signal.Signals(number).name
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, ask_to_stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
