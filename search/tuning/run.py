"""One run of Ray Tune over a study: start Ray, run the trials, and leave nothing behind.

Import it after `search.execution.session.before_ray`: Ray reads its switches when it is imported.
"""

import signal
import tempfile
from queue import SimpleQueue
from typing import Any

from ray import tune
from ray.tune.execution import class_cache
from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback

from search.execution.capacity import Slots
from search.execution.faults.recovery import Recovery
from search.execution.faults.watchdog import Watchdog
from search.execution.gpus import check_gpus, gpus_of_ray
from search.execution.preflight import check_shared
from search.execution.session import ray_session
from search.execution.trainable import Trainable
from search.ledger.events import lasting
from search.ledger.journal import Event
from search.ledger.session import StudySession
from search.monitor.console import ProgressDisplay
from search.sampler.sampler import Sampler
from search.study.config import StudyConfig
from search.tuning.driver_callback import DriverCallback
from search.tuning.scheduler import Scheduler
from search.tuning.searcher import StudySearcher
from search.tuning.shares import Shares
from trainer.training.stop_signals import stop_signals

# Tune would hand the driver's AWS keys on in a runtime environment, which Ray writes to its logs.
class_cache.ENV_VARS_TO_PROPAGATE.difference_update(
    [name for name in class_cache.ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")]
)

TRAINER = "trainer.loop:fit"
"""What trains by default, with torch; what another `fit` computes on is its own affair."""
SLOTS_WAIT_S = 60.0
"""In which the nodes of a cluster join whose head was started again."""


def run_trials(
    session: StudySession,
    progress: ProgressDisplay,
    links: "SimpleQueue[Event]",
    *,
    address: str,
    fit: str,
) -> None:
    """Run a study's trials until all have ended, or until it is told to stop.

    Args:
        session: The study.
        progress: Where people are told.
        links: Events that another thread wants recorded.
        address: A Ray cluster, or "local" to start one on this machine.
        fit: `module:function` with the contract of `trainer.loop.fit`.

    Raises:
        ValueError: Ray cannot be reached, no node has what one trial needs, or torch cannot use
            the GPUs.
        OSError: The ledger cannot be written.
    """
    with ray_session(address):
        gpus = session.study.trials.gpus
        slots = Slots(session.study.trials.cpus_per_trial, gpus)
        if not gpus and (there := gpus_of_ray()):
            progress.print_line(
                f"note: the trials use none of Ray's {there:g} GPUs (trials.gpus_per_trial 0); "
                "those of a new study do with 1, or auto"
            )
        # Trials that ran once fit on nodes which may have yet to join again.
        again = session.state.trials and address != "local"
        slots.check(wait_s=SLOTS_WAIT_S if again else 0, say=progress.print_line)
        if gpus and fit == TRAINER and session.study.trainer is None:
            check_gpus(gpus, address)
        if address != "local":
            check_shared(session.folder, session.study)
        before = [*session.listeners]
        sampler = Sampler(session.study)
        for event in lasting(session.ledger.events):
            sampler.observe(event)
        session.listeners.insert(0, sampler.observe)
        recovery = Recovery(slots.by_node, progress.print_line)
        searcher = StudySearcher(session, sampler, slots.count, recovery, fit)
        watchdog = Watchdog(session)

        def fits(study: StudyConfig) -> str:
            return slots.problem(study.trials.cpus_per_trial, study.trials.gpus)

        def follow(event: Event) -> None:
            if event["event"] == "study":
                slots.resize(session.study.trials.cpus_per_trial, session.study.trials.gpus)

        session.listeners.append(follow)
        shares = Shares(session, searcher, slots) if address != "local" else None
        callback = DriverCallback(
            session, searcher, progress, links, watchdog, recovery, fits, shares
        )
        searcher.meanwhile = callback.poll
        scheduler = Scheduler(session, recovery, watchdog.ended)

        def ask_to_stop(number: signal.Signals) -> None:
            session.stopping = session.stopping or number.name

        with stop_signals(ask_to_stop), tempfile.TemporaryDirectory(prefix="segtune-") as scratch:
            _fit(session, scheduler, searcher, callback, scratch)
            callback.finish()
        session.listeners[:] = before  # trials that are asked for afterwards have their own


def _fit(
    session: StudySession,
    scheduler: Scheduler,
    searcher: StudySearcher,
    callback: "DriverCallback",
    scratch: str,
) -> None:
    """Call Tune. The files it writes are of no use to us and go to a folder that is deleted."""
    tuner = tune.Tuner(
        Trainable,
        # No metric anywhere: a report without it would abort everything.
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=-1,
            reuse_actors=True,
            trial_name_creator=lambda trial: f"trial_{trial.config['trial']:04d}",
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=scratch,
            callbacks=[callback, _NoLines()],
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
        if session.error:  # Tune has it as text only
            raise session.error from None
        raise


class _NoLines(TrialProgressCallback):
    """In the place of Tune's own, which prints a line of every attempt that never began.

    And keeps the last result of each.
    """

    def log_result(self, trial: Trial, result: dict[str, Any], error: bool = False) -> None:
        """Print and keep nothing."""

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Print and keep nothing."""
