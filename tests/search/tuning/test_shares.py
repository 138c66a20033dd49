"""A study's share, and for what it waits; three studies on one Ray lose nothing as it changes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from search.execution.capacity import Slots
from search.execution.own_ray.node import Node
from search.tuning import shares as shares_module
from search.tuning.shares import Shares
from tests.search import offline
from tests.search.conftest import ROOT, events, write_study
from tests.search.tuning.test_searcher import driver, start
from tests.search.workflows.test_work import wait_for

NAMES = ("a", "b", "c")
EPOCHS = 90


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a Ray with three CPUs."""
    (tmp_path / "home").mkdir()
    for name, value in {"HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}.items():
        monkeypatch.setenv(name, value)
    for name in ("SLURM_CPUS_ON_NODE", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("search.execution.own_ray.node.num_cpus", lambda: 3)
    from search.execution.auth import say_token

    say_token()
    node = Node()
    yield node.address
    node.end()


def test_a_trial_without_a_process_is_spoken_of(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others than studies say nothing of what they use of a cluster."""
    now = {"s": 0.0, "used": True}
    monkeypatch.setattr(shares_module.time, "monotonic", lambda: now["s"])
    monkeypatch.setattr(shares_module.Sharing, "poll", lambda sharing: None)
    monkeypatch.setattr(Slots, "are_used", lambda slots: now["used"])
    with driver(offline.study(store), tmp_path) as (session, searcher):
        shares, said = Shares(session, searcher, Slots(1, 0)), list[str]()
        start(searcher, "a"), shares.poll()
        for now["s"], now["used"] in [(20, True), (40, False), (60, True), (80, True), (90, False)]:
            shares.poll()
            said.append(session.state.waits)
        reason = "a process, since all places of the cluster are used; trial 0 has none"
        assert said == ["", "", reason, reason, ""]
        now["s"], now["used"] = 100.0, True
        shares.poll()
        session.record({"event": "started", "trial": 0, "attempt": 1, "host": "", "pid": 0})
        shares.poll()
        assert [event["reason"] for event in events(tmp_path, "waits")] == [reason, ""] * 2


@pytest.mark.slow  # 90 s
@pytest.mark.timeout(2400)
def test_no_study_starves(cluster: str, tmp_path: Path, store: Path) -> None:
    """The first one has all three places, and gives two of them up as the others come."""
    runs, processes = tmp_path / "runs", {}
    runs.mkdir()

    def launch(name: str) -> None:
        study = write_study(
            runs,
            store,
            toy={"slow": 1.0},
            study=name,
            scheduler={"type": "none", "max_t": EPOCHS},
            trials={"num_trials": 30, "cpus_per_trial": 1},
            enqueue=[],
        ).rename(runs / f"{name}.yaml")
        drive = "import sys; from tests.search.drive import main; sys.exit(main(*sys.argv[1:]))"
        with (runs / f"{name}.log").open("w") as log:
            processes[name] = subprocess.Popen(
                [sys.executable, "-c", drive, str(study), str(runs), cluster],
                stdout=log,
                stderr=log,
                env=os.environ,
            )

    def said() -> str:
        return "\n".join(path.read_text() for path in runs.glob("*.log"))

    launch("a")
    wait_for(lambda: len(events(runs / "a", "reported")) >= 3, said, 800)
    launch("b")
    launch("c")
    wait_for(lambda: all(events(runs / name, "reported") for name in NAMES), said, 800)
    given_up = events(runs / "a", "interrupted")
    assert given_up, said()
    assert {event["reason"] for event in given_up} == {"it makes room for other studies"}
    waits = [event["reason"] for event in events(runs / "a", "waits")]
    assert any(reason.startswith("its share of the cluster is 1 of 3") for reason in waits)
    processes["c"].send_signal(signal.SIGTERM)
    assert processes["c"].wait(240) == 0, said()

    def two_places() -> bool:
        """Return whether one of the others has its place at once."""
        last = [events(runs / name, "waits")[-1]["reason"] for name in ("a", "b")]
        return any(reason.startswith("its share of the cluster is 2 of 3") for reason in last)

    wait_for(two_places, said, 400)
    for name in ("a", "b"):
        processes[name].send_signal(signal.SIGTERM)
        assert processes[name].wait(240) == 0, said()
    for name in NAMES:
        for trial in {event["trial"] for event in events(runs / name, "reported")}:
            epochs = [e["epoch"] for e in events(runs / name, "reported") if e["trial"] == trial]
            assert epochs == [*range(1, len(epochs) + 1)]
    assert not [e for n in NAMES for e in events(runs / n, "interrupted") if e["cause"] != "stop"]
