"""When a trial whose attempt died may start again, and on which nodes.

Each death in a row lets a trial wait longer, and keeps it from the node where it died while there
is another. Processes of several trials that die on one node within seconds died of that node. One
on which processes only die, one after the other, is left alone for a while.
"""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from search.execution.faults.failures import Cause, Fault
from search.execution.faults.memory import oom_kills_on

PAUSE_S = 1.0
"""After a trial's first death; each further one before it reports again waits PAUSE_FACTOR times
as long, up to MAX_PAUSE_S."""
PAUSE_FACTOR = 4.0
MAX_PAUSE_S = 120.0
MAX_STORAGE_PAUSE_S = 30.0
"""A storage that is away is asked for more often: it costs a failed start and no more."""
TOGETHER_S = 10.0
"""Between deaths on one node that are one fault of the node."""
KILLS = 3
"""So many deaths in a row on a node, of two trials or more, and it is left alone."""
LEFT_ALONE_S = 60.0
"""At first; twice as long each time in a row, up to MAX_LEFT_ALONE_S."""
MAX_LEFT_ALONE_S = 600.0

OF_THE_NODE = ("process", "hung", "memory", "machine", "error")
"""Causes that may lie in the node."""


@dataclass
class _Deaths:
    """Of a trial since it last reported."""

    count: int = 0
    again_s: float = 0.0
    """When it may start again."""
    nodes: list[str] = field(default_factory=list)
    """Where it died, the last one last."""


@dataclass
class _Node:
    """What died on a node since anything there last reported."""

    host: str
    deaths: list[tuple[float, int]] = field(default_factory=list)
    """When, and which trial's."""
    left_alone: int = 0
    """How often in a row."""
    until_s: float = 0.0
    claimed: int = 0
    """Of what its kernel ended for want of memory, up to which one it was some attempt's death."""


