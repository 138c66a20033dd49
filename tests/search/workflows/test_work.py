"""Jobs that work on one study together: who is the head, who leaves, and what is lost (nothing)."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from search.execution.auth import MODE, STAY_ON_LOOPBACK
from search.execution.own_ray.head import head_folder, said, say
from search.execution.own_ray.node import Node
from search.ledger.lease import Lease
from search.ledger.users import user_name
from search.ledger.waiting import Wait
from search.workflows import work as work_module
from tests.search.conftest import ROOT, events, write_study
from trainer.configfile import ConfigError

LEFT_BY_TESTS = (MODE, STAY_ON_LOOPBACK)
"""Variables that a Ray of this process alone had; with them no other node may join."""


class Jobs:
    """Jobs as a batch system grants them: each with one CPU of this host."""

    def __init__(self, study: Path, runs: Path, home: Path):
        self._words = [sys.executable, "-m", "tests.search.job", str(study), str(runs)]
        self._log = runs / "jobs.log"
        home.mkdir()
        self._env = {
            **{name: value for name, value in os.environ.items() if name not in LEFT_BY_TESTS},
            "HOME": str(home),
            "SLURM_CPUS_ON_NODE": "1",
            "PYTHONPATH": str(ROOT),
            "RAY_health_check_period_ms": "1000",
            "RAY_health_check_failure_threshold": "5",
        }
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        """Start one more."""
        with self._log.open("a") as log:
            job = subprocess.Popen(
                self._words, env=self._env, stdout=log, stderr=log, start_new_session=True
            )
        self.running.append(job)
        return job

    def wait_for(self, ready: Callable[[], object], timeout_s: float = 960) -> None:
        """Wait until something is true."""
        wait_for(ready, lambda: self.log, timeout_s)

    @property
    def log(self) -> str:
        """What all of them said."""
        return self._log.read_text()


def wait_for(ready: Callable[[], object], said: Callable[[], str], timeout_s: float) -> None:
    """Wait until something is true, or show what was said."""
    end_s = time.monotonic() + timeout_s
    while not ready():
        assert time.monotonic() < end_s, said()
        time.sleep(0.1)


@pytest.fixture
def jobs(tmp_path: Path, store: Path) -> Iterator[Jobs]:
    """Jobs of a toy study, ended at the end."""
    runs = tmp_path / "runs"
    runs.mkdir()
    study = write_study(
        runs,
        store,
        toy={"slow": 3},
        scheduler={"type": "none", "max_t": 8},
        trials={"num_trials": 6, "cpus_per_trial": 1},
        enqueue=[],
    )
    jobs = Jobs(study, runs, tmp_path / "home")
    yield jobs
    for job in jobs.running:
        if job.poll() is None:
            job.terminate()
    for job in jobs.running:
        job.wait(240)


@pytest.mark.slow  # 90 s
@pytest.mark.timeout(3600)
def test_jobs_come_and_go_and_nothing_is_lost_or_done_twice(jobs: Jobs, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "toy"
    first = jobs.start()
    jobs.wait_for(lambda: said(folder).get("address"))
    second, third = jobs.start(), jobs.start()

    def running() -> int:
        return len(events(folder, "started")) - len(events(folder, "ended"))

    jobs.wait_for(lambda: running() == 3)  # one on each node, also where a node is slow to start
    jobs.wait_for(lambda: len(events(folder, "reported")) >= 3)
    second.send_signal(signal.SIGTERM)  # a node leaves
    assert second.wait(600) == 75, jobs.log
    left = [e for e in events(folder, "interrupted") if e["reason"] == "its node's job has to end"]
    assert left and {event["cause"] for event in left} == {"stop"}
    first.send_signal(signal.SIGTERM)  # the head leaves, and the third takes over
    assert first.wait(600) == 75, jobs.log
    (folder / "toy" / "slow").write_text("0.3")
    jobs.wait_for(lambda: len(events(folder, "driver")) == 2)
    fourth = jobs.start()
    assert third.wait(1200) == 0, jobs.log
    assert fourth.wait(600) == 0, jobs.log
    assert said(folder) == {"status": 0}
    ends = {event["trial"]: event["ending"] for event in events(folder, "ended")}
    assert len(ends) == len(events(folder, "ended")) and set(ends.values()) == {"completed"}
    for trial in ends:
        epochs = [e["epoch"] for e in events(folder, "reported") if e["trial"] == trial]
        assert epochs == [*range(1, 9)]
    assert not [e for e in events(folder, "interrupted") if e["cause"] != "stop"]
    assert jobs.start().wait(800) == 0, jobs.log  # a job that comes too late


def test_nobody_joins_a_head_whose_job_has_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined: list[str] = []
    monkeypatch.setattr(work_module, "_join", lambda folder, address, *rest: joined.append(address))
    head_folder(tmp_path).mkdir()
    lease = Lease.take(head_folder(tmp_path))
    for about in ({}, {"address": "a:1", "leaves": True}, {"address": "b:2"}):
        say(tmp_path, about)
        assert serve(tmp_path) is None
    lease.release()
    assert joined == ["b:2"]


def serve(folder: Path, waits: Wait | None = None) -> int | None:
    """Look once, as a job does."""
    told = [signal.SIGTERM]  # not to sleep
    return work_module._serve(folder, [], told, leave_s=1, waits=waits or Wait())


@pytest.mark.parametrize(
    ("about", "why"),
    [
        ({}, "which starts or ends"),
        ({"address": "a:1", "leaves": True}, "to leave: then one of the other jobs takes over"),
        ({"address": "a:1"}, "whose Ray only {me}'s own jobs can join: this one takes over"),
    ],
)
def test_a_job_says_once_for_whom_it_waits_and_ends_with_the_study(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    about: dict[str, Any],
    why: str,
) -> None:
    """The last case is of another member of a group, whose token is not known."""
    head_folder(tmp_path).mkdir()
    lease, waits = Lease.take(head_folder(tmp_path)), Wait(after_s=0)
    say(tmp_path, about)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert [serve(tmp_path, waits) for _ in range(3)] == [None] * 3
    who = f"pid {os.getpid()} on {socket.gethostname()}"
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"waits    for the head, {who}, ")
    assert why.format(me=user_name()) in line
    say(tmp_path, {"status": 0})  # else it would take over what has been stopped
    lease.release()
    assert serve(tmp_path, waits) == 0


def test_a_job_says_that_it_waits_for_the_driver_of_a_head_that_has_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    head_folder(tmp_path).mkdir()
    say(tmp_path, {"address": "a:1"})
    monkeypatch.setattr(work_module, "writer_of", lambda ledger: "pid 7 on there")
    monkeypatch.setattr(os, "getuid", lambda: 12345)  # also another member's
    assert serve(tmp_path, Wait(after_s=0)) is None
    said = capsys.readouterr().err
    assert said == "waits    for the end of the driver whose head has gone, pid 7 on there\n"


def test_a_node_says_that_it_waits_for_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    head_folder(tmp_path).mkdir()
    monkeypatch.setattr(work_module, "Wait", lambda: Wait(after_s=0))
    looks = iter([False, False, True])
    with (
        work_module._turn(tmp_path, lambda: False),
        work_module._turn(tmp_path, lambda: next(looks)),
    ):
        said = capsys.readouterr().err
    assert said == "waits    for another job's node on this host to start\n"


def test_jobs_of_all_members_of_a_group_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever comes first makes the folder for all of them."""
    tmp_path.chmod(0o2775)
    monkeypatch.setattr(work_module, "say_token", lambda: None)
    monkeypatch.setattr(work_module, "_serve", lambda *words: 0)
    before = os.umask(0o022)
    try:
        assert work_module.work(tmp_path, []) == 0
    finally:
        os.umask(before)
    assert head_folder(tmp_path).stat().st_mode & 0o7777 == 0o2775


def test_a_node_that_starts_is_given_up() -> None:
    """Ray waits for minutes for a head that is not there."""
    begun_s = time.monotonic()
    node = Node("127.0.0.1:9", given_up=lambda: time.monotonic() - begun_s > 0.5)
    assert not node.alive and time.monotonic() - begun_s < 20
    node.end()


def test_a_ray_that_cannot_start_here_is_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "much too long for the sockets"))
    with pytest.raises(ConfigError, match=r"RAY_TMPDIR .*Ray's sockets need a path of at most"):
        Node()
