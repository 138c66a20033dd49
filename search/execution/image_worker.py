"""Pictures while a study runs, of each best so far and of each trial that completed; and its noise.

One process beside the trials, of the lowest priority, with one thread, on the driver's CPU. It may
take 2 % of the seconds that attempts had: what is wanted waits until that is enough, the newest
first. At the end, when no trial is slowed any more, the best one's are painted if they are not yet:
on a GPU of the driver's machine if the trials had some and one is free, else on all its CPUs. There
the validation noise is measured as well, once a study (analysis/validation_noise.py).
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import ray
from ray._private.state import available_resources_per_node  # the public one adds up all nodes
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from search.analysis.ranking import Leader
from search.analysis.validation_noise import to_measure
from search.execution.worker import on_its_devices
from search.ledger.journal import Event
from search.ledger.session import StudySession
from search.ledger.trial_state import TrialState
from search.ledger.waiting import Wait
from search.storage.dataset_cache import address_for_all_nodes
from search.storage.modes import use_modes_of
from search.storage.trials.images import Painted, paint_trial, to_paint
from search.storage.trials.noise import Noise, measure_noise
from trainer.cpus import num_cpus
from trainer.exceptions import first_line

SHARE = 0.02
"""Of the attempts' seconds, that painting may take, in CPU seconds."""
FIRST_S = 8.0
"""What the first pictures are expected to take, with the start of the process."""
SLOW_S = 10.0
"""At the end of a study, what takes longer is spoken of."""


class PaintQueue:
    """Which trial is painted next, and whether there is time for it; a listener of a StudySession.

    Args:
        session: The study. What it has pictures of is not painted again.

    Attributes:
        epochs: Of the weights that were painted last, by trial.
        spent_s: CPU time of all painting, that of earlier launches included.
        expected_s: What the next pictures will take.
    """

    def __init__(self, session: StudySession):
        self._session = session
        self._leader = Leader(session.state)
        self._wanted: dict[int, Literal["best", "completed"]] = {}
        """The newest last."""
        self.epochs: dict[int, int] = {}
        self.spent_s = 0.0
        self.expected_s = FIRST_S
        for event in session.ledger.events:
            if event["event"] == "painted":
                self.observe(event)
        if session.only is None:
            for trial in session.state.trials.values():
                if trial.ending == "completed":
                    self._want(trial, "completed")
            if best := self._best():
                self._want(best, "best")

    def observe(self, event: Event) -> None:
        """Take in one event of the ledger."""
        self._leader.observe(event)
        match event["event"]:
            case "reported":
                best = self._best()
                if best and best.number == event["trial"]:
                    self._wanted = {n: why for n, why in self._wanted.items() if why != "best"}
                    self._want(best, "best")
            case "ended" if event["ending"] == "completed":
                self._want(self._session.state.trials[event["trial"]], "completed")
            case "painted":
                self.epochs[event["trial"]] = event["epoch"]
                self.spent_s += event["seconds"]

    def take_next(self) -> int | None:
        """Take out the newest trial that is wanted, None without one or time for one."""
        if not self._wanted or self.left_s < self.expected_s:
            return None
        return self._wanted.popitem()[0]

    def take_best(self) -> int | None:
        """Take out the best trial if it is wanted still, whatever its pictures will take."""
        best = self._best()
        if best and self._wanted.pop(best.number, None):
            return best.number
        return None

    @property
    def left_s(self) -> float:
        """CPU time that may be spent now."""
        return SHARE * self._session.state.meter.attempt_s - self.spent_s

    def postpone(self, number: int, limit_s: float) -> None:
        """Want a trial's pictures, which took too long, again when there is twice the time."""
        self.expected_s = 2 * limit_s
        self._want(self._session.state.trials[number], "completed")

    def _best(self) -> TrialState | None:
        return self._leader.best(self._session.study)

    def _want(self, trial: TrialState, why: Literal["best", "completed"]) -> None:
        study = self._session.study
        if trial.kind == "confirm" or study.trainer or not study.trains:
            return
        self._wanted.pop(trial.number, None)
        if self.epochs.get(trial.number) != trial.epoch:
            self._wanted[trial.number] = why


