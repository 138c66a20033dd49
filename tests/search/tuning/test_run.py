"""Joining Ray and leaving it."""

import os
import subprocess
import sys

import pytest

from tests.search.conftest import ROOT

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


@pytest.mark.slow
def test_another_thread_may_free_references_while_ray_shuts_down(cluster: str) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"}
    command = [sys.executable, "-c", COLLECTING, cluster]
    result = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stdout) == (0, "left\n"), result.stderr
