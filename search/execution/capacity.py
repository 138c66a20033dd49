"""How many trials a Ray cluster can hold."""

import time
from collections.abc import Callable, Container
from typing import Any

import ray
from ray._private.state import available_resources_per_node  # the public one adds up all nodes


class Slots:
    """How many trials the cluster can hold at once. It follows nodes that come and go.

    A trial lies on one node. Its workers share its CPUs and GPUs without a remainder, so that they
    fit wherever it does as a whole.

    Args:
        cpus: Of one trial, all its workers together.
        gpus: Of one trial; below 1, trials share a device.
    """

    PERIOD_S = 5.0
    FULL_S = 3.0

    def __init__(self, cpus: int, gpus: float):
        self._cpus = cpus
        self._gpus = gpus
        self._by_node: dict[str, int] = {}
        self._next_s = 0.0

    def count(self, without: Container[str] = ()) -> int:
        """Return the number of trials that fit, at most PERIOD_S old.

        Args:
            without: Ray's ids of nodes that do not count.
        """
        return sum(number for node, number in self.by_node().items() if node not in without)

    def by_node(self) -> dict[str, int]:
        """Return the number of trials that fit on each node, by Ray's id of it."""
        if time.monotonic() >= self._next_s:
            self._by_node = {
                node["NodeID"]: _fitting(node["Resources"], self._cpus, self._gpus)
                for node in _nodes()
            }
            self._next_s = time.monotonic() + self.PERIOD_S
        return self._by_node

    def check(self, wait_s: float = 0, say: Callable[[str], None] = print) -> None:
        """Refuse trials that fit on no node: Tune would wait for ever.

        Args:
            wait_s: How long nodes may take to join.
            say: Is told, once, that this waits.

        Raises:
            ValueError: With what a trial needs and the nodes have.
        """
        end_s = time.monotonic() + wait_s
        if wait_s and self.count() == 0:
            say(f"no node has what a trial needs; waiting up to {wait_s:.0f} s for one that has")
        while self.count() == 0 and time.monotonic() < end_s:
            time.sleep(self.PERIOD_S)
        if problem := self.problem(self._cpus, self._gpus):
            raise ValueError(problem)

    def are_used(self) -> bool:
        """Return whether no place for a trial is free now."""
        return not any(_fitting(each, self._cpus, self._gpus) for each in _free())

    def say_if_full(self, what: str, say: Callable[[str], None] = print) -> None:
        """Say for what something of a trial's size will wait that is to begin now.

        Args:
            what: It is.
            say: Is told, once, where nothing of the cluster is free after FULL_S: what has just
                ended gives its place back a little later.
        """
        end_s = time.monotonic() + self.FULL_S
        while self.are_used():
            if time.monotonic() >= end_s:
                say(f"waits    {what}: for room on the cluster, whose places are all used")
                return
            time.sleep(self.FULL_S / 10)

    def problem(self, cpus: int, gpus: float) -> str:
        """Return why trials of a size have no room on any node; empty if they have."""
        resources = [node["Resources"] for node in _nodes()]
        if any(_fitting(each, cpus, gpus) for each in resources):
            return ""
        have = " and ".join(f"{r.get('CPU', 0):g} + {r.get('GPU', 0):g}" for r in resources)
        return (
            f"trials: cpus_per_trial {cpus} + gpus_per_trial {gpus:g}: no node has them; the nodes "
            f"have {have}"
        )

    def resize(self, cpus: int, gpus: float) -> None:
        """Count trials of another size from here on."""
        self._cpus, self._gpus, self._next_s = cpus, gpus, 0.0


def _fitting(resources: dict[str, float], cpus: int, gpus: float) -> int:
    """Return how many trials of a size fit on a node."""
    by_cpus = int(resources.get("CPU", 0) // cpus)
    if not gpus:
        return by_cpus
    devices = resources.get("GPU", 0)
    if gpus < 1:  # a share lies on one device
        return min(by_cpus, int(devices) * int(1 / gpus + 1e-9))
    return min(by_cpus, int(devices // gpus))


def _free() -> list[dict[str, float]]:
    return [*available_resources_per_node().values()]


def _nodes() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]
