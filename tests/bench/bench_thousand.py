"""A thousand slots and 20,000 trials in simulated time: where a driver comes to its limit.

    python -m tests.bench.bench_thousand --trials 20000 --slots 1000 --sampler random

The searcher, the scheduler, the sampler, the pruner and the ledger, a file that is fsynced, are the
real ones, and what a driver looks at twice a second is looked at as often. Ray, the trials'
processes and MLflow are not there (tests/bench/bench_scale.py has them). Epochs take a minute of
simulated time, more or less, by the clock that the ledger is given.
"""

import argparse
import heapq
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self
from unittest import mock

from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from search.execution.faults.recovery import Recovery
from search.execution.image_worker import PaintQueue
from search.ledger import journal
from search.ledger.journal import Ledger
from search.ledger.session import StudySession
from search.monitor.console import ProgressDisplay
from search.monitor.space import space_of
from search.sampler.sampler import Sampler
from search.storage.requests import end_by_hand, take_up
from search.study.config import StudyConfig
from search.tuning.checkpoint_keeper import CheckpointKeeper
from search.tuning.scheduler import Scheduler
from search.tuning.searcher import StudySearcher
from tests.bench import bench_scale

EPOCH_S = 60.0
CASES = 24
"""Of a validation; a fold of ISLES24 has about so many."""
POLL_S = 0.5
"""Between two looks of the driver, in simulated time."""
KEEP_S = CheckpointKeeper.PERIOD_S


@dataclass
class Attempt:
    """As much of a Ray trial as the scheduler looks at."""

    trial_id: str
    config: dict[str, Any]
    status: str = Trial.PENDING


class Clock:
    """Simulated seconds, as the ledger and the driver's looks see them."""

    def __init__(self) -> None:
        self.now_s = 1.8e9

    def __call__(self) -> float:
        return self.now_s

    @contextmanager
    def everywhere(self) -> Iterator[Self]:
        """Let the ledger go by it."""
        seconds = SimpleNamespace(time=self)
        with (
            mock.patch.object(journal, "time", seconds),
            mock.patch.object(journal, "steady_s", self),
        ):
            yield self


