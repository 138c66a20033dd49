"""How many trials a Ray cluster can hold."""

import time
from collections.abc import Callable, Container
from typing import Any

import ray


class Slots:
    """How many trials the cluster can hold at once. It follows nodes that come and go.

    A trial lies on one node. Its workers share its CPUs and GPUs without a remainder, so that they
    fit wherever it does as a whole.

    Args:
        cpus: Of one trial, all its workers together.
        gpus: Of one trial; below 1, trials share a device.
    """

    PERIOD_S = 5.0

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
        return sum(number for node, number in self._fresh().items() if node not in without)

    def nodes(self) -> set[str]:
        """Return Ray's ids of the nodes that can hold a trial, at most PERIOD_S old."""
        return {node for node, number in self._fresh().items() if number}

    def _fresh(self) -> dict[str, int]:
        if time.monotonic() >= self._next_s:
            self._by_node = {node["NodeID"]: self._on(node["Resources"]) for node in _nodes()}
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
        if self.count() == 0:
            resources = [node["Resources"] for node in _nodes()]
            have = " and ".join(f"{r.get('CPU', 0):g} + {r.get('GPU', 0):g}" for r in resources)
            raise ValueError(
                f"trials: cpus_per_trial {self._cpus} + gpus_per_trial {self._gpus:g}: no node has "
                f"them; the nodes have {have}"
            )

    def _on(self, resources: dict[str, float]) -> int:
        by_cpus = int(resources.get("CPU", 0) // self._cpus)
        if not self._gpus:
            return by_cpus
        devices = resources.get("GPU", 0)
        if self._gpus < 1:  # a share lies on one device
            return min(by_cpus, int(devices) * int(1 / self._gpus + 1e-9))
        return min(by_cpus, int(devices // self._gpus))


def _nodes() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]