class ImageWorker:
    """Has the pictures of a running study painted. Nothing of it fails the study.

    Args:
        session: The study.
        say: Is told, in a line, what goes wrong.
    """

    HANG_S = 1800.0
    """Seconds by the clock, since others go first, after which the process is given up."""
    FINISH_S = 60.0
    """At the end of a study the last pictures are waited for so long."""
    NOISE_S = 60.0
    """Likewise the validation noise, or SHARE of the attempts' seconds if that is longer."""
    MOST_FAILURES = 3
    """In a row, after which a launch paints no more."""

    def __init__(self, session: StudySession, say: Callable[[str], None]):
        self._session = session
        self._say = say
        self._queue = PaintQueue(session)
        self._store = address_for_all_nodes(session.study.data.store)
        self._painter: Any = None
        self._alone = False
        """No trial runs any more."""
        self._task: Any = None
        self._number = 0
        self._limit_s = 0.0
        self._begun_s = 0.0
        self._failures = 0
        session.listeners.append(self._queue.observe)

    def poll(self) -> None:
        """Record pictures that are done, and begin the next; returns at once."""
        self._collect(wait_s=0)
        if self._task is None and self._failures < self.MOST_FAILURES:
            number = self._queue.take_next()
            if number is not None:
                self._begin(number, self._queue.left_s)

    def finish(self) -> None:
        """Wait for what is being painted, the best trial's, and those for which there is time."""
        end_s, waits = time.monotonic() + self.FINISH_S, Wait(self._say_wait, SLOW_S)
        self._alone = True
        if self._task is None and self._free_gpus():
            self.close()  # the next process has one
        while (left_s := end_s - time.monotonic()) > 0 and not self._session.stopping:
            if self._task is None:
                number, limit_s = self._queue.take_best(), left_s * num_cpus()
                if number is None:
                    number, limit_s = self._queue.take_next(), self._queue.left_s
                if number is None or self._failures >= self.MOST_FAILURES:
                    break
                self._begin(number, limit_s)
            waits.on(f"for the last pictures, up to {self.FINISH_S:.0f} s")
            self._collect(wait_s=min(0.5, left_s))
        if self._task is not None:
            self.close()
        self._measure_noise()
        self.close()

    def close(self) -> None:
        """End the process, whatever it does."""
        if self._painter is not None:
            ray.kill(self._painter)
        self._painter = self._task = None

    def _measure_noise(self) -> None:
        """Measure how much the best finished trial's validation varies by its noise alone."""
        session, done = self._session, list[Any]()
        trial = to_measure(session.study, session.state)
        if trial is None or session.stopping or not to_paint(session.trial_dir(trial.number)):
            return
        if self._failures >= self.MOST_FAILURES:
            return
        limit_s = max(self.NOISE_S, SHARE * session.state.meter.attempt_s)
        begun_s, waits = time.monotonic(), Wait(self._say_wait, SLOW_S)
        run_dir = session.trial_dir(trial.number)
        task = self._process().noise.remote(run_dir, self._store, num_cpus())
        while not done and time.monotonic() < begun_s + limit_s and not session.stopping:
            waits.on(f"for the validation noise to be measured, up to {limit_s:.0f} s")
            done, _ = ray.wait([task], timeout=0.5)
        if not done:
            self._say(f"validation noise was not measured: it takes longer than {limit_s:.0f} s")
            return
        try:
            found: Noise = ray.get(task)
        except ray.exceptions.RayError as error:
            self._say(f"validation noise could not be measured: {_line(error)}")
            return
        metric = session.study.objective.metric
        if metric in found.std:
            about: Event = {"trial": trial.number, "epoch": found.epoch, "metric": metric}
            about |= {"draws": found.draws, "mean": found.mean[metric], "std": found.std[metric]}
            seconds = round(time.monotonic() - begun_s, 3)
            session.record({"event": "noise", **about, "seconds": seconds})

    def _say_wait(self, why: str) -> None:
        self._say(f"waits: {why}")

    def _begin(self, number: int, limit_s: float) -> None:
        run_dir = self._session.trial_dir(number)
        if not to_paint(run_dir):
            return
        self._number, self._limit_s, self._begun_s = number, limit_s, time.monotonic()
        before = self._queue.epochs.get(number)
        threads = num_cpus() if self._alone else 1
        paint = self._process().paint
        self._task = paint.remote(run_dir, self._store, before, limit_s, threads)

    def _process(self) -> Any:
        """Return the process that paints, which is started where there is none."""
        if self._painter is None:
            here = ray.get_runtime_context().get_node_id()
            strategy = NodeAffinitySchedulingStrategy(here, soft=False)
            gpus = self._free_gpus() if self._alone else 0.0
            options = {"num_cpus": 0, "num_gpus": gpus, "scheduling_strategy": strategy}
            self._painter = ray.remote(Painter).options(**options).remote(gpus)
        return self._painter

    def _free_gpus(self) -> float:
        """Return the GPUs of a trial, one at most, if the driver's node has them free."""
        gpus = min(1.0, self._session.study.trials.gpus)
        here = ray.get_runtime_context().get_node_id()
        free = available_resources_per_node().get(here, {}).get("GPU", 0)
        return gpus if free >= gpus else 0.0

    def _collect(self, wait_s: float) -> None:
        if self._task is None:
            return
        done, _ = ray.wait([self._task], timeout=wait_s)
        if not done:
            if time.monotonic() - self._begun_s > self.HANG_S:
                self.close()
                self._fail(f"nothing after {self.HANG_S:.0f} s")
            return
        task, self._task = self._task, None
        try:
            painted, seconds = ray.get(task)
        except ray.exceptions.RayError as error:
            if not isinstance(error, ray.exceptions.RayTaskError):
                self.close()  # it is the process that failed
            self._fail(_line(error))
            return
        self._failures = 0
        self._record(painted, seconds)

    def _record(self, painted: Painted, seconds: float) -> None:
        queue = self._queue
        if painted.files:
            queue.expected_s = painted.seconds
            about = {"trial": self._number, "epoch": painted.epoch, "files": painted.files}
            self._session.record({"event": "painted", **about, "seconds": round(seconds, 3)})
        else:
            queue.spent_s += seconds
        if painted.too_long:
            queue.postpone(self._number, self._limit_s)

    def _fail(self, reason: str) -> None:
        self._failures += 1
        self._queue.spent_s += self._queue.expected_s
        more = "" if self._failures < self.MOST_FAILURES else "; no more are tried"
        self._say(f"trial {self._number} could not be painted: {reason}{more}")


