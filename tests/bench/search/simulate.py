"""Simulated time: asynchronous workers that train what a method tells them, without training."""

import heapq
import math
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from tests.bench.search.problems import EPOCHS, Curve, Problem

SHARES = np.geomspace(0.02, 1.0, 60)
"""Of the budget: when it is read how far a search has come."""


class Method(Protocol):
    """A sampler and a scheduler, together.

    Attributes:
        smoothing: A user takes the trial with the best mean of so many last validations, unless
            the method is `Choosing`.
    """

    smoothing: int

    def next(self) -> tuple[int, dict[str, Any]] | None:
        """Return a trial to start; None while there is none."""
        ...

    def report(self, trial: int, epoch: int, value: float) -> bool:
        """Take in a validation and return whether the trial goes on."""
        ...


@runtime_checkable
class Choosing(Protocol):
    """A method that says which trial it would choose."""

    def incumbent(self) -> int | None:
        """Return the trial that it would choose now; None while there is none.

        The model in hand is the trial's last, at the epoch of its last report. Asked at SHARES.
        """
        ...


class Step(NamedTuple):
    """One report."""

    time_s: float
    trial: int
    epoch: int
    value: float


class Run(NamedTuple):
    """What happened."""

    params: dict[int, dict[str, Any]]
    """Of every trial."""
    steps: list[Step]
    """In the order of time."""
    stopped: dict[int, int]
    """Epoch after which a trial was stopped before its last, for good."""
    chosen: list[int | None]
    """At SHARES of the time, the trial that a `Choosing` method would choose; else empty."""


def simulate(problem: Problem, method: Method, *, workers: int, until_s: float, seed: int) -> Run:
    """Run a search.

    Args:
        problem: What trials would report, and when.
        method: Decides.
        workers: Trials that train at once.
        until_s: When everything ends; reports after it are lost.
        seed: Of the trials' noise.
    """
    run = Run({}, [], {}, [])
    curves: dict[int, Curve] = {}
    done: dict[int, int] = {}
    due: list[tuple[float, int, int]] = []
    idle, now, order = workers, 0.0, 0

    def train(trial: int) -> None:
        nonlocal order
        seconds, epoch = curves[trial].seconds, done[trial]
        takes = seconds[epoch] - (seconds[epoch - 1] if epoch else 0.0)
        heapq.heappush(due, (now + takes, order, trial))
        order += 1

    choosing = method if isinstance(method, Choosing) else None

    def ask(before_s: float) -> None:
        while choosing and len(run.chosen) < len(SHARES):
            if SHARES[len(run.chosen)] * until_s >= before_s:
                return
            run.chosen.append(choosing.incumbent())

    while True:
        while idle and (job := method.next()):
            trial, params = job
            if trial not in curves:
                run.params[trial], curves[trial], done[trial] = (
                    params,
                    problem.curve(params, seed),
                    0,
                )
            run.stopped.pop(trial, None)
            idle -= 1
            train(trial)
        now, _, trial = heapq.heappop(due) if due else (math.inf, 0, 0)
        ask(now)
        if now == math.inf or now > until_s:
            return run
        done[trial] += 1
        epoch, value = done[trial], curves[trial].values[done[trial] - 1]
        run.steps.append(Step(now, trial, epoch, value))
        if method.report(trial, epoch, value):
            train(trial)
            continue
        idle += 1
        if epoch < EPOCHS:
            run.stopped[trial] = epoch