class Spent:
    """CPU seconds of this thread, by what they were spent for."""

    def __init__(self) -> None:
        self.cpu_s: dict[str, float] = {}
        self.calls: dict[str, int] = {}

    def watch(self, owner: Any, method: str, name: str) -> None:
        """Add up the calls of an object's method from here on."""
        setattr(owner, method, self.timed(getattr(owner, method), name))

    def timed(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        """Return a function that does the same and adds up its calls."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            begun = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.cpu_s[name] = self.cpu_s.get(name, 0.0) + time.thread_time() - begun
                self.calls[name] = self.calls.get(name, 0) + 1

        return timed


class Cluster:
    """Runs a study's trials on slots in simulated time.

    Args:
        study: The study.
        folder: Where its ledger is written.
        slots: Trials that train at once.
        clock: Is moved on.
        spent: Is told what is done for what.
    """

    def __init__(self, study: StudyConfig, folder: Path, slots: int, clock: Clock, spent: Spent):
        self.ledger = Ledger.open(folder / "ledger.jsonl", writer=True)
        config = study.model_dump(mode="json")
        self.ledger.append(
            {"event": "study", "uid": "bench", "config": config, "store_hash": "", "lets_go": True}
        )
        self.session = StudySession(study, folder, self.ledger)
        sampler = Sampler(study)
        self.session.listeners.insert(0, sampler.observe)
        self.session.listeners.append(ProgressDisplay(self.session).observe)
        self.session.listeners.append(PaintQueue(self.session).observe)
        recovery = Recovery(lambda: {"here": slots}, clock=clock)
        self.searcher = StudySearcher(self.session, sampler, lambda without: slots, recovery, "")
        self.scheduler = Scheduler(self.session, recovery)
        self._keeper = CheckpointKeeper(
            self.session, self.searcher.trials_with_attempt, lambda line: None
        )
        self._slots, self._clock, self._spent = slots, clock, spent
        self._due: list[tuple[float, int, Attempt]] = []
        self._stopped_trials: set[Attempt] = set()  # it forgets at once, where Tune's is made to
        self._failed_trials: set[Attempt] = set()
        self._asked = 0
        self.reports = 0
        spent.watch(sampler, "propose", "propose")
        spent.watch(sampler, "observe", "tell")
        spent.watch(self.ledger, "append", "ledger")
        spent.watch(self.session.pruner, "decide", "decide")
        spent.watch(self.searcher, "suggest", "suggest")
        spent.watch(self.scheduler, "on_trial_result", "result")
        spent.watch(self, "look", "look")
        spent.watch(self._keeper, "_remove", "keeper")
        self._space = spent.timed(space_of, "space")
        spent.watch(self.session.state, "apply", "state")

    def run(self, note: Callable[[], None]) -> None:
        """Run to the study's end.

        Args:
            note: Is called after each report.
        """
        looks_s, keeps_s = self._clock.now_s, self._clock.now_s
        self._fill()
        while self._due:
            due_s, _, attempt = heapq.heappop(self._due)
            for _ in range(int(min(due_s - looks_s, 60) / POLL_S)):
                self.look()
                looks_s += POLL_S
            looks_s = max(looks_s, due_s - POLL_S)
            if due_s - keeps_s >= KEEP_S:
                keeps_s = due_s
                self._keeper._remove(self._keeper.BUSY_S)
                self._space(self.session.study, self.session.state, self.session.folder)
            self._clock.now_s = due_s
            self._report(attempt)
            note()
            self._fill()

    def look(self) -> None:
        """Do what a driver does twice a second, Ray's part left out."""
        take_up(self.session)
        end_by_hand(self.session, self.searcher.trials_with_attempt())
        self.session.overspent(self.session.now_s)

    def _fill(self) -> None:
        while True:
            self._asked += 1
            spec = self.searcher.suggest(f"attempt{self._asked}")
            if not isinstance(spec, dict):
                assert spec is None or spec == Searcher.FINISHED
                return
            attempt = Attempt(f"attempt{self._asked}", spec)
            self.scheduler.on_trial_add(self, attempt)  # type: ignore[arg-type]
            waiting = self.scheduler.choose_trial_to_run(self)
            assert waiting is attempt
            attempt.status = Trial.RUNNING
            about = {key: spec[key] for key in ("trial", "attempt")}
            where = {"host": f"node{self._asked % 125}", "pid": 1, "cpu": "", "threads": 1}
            self.session.record({"event": "started", **about, **where})
            self._train(attempt)

    def _train(self, attempt: Attempt) -> None:
        trial = self.session.state.trials[attempt.config["trial"]]
        draw = random.Random(f"{trial.number}/{trial.epoch}")
        takes_s = EPOCH_S * draw.uniform(0.8, 1.2)
        heapq.heappush(self._due, (self._clock.now_s + takes_s, self.reports, attempt))

    def _report(self, attempt: Attempt) -> None:
        number, optimizer = attempt.config["trial"], attempt.config["train"]["optimizer"]
        epoch = self.session.state.trials[number].epoch + 1
        found = bench_scale.metrics(optimizer["lr"], optimizer["weight_decay"], epoch)
        dice = found["val/dice"]
        cases = {f"case{case:03d}": dice - 0.2 + 0.4 * case / CASES for case in range(CASES)}
        result = {"epoch": epoch, "metrics": found, "cases": cases}
        self.reports += 1
        said = self.scheduler.on_trial_result(None, attempt, result)  # type: ignore[arg-type]
        if said == Scheduler.CONTINUE:
            self._train(attempt)
            return
        attempt.status = Trial.TERMINATED
        self.scheduler.on_trial_complete(None, attempt, result)  # type: ignore[arg-type]
        self.searcher.on_trial_complete(attempt.trial_id, result=result)


def rss_mib() -> float:
    """Return the memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def simulate(folder: Path, study: StudyConfig, slots: int, rows: int) -> Iterator[dict[str, Any]]:
    """Run a study, and yield what each stretch of it cost, so many in all."""
    found: list[dict[str, Any]] = []
    spent, clock = Spent(), Clock()
    with clock.everywhere():
        cluster = Cluster(study, folder, slots, clock, spent)
        begun = (time.process_time(), time.perf_counter(), 0, dict[str, float]())
        begun_sim_s = clock.now_s
        step = study.trials.num_trials / rows

        def note() -> None:
            nonlocal begun
            trials = len(cluster.session.state.trials)
            if trials < step * (len(found) + 1) and cluster._due:
                return
            if len(found) >= rows and cluster._due:
                return
            cpu_s, wall_s, reports, before = begun
            now = time.process_time(), time.perf_counter(), cluster.reports, dict(spent.cpu_s)
            each = 1000 / max(1, now[2] - reports)
            found.append(
                {
                    "trials": trials,
                    "reports": cluster.reports,
                    "cpu_ms": (now[0] - cpu_s) * each,
                    "wall_ms": (now[1] - wall_s) * each,
                    "parts_ms": {k: (v - before.get(k, 0.0)) * each for k, v in now[3].items()},
                    "rss_mib": rss_mib(),
                    "ledger_mb": cluster.ledger.size / 1e6,
                    "simulated_h": (clock.now_s - begun_sim_s) / 3600,
                }
            )
            begun = now
            print(json.dumps(found[-1]), file=sys.stderr, flush=True)

        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            cluster.run(note)
        calls = {k: {"cpu_s": spent.cpu_s[k], "calls": n} for k, n in spent.calls.items()}
        yield from found
        yield {"calls": calls}
        cluster.ledger.close()


def main() -> None:
    """Run the simulation and print a JSON object a stretch."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=2000, help="the full size is 20000")
    parser.add_argument("--slots", type=int, default=1000)
    parser.add_argument("--sampler", default="tpe")
    parser.add_argument("--rows", type=int, default=10)
    parser.add_argument("--folder", type=Path, help="where the study is kept")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = a.folder or Path(name) / "scale"
        folder.mkdir(parents=True)
        study = bench_scale.study(folder / "store", a.trials, prune=True)
        study = study.model_copy(
            update={"sampler": study.sampler.model_copy(update={"type": a.sampler})}
        )
        for row in simulate(folder, study, a.slots, a.rows):
            print(json.dumps(row))


if __name__ == "__main__":
    main()