def _line(error: Exception) -> str:
    """Return what a task's error says in its first line."""
    return first_line(getattr(error, "cause", None) or error)


class Painter:
    """The process that paints; it keeps torch and the store's pages warm.

    Args:
        gpus: That Ray gave to it.
    """

    def __init__(self, gpus: float):
        os.nice(19)
        os.environ["OMP_NUM_THREADS"] = "1"
        self._device: str = on_its_devices({}, gpus).get("device", "auto")
        self._counted_s = 0.0

    def paint(
        self, run_dir: Path, store: str, before: int | None, limit_s: float, threads: int
    ) -> tuple[Painted, float]:
        """Paint a trial; arguments as for `paint_trial`.

        Returns:
            What came of it, and this process's CPU time since it last returned.
        """
        use_modes_of(run_dir.parents[1])
        left_s = limit_s - self._since()
        device = self._device
        painted = paint_trial(run_dir, store, before, left_s, device=device, threads=threads)
        seconds = self._since()
        self._counted_s += seconds
        return painted, seconds

    def noise(self, run_dir: Path, store: str, threads: int) -> Noise:
        """Measure a trial's validation noise; arguments as `measure_noise`."""
        import torch

        torch.set_num_threads(threads)
        return measure_noise(run_dir, store, device=self._device, threads=threads)

    def _since(self) -> float:
        return time.process_time() - self._counted_s
