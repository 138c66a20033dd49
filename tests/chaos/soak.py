"""A week in an afternoon: three users' studies on eight workers that come and go by their walls.

    python -m tests.chaos.soak --minutes 120

One Ray, whose head has no CPU; on it the drivers, each with a home and a folder of runs of its own.
A worker is a job of one CPU: it joins, gets a signal before its wall, leaves, and comes back after
a while in the queue; one job in ten ends without a word. The trainer sleeps. At the end every
study is stopped, and everything it recorded is compared with what had to come out.
"""

import argparse
import json
import math
import random
import signal
import statistics
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from search.ledger.journal import Event, Ledger
from search.ledger.state import StudyState
from tests.chaos.hosts import BASE, NETWORK, SHARE, wait_for
from tests.chaos.lan import PORT, Lan, RayHost
from tests.chaos.suites import equipped
from tests.chaos.toy import STEPS
from tests.search.asha_oracle import check_decisions

USERS = ("ana", "ben", "cai")
WORKERS = 8
EPOCH_S = 3.0
"""That the toy sleeps."""
NOTICE_S = 30.0
"""Before its wall, a job gets its signal."""
UNWARNED = 0.1
"""Of the jobs: their host fails."""
SAMPLE_S = 15.0
WARM = 1 / 3
"""Of the length, after which memory is looked at: until then caches and processes fill."""


class Slope(NamedTuple):
    """How memory grows."""

    mib: float
    """In the mean."""
    per_hour: float
    error: float
    """Standard error of `per_hour`, as if the samples were independent."""


@dataclass
class Soaked:
    """What a soak showed."""

    minutes: float
    jobs: int = 0
    unwarned: int = 0
    not_started: int = 0
    """Of them, those whose Ray did not start in time, on a machine with other work."""
    reserved_s: float = 0.0
    """Of all jobs, from their start until their end."""
    trained_s: float = 0.0
    """Of the epochs that were reported, the seconds that the toy sleeps in each."""
    trials: dict[str, int] = field(default_factory=dict)
    """Of each study."""
    reports: dict[str, int] = field(default_factory=dict)
    interrupted: dict[str, int] = field(default_factory=dict)
    """Attempts, by cause and reason."""
    ledger_bytes: float = 0.0
    """A report."""
    memory: dict[str, Slope] = field(default_factory=dict)
    """Of each driver, and of the head's Ray."""

    @property
    def share(self) -> float:
        """Of the reserved seconds, those that trained or validated."""
        return self.trained_s / self.reserved_s


