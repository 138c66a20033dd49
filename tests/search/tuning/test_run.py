"""Joining Ray and leaving it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from search.ledger.state import StudyState
from tests.search.conftest import ROOT, Driver, second_node, write_study

HOLDING = """
import sys, time
import ray
ray.init(sys.argv[1], log_to_driver=False)
held = ray.util.placement_group([{"CPU": 1}] * int(ray.cluster_resources()["CPU"]))
ray.get(held.ready())
print("held", flush=True)
time.sleep(600)
"""

COLLECTING = """
import gc, sys, threading
from search.execution.session import quiet_ray
quiet_ray()
import ray
from search.tuning.run import ray_session

class Ring:
    pass

def collect():
    while not left.is_set():
        [[number] for number in range(200)]
        if rings:
            rings.pop()  # a ring is freed by the collector alone, in whichever thread it runs

gc.set_threshold(50, 2, 2)
rings, left = [], threading.Event()
with ray_session(sys.argv[1]):
    for _ in range(20000):
        ring = Ring()
        ring.self, ring.reference = ring, ray.put(1)
        rings.append(ring)
    threading.Thread(target=collect, daemon=True).start()
left.set()
print("left")
"""

COUNTING = """
import sys
from search.execution.session import quiet_ray
quiet_ray()
from search.tuning.scheduler import Scheduler
from tests.search.drive import plain

add, held = Scheduler.on_trial_add, []

def added(self, controller, trial):
    add(self, controller, trial)
    held.append(len(controller.get_trials()))

Scheduler.on_trial_add = added
assert plain(*sys.argv[1:]) == 0
print(f"held {max(held)} of {len(held)}")
"""


@pytest.mark.slow
def test_another_thread_may_free_references_while_ray_shuts_down(cluster: str) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"}
    command = [sys.executable, "-c", COLLECTING, cluster]
    result = subprocess.run(command, env=env, capture_output=True, text=True, timeout=480)
    assert (result.returncode, result.stdout) == (0, "left\n"), result.stderr


@pytest.mark.slow  # 15 s
def test_a_study_without_a_place_stops_at_once_and_keeps_its_trials(
    tmp_path: Path, store: Path, drive: Callable[..., Driver], cluster: str
) -> None:
    """Another program has all that there is, and no node may ever come."""
    env = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    holding = [sys.executable, "-c", HOLDING, cluster]
    with subprocess.Popen(holding, env=env, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None and other.stdout.readline() == "held\n"
            driver = drive(write_study(tmp_path, store))
            driver.wait_for(lambda: driver.events("proposed"))
            driver.process.send_signal(signal.SIGTERM)
            driver.finish()
        finally:
            other.kill()
    assert not driver.events("started") and not driver.events("ended")
    assert StudyState.replay(driver.events()).trials[0].ending is None


@pytest.mark.slow  # 15 s
def test_attempts_that_have_ended_are_let_go(
    tmp_path: Path, store: Path, cluster: str, mlflow_uri: str
) -> None:
    """Tune keeps all of them, and a study has tens of thousands."""
    study = write_study(tmp_path, store)
    env = {"PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled", "MLFLOW_TRACKING_URI": mlflow_uri}
    command = [sys.executable, "-c", COUNTING, str(study), str(tmp_path), cluster]
    result = subprocess.run(
        command, env={**os.environ, **env}, capture_output=True, text=True, timeout=960
    )
    assert result.returncode == 0, result.stdout + result.stderr
    held, of = result.stdout.split("held ")[1].split(" of ")
    assert int(held) <= 4 < 10 <= int(of)


@pytest.mark.slow  # 40 s
def test_a_node_that_is_asked_to_end_under_a_trial(
    tmp_path: Path, store: Path, drive: Callable[..., Driver], cluster: str
) -> None:
    """At SIGTERM a node of Ray drains itself as preempted, and then ends what runs there still."""
    trials = {"num_trials": 2, "cpus_per_trial": 2}
    settings = {"scheduler": {"type": "none", "max_t": 120}, "enqueue": []}
    study = write_study(tmp_path, store, toy={"slow": "1"}, trials=trials, **settings)
    soon = {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "2"}
    with second_node(cluster, tmp_path / "node.log", 2, **soon) as node:
        driver = drive(study)
        # One on each node, and neither will end before.
        driver.wait_for(lambda: len({e["trial"] for e in driver.events("reported")}) == 2, 100)
        node.terminate()
        driver.wait_for(lambda: driver.events("interrupted"), 240)
        (driver.folder / "toy" / "slow").write_text("0")
        driver.finish()
    [lost] = driver.events("interrupted")
    assert lost["cause"] == "node" and lost["epoch"] >= 1
    state = StudyState.replay(driver.events())  # refuses an epoch that comes twice
    assert {trial.ending for trial in state.trials.values()} == {"completed"}