class Recovery:
    """What is known of trials whose attempts died, and of the nodes where they did.

    Args:
        places: How many trials each node can hold at this moment, by Ray's id of it.
        say: Is told of nodes that are left alone.
        count: Asks a node how many processes its kernel has ended for want of memory.
        clock: Seconds.
    """

    def __init__(
        self,
        places: Callable[[], Mapping[str, int]],
        say: Callable[[str], None] = print,
        count: Callable[[str], int] = oom_kills_on,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._places = places
        self._say = say
        self._count = count
        self._clock = clock
        self._deaths: dict[int, _Deaths] = {}
        self._where: dict[int, str] = {}
        self._oom_kills: dict[int, int] = {}
        """At each attempt's node, when it started."""
        self._nodes: dict[str, _Node] = {}
        self._leaving: set[str] = set()
        """Nodes that are to be empty soon, for good."""

    def started(self, trial: int, node: str, host: str, oom_kills: int) -> None:
        """Take note of where an attempt runs, and how often the kernel had killed there.

        Args:
            trial: Its number.
            node: Ray's id of it; empty where the attempt could not say.
            host: The node's name for people.
            oom_kills: Of the node's kernel so far.
        """
        if not node:  # it died first, or its node is too busy: no fault may be laid on a node
            self._where.pop(trial, None)
            return
        self._where[trial], self._oom_kills[trial] = node, oom_kills
        self._nodes.setdefault(node, _Node(host))

    def _node_of(self, trial: int) -> _Node | None:
        return self._nodes[self._where[trial]] if trial in self._where else None

    def reported(self, trial: int) -> None:
        """Take note that a trial goes on, and that its node lets it."""
        self._deaths.pop(trial, None)
        if node := self._node_of(trial):
            node.deaths.clear()
            node.left_alone = 0

    def told_by_the_kernel(self, trial: int, fault: Fault) -> Fault:
        """Return a fault with its cause, where a process was perhaps killed for want of memory."""
        node = self._node_of(trial)
        if not (fault.killed and node):
            return fault
        known = max(self._oom_kills[trial], node.claimed)
        if self._count(self._where[trial]) <= known:
            return fault
        node.claimed = known + 1
        who = f"{node.host} ran out of memory, and its kernel ended this process"
        return fault._replace(cause="memory", reason=f"{who}: {fault.reason}")

    def died(self, trial: int, cause: Cause) -> Cause:
        """Take note of a death; return its cause, which may turn out to be the machine."""
        now_s, node = self._clock(), self._node_of(trial)
        if node and cause in OF_THE_NODE:
            others = {other for when, other in node.deaths if now_s - when <= TOGETHER_S} - {trial}
            if others and cause == "process":
                cause = "machine"
            node.deaths.append((now_s, trial))
        self._rest(trial, cause, now_s)
        if node and cause in OF_THE_NODE:
            self._leave_alone(self._where[trial], now_s)
        self._where.pop(trial, None)
        return cause

    def _rest(self, trial: int, cause: Cause, now_s: float) -> None:
        deaths = self._deaths.setdefault(trial, _Deaths())
        if cause == "node":  # another takes its place at once
            return
        longest_s = MAX_STORAGE_PAUSE_S if cause == "storage" else MAX_PAUSE_S
        deaths.again_s = now_s + min(longest_s, PAUSE_S * PAUSE_FACTOR**deaths.count)
        deaths.count += 1
        if node := self._where.get(trial):
            deaths.nodes = [*(name for name in deaths.nodes if name != node), node]

    def _leave_alone(self, name: str, now_s: float) -> None:
        node = self._nodes[name]
        only_kills = len(node.deaths) >= KILLS and len({trial for _, trial in node.deaths}) > 1
        others = self._usable() - self.left_alone() - {name}
        if not (only_kills and others) or now_s < node.until_s:
            return
        pause_s = min(MAX_LEFT_ALONE_S, LEFT_ALONE_S * 2**node.left_alone)
        node.until_s, node.left_alone = now_s + pause_s, node.left_alone + 1
        self._say(
            f"node {node.host}: {len(node.deaths)} attempts in a row died there: it is left alone "
            f"for {pause_s:.0f} s"
        )

    def ended(self, trial: int) -> None:
        """Take note that an attempt ended by itself, so that it runs nowhere now."""
        self._where.pop(trial, None)

    def leaves(self, node: str) -> None:
        """Take note that a node has to go, so that nothing starts there any more."""
        self._leaving.add(node)

    def on(self, node: str, living: Collection[int]) -> list[int]:
        """Return which trials, of those that have an attempt, run on a node."""
        return [trial for trial in living if self._where.get(trial) == node]

    def left_alone(self) -> set[str]:
        """Return the nodes on which nothing is to start now."""
        now_s = self._clock()
        resting = {name for name, node in self._nodes.items() if now_s < node.until_s}
        return resting | self._leaving

    def pause_s(self, trial: int) -> float:
        """Return how many seconds a trial has yet to wait."""
        deaths = self._deaths.get(trial)
        return max(0.0, deaths.again_s - self._clock()) if deaths else 0.0

    def avoid(self, trial: int, living: Collection[int] = ()) -> tuple[str, ...]:
        """Return the nodes on which a trial is not to start; at least one is left for it.

        Those that are left alone, and where it died itself, as long as another has room: one death
        is no reason to wait while a GPU idles.

        Args:
            trial: Its number.
            living: The trials that have an attempt.
        """
        usable, avoided = self._usable(), self._leaving & {*self._places()}
        for name in sorted(self.left_alone() & usable):
            if len(avoided & usable) + 1 < len(usable):
                avoided.add(name)
        died_on = self._deaths[trial].nodes if trial in self._deaths else []
        for name in reversed(died_on):
            if name in usable and self._room(avoided | {name}, {*living} - {trial}) > 0:
                avoided.add(name)
        return tuple(sorted(avoided))

    def _room(self, without: set[str], living: set[int]) -> int:
        """Return how many trials can start now on all other nodes."""
        places = sum(number for name, number in self._places().items() if name not in without)
        return places - sum(self._where.get(trial, "") not in without for trial in living)

    def _usable(self) -> set[str]:
        there = {name for name, number in self._places().items() if number}
        return there - self._leaving

    def has_another_node(self, trial: int) -> bool:
        """Return whether there is a node on which a trial has not died since it last reported."""
        died_on = self._deaths[trial].nodes if trial in self._deaths else []
        return bool(self._usable() - {*died_on})

    def can_start(self, avoid: tuple[str, ...]) -> bool:
        """Return whether there is still a node that an attempt may start on."""
        return not avoid or bool(self._usable() - {*avoid})