class Soak:
    """Three studies on a Lan for so long.

    Args:
        lan: Not started yet.
        minutes: How long.
        store: What studies need to have, and the toy does not read.
        say: Takes a line now and then.
        workers: Slots.
    """

    def __init__(
        self, lan: Lan, minutes: float, store: Path, say: Callable[[str], None], workers: int
    ):
        self._lan = lan
        self._workers = workers
        self._end_s = time.monotonic() + 60 * minutes
        self._wall_s = max(300.0, 60 * minutes / 8)
        self._say = say
        self._samples: dict[str, list[tuple[float, float]]] = {}
        self._drivers: dict[str, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()
        self._starts = threading.Lock()
        """Nodes start one after the other: this machine has few cores for eight at once."""
        self.found = Soaked(minutes)
        lan.copy(store, "store")

    def run(self) -> Soaked:
        """Carry it out.

        Raises:
            AssertionError: Something is lost, doubled or different.
            RuntimeError: A driver ended by itself.
        """
        lan = self._lan
        lan.hosts = [RayHost(number, lan.switch) for number in range(1, self._workers + 2)]
        lan.head.start_ray(0)
        begun_s = time.monotonic()
        with ThreadPoolExecutor(self._workers) as threads:
            jobs = [threads.submit(self._serve, number) for number in range(2, self._workers + 2)]
            # A new study is refused where no node has what its trials need.
            wait_for(
                lambda: any("joined" in host.log("job") for host in lan.hosts[1:]), "a node", 400
            )
            for user in USERS:
                self._launch(user)
            while time.monotonic() < self._end_s:
                self._sample(time.monotonic() - begun_s)
                time.sleep(SAMPLE_S)
                for user, driver in self._drivers.items():
                    if driver.poll() is not None:
                        self._end_s = 0.0
                        log = lan.head.log(f"driver-{user}")[-3000:]
                        raise RuntimeError(f"{user}'s driver ended by itself: {log}")
            for job in jobs:
                job.result()
        self._stop()
        self._check()
        return self.found

    def folder(self, user: str) -> Path:
        """Return where a user's study lies, as this process sees it."""
        return self._lan.share / user / "runs" / user

    def _launch(self, user: str) -> None:
        home = self._lan.share / user
        (self.folder(user) / "toy").mkdir(parents=True)
        (self.folder(user) / "toy" / "slow").write_text(f"{EPOCH_S}")
        study = {
            "study": user,
            "data": {"store": str(SHARE / "store")},
            "train": {"num_threads": 1},
            "space": {"optimizer.lr": {"type": "float", "low": 1e-5, "high": 1e-1, "log": True}},
            "scheduler": {"type": "asha", "max_t": 27, "grace_period": 3, "smoothing": 2},
            "trials": {"num_trials": 100_000, "cpus_per_trial": 1, "hang_timeout_s": 60},
            "seed": USERS.index(user),
        }
        (home / "study.yaml").write_text(yaml.safe_dump(study))
        there = SHARE / user
        self._drivers[user] = self._lan.head.start(
            f"driver-{user}",
            *("python", "-m", "tests.search.drive", there / "study.yaml", there / "runs"),
            *(f"{NETWORK}.1:{PORT}", "tests.chaos.toy:fit"),
            HOME=str(there),
        )

    def _serve(self, number: int) -> None:
        """Be one slot: job after job, each with its wall and a while in the queue."""
        draw = random.Random(number)
        time.sleep(draw.uniform(0, 10))
        while (left_s := self._end_s - time.monotonic()) > NOTICE_S:
            wall_s = min(self._wall_s * draw.uniform(0.7, 1.3), left_s)
            warned = draw.random() >= UNWARNED
            took_s = self._job(number, wall_s if warned else wall_s * draw.random(), warned)
            with self._lock:
                self.found.jobs += took_s > 0
                self.found.unwarned += took_s > 0 and not warned
                self.found.reserved_s += took_s
            time.sleep(draw.uniform(1, 15))

    def _job(self, number: int, wall_s: float, warned: bool) -> float:
        """Be one job, and return the seconds from its start to its end."""
        host = self._lan.hosts[number - 1]
        if not host.is_on:
            host = self._lan.power_on(host)
        folders = [SHARE / user / "runs" / user for user in USERS]
        with self._starts:
            begun_s = time.monotonic()
            if begun_s > self._end_s - NOTICE_S:
                return 0.0
            said = len(host.log("job"))
            job = host.start(
                "job",
                *("python", "-m", "tests.chaos.grant", f"{NETWORK}.1:{PORT}", *folders),
                SLURM_CPUS_ON_NODE="1",
                RAY_TMPDIR="/dev/shm",  # the host's own, and short enough for Ray
            )
            wait_for(
                lambda: "joined" in host.log("job")[said:] or job.poll() is not None,
                f"the start of {host.name}",
                300,
            )
        if job.poll() is not None:
            with self._lock:
                self.found.not_started += 1
            return time.monotonic() - begun_s
        while time.monotonic() < min(begun_s + wall_s - NOTICE_S * warned, self._end_s):
            time.sleep(0.5)
            if job.poll() is not None:
                raise RuntimeError(
                    f"{host.name}: its job ended by itself: {host.log('job')[-2000:]}"
                )
        if warned:
            for process in host.processes("job"):
                if "tests.chaos.grant" in process.command and process.command.startswith("python"):
                    process.signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                job.wait(2 * NOTICE_S)
                return time.monotonic() - begun_s
        host.power_off()
        return time.monotonic() - begun_s

    def _sample(self, now_s: float) -> None:
        """Take note of the memory of what lives as long as the studies."""
        memory: Counter[str] = Counter()
        for process in self._lan.head.processes():
            with suppress(OSError, StopIteration):
                status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
                line = next(line for line in status if line.startswith("VmRSS:"))
                memory[_name(process.role, process.command)] += int(line.split()[1]) / 1024
        for name, mib in memory.items():
            self._samples.setdefault(name, []).append((now_s, mib))
        reports = sum(len(self._events(user, "reported")) for user in USERS)
        said = ", ".join(f"{name} {mib:.0f}" for name, mib in sorted(memory.items()) if name)
        self._say(f"{reports} reports, {self.found.jobs} jobs; MiB: {said}")

    def _events(self, user: str, kind: str = "") -> list[Event]:
        path = self.folder(user) / "ledger.jsonl"
        events = Ledger.open(path, writer=False).events if path.exists() else []
        return [event for event in events if kind in ("", event["event"])]

    def _stop(self) -> None:
        for process in self._lan.head.processes():
            if process.role.startswith("driver-") and "tests.search.drive" in process.command:
                process.signal(signal.SIGTERM)
        for user, driver in self._drivers.items():
            status = driver.wait(720)
            assert status == 0, f"{user}: {status}: {self._lan.head.log(f'driver-{user}')[-3000:]}"

    def _check(self) -> None:
        """Compare every study with what had to come out, and add up what there is."""
        found, bytes_ = self.found, 0
        interrupted: Counter[str] = Counter()
        for user in USERS:
            events = self._events(user)
            check_decisions(events)
            state = StudyState.replay(events)  # refuses epochs that are doubled, or after an end
            for trial in state.trials.values():
                lr = trial.settings(_study(state, self.folder(user)))["optimizer"]["lr"]
                due = [*_course(lr, len(trial.reports))]
                assert [(r.epoch, r.value) for r in trial.reports] == due, f"{user}:{trial.number}"
                assert trial.ending in (None, "completed", "stopped"), f"{user}: {trial}"
                whole = trial.ending != "completed" or trial.epoch == 27
                assert whole, f"{user}:{trial.number} is complete after {trial.epoch}"
            lost = [event for event in events if event["event"] == "interrupted"]
            interrupted.update(f"{event['cause']}: {event['reason'][:60]}" for event in lost)
            assert not {event["cause"] for event in lost} - {"stop", "node"}, lost
            found.trials[user] = len(state.trials)
            found.reports[user] = len(state.reported)
            bytes_ += (self.folder(user) / "ledger.jsonl").stat().st_size
        found.interrupted = dict(interrupted)
        found.trained_s = EPOCH_S * sum(found.reports.values())
        found.ledger_bytes = bytes_ / sum(found.reports.values())
        warm_s = WARM * 60 * found.minutes
        for name, samples in self._samples.items():
            late = [(s, mib) for s, mib in samples if s >= warm_s]
            if len(late) > 3:
                found.memory[name] = slope(late)
        wait_for(lambda: not self._left(), f"the end of {self._left()}", 360)

    def _left(self) -> list[str]:
        return [p.command for p in self._lan.head.processes() if p.role.startswith("driver-")]


def _study(state: StudyState, folder: Path) -> Any:
    from search.study.frozen import study_of

    assert state.study is not None
    return study_of(state.study, folder)


def _course(lr: float, epochs: int) -> Iterator[tuple[int, float]]:
    """Yield what the toy reports, computed in one go."""
    state = 0.1 + lr / 2
    for epoch in range(1, epochs + 1):
        for _ in range(STEPS):
            state = 3.99 * state * (1 - state)
        yield epoch, state


def _name(role: str, command: str) -> str:
    """Return for what a process of the head is counted; empty for what does not last."""
    if role.startswith("driver-"):
        return role if "tests.search.drive" in command else ""
    words = ("gcs_server", "raylet", "agent")
    return next((f"ray {word}" for word in words if word in command.split()[0]), "") or (
        "ray agents" if "agent" in command else ""
    )


def slope(samples: list[tuple[float, float]]) -> Slope:
    """Return the straight line through seconds and MiB, by least squares."""
    hours = [seconds / 3600 for seconds, _ in samples]
    mib = [value for _, value in samples]
    line = statistics.linear_regression(hours, mib)
    rest = [y - line.slope * x - line.intercept for x, y in zip(hours, mib, strict=True)]
    mean = statistics.fmean(hours)
    spread = math.fsum((x - mean) ** 2 for x in hours)
    error = math.sqrt(math.fsum(r * r for r in rest) / (len(rest) - 2) / spread)
    return Slope(statistics.fmean(mib), line.slope, error)


def soak(
    minutes: float, store: Path, say: Callable[[str], None] = print, workers: int = WORKERS
) -> Soaked:
    """Carry out a soak of so many minutes on a prepared store; raises as `Soak.run`."""
    with Lan(share_mb=1024) as lan:
        try:
            return Soak(lan, minutes, store, say, workers).run()
        except BaseException:
            for host in lan:
                if host.is_on:
                    for log in host.path(BASE / "own").glob("*.log"):
                        say(f"{host.name} {log.name}: {log.read_text(errors='replace')[-1500:]}")
            raise


def report(found: Soaked) -> str:
    """Return what a soak showed as lines."""
    lines = [
        f"{found.minutes:g} minutes, {found.jobs} jobs, {found.unwarned} of them without a word, "
        f"{found.not_started} not started",
        f"trained or validated: {found.share:.1%} of {found.reserved_s:.0f} reserved seconds",
        f"trials {found.trials}, reports {found.reports}",
        f"attempts that ended before their trial: {found.interrupted}",
        f"ledger: {found.ledger_bytes:.0f} bytes a report",
    ]
    lines += [
        f"{name}: {s.mib:.0f} MiB, {s.per_hour:+.1f} ± {s.error:.1f} MiB an hour"
        for name, s in sorted(found.memory.items())
        if name
    ]
    return "\n".join(lines)


def main() -> None:
    """Carry out a soak and print what it showed."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak")
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--workers", type=int, default=WORKERS)
    asked = parser.parse_args()
    with equipped() as (store, say):
        found = soak(asked.minutes, store, say, asked.workers)
    print(report(found))
    print(json.dumps({name: s._asdict() for name, s in found.memory.items()}))


if __name__ == "__main__":
    main()
