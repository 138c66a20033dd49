"""This project's end of the lines: a peer as one of the bench's methods."""

import json
import math
import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from search.study.own_checks import METRICS
from search.study.space import active, ordered
from tests.bench.search.problems import EPOCHS, Params, Problem

ROOT = Path(__file__).parents[4]
VARIABLE = "SEGTUNE_BENCH_PEERS"
"""Holds the Python of the environment in which the peers are installed."""


class NotInstalled(Exception):
    """A peer that cannot be asked."""


class Peer:
    """A search in another process, one for all searches of a peer.

    Args:
        module: In this folder.
        problem: Gives the space and the objective.
        seed: Of the search.
        stated: A configuration that the peer is told of.

    Raises:
        NotInstalled: There is no environment, or it does not have the peer.
    """

    smoothing = 1

    def __init__(self, module: str, problem: Problem, seed: int, stated: Params | None = None):
        self._process, self._problem = _process(module), problem
        space = {
            name: dimension.model_dump(exclude_defaults=True, exclude={"when"})
            for name, dimension in problem.space.items()
        }
        self._untold: list[tuple[str, dict[str, Any]]] = []
        self._rungs = self._call(
            "begin",
            space=space,
            mode=METRICS[problem.metric],
            seed=seed,
            max_t=EPOCHS,
            stated=dict(stated) if stated else None,
        )

    def next(self) -> tuple[int, dict[str, Any]] | None:
        job = self._call("next")
        if job is None:
            return None
        trial, flat = job
        # The peers know no conditions: what is not searched under them has no effect.
        params: dict[str, Any] = {}
        for name, _ in ordered(self._problem.space):
            if name in active(self._problem.space, params):
                params[name] = flat[name]
        return trial, params

    def report(self, trial: int, epoch: int, value: float) -> bool:
        arguments = {"trial": trial, "epoch": epoch, "value": value}
        if epoch not in self._rungs and math.isfinite(value):
            self._untold.append(("report", arguments))
            return True
        return bool(self._call("report", **arguments))

    def incumbent(self) -> int | None:
        trial: int | None = self._call("incumbent")
        return trial

    def _call(self, name: str, **arguments: Any) -> Any:
        """Return the answer to a call, after the reports that were not told yet."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps([*self._untold, (name, arguments)]) + "\n")
        self._process.stdin.flush()
        self._untold.clear()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the peer ended with {self._process.wait()}; its error is above")
        return json.loads(line)


@cache
def _process(module: str) -> subprocess.Popen[str]:
    python = os.environ.get(VARIABLE)
    if not python:
        raise NotInstalled(f"{module}: not installed; {VARIABLE} names no Python")
    name = f"tests.bench.search.peers.{module}"
    process = subprocess.Popen(
        [python, "-m", name],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    if process.stdout.readline() != "ready\n":
        raise NotInstalled(f"{module}: not installed in the environment of {python}")
    return process
