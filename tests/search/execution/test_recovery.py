"""When and where a trial starts again whose attempt died, on nodes and by a clock of the test's."""

from collections import Counter

import pytest

from search.execution.faults.failures import Fault
from search.execution.faults.recovery import Recovery


class World:
    """Nodes, and what is known of deaths there."""

    def __init__(self, *nodes: str):
        self.places = dict.fromkeys(nodes, 2)
        self.now_s = 0.0
        self.kills: Counter[str] = Counter()
        self.said: list[str] = []
        self.recovery = Recovery(
            lambda: self.places, self.said.append, lambda node: self.kills[node], lambda: self.now_s
        )

    def start(self, trial: int, node: str) -> None:
        self.recovery.started(trial, node, f"host-{node}", self.kills[node])


def test_a_growing_pause_that_a_report_ends() -> None:
    world = World("a")
    pauses = []
    for _ in range(6):
        world.start(7, "a")
        world.now_s += 100
        world.recovery.died(7, "process")
        pauses.append(world.recovery.pause_s(7))
    assert pauses == [1, 4, 16, 64, 120, 120]
    world.now_s += 119
    assert world.recovery.pause_s(7) == 1 and world.recovery.pause_s(8) == 0
    world.recovery.reported(7)
    world.recovery.died(7, "process")
    assert world.recovery.pause_s(7) == 1


def test_storage_is_asked_for_more_often_and_a_lost_node_costs_no_pause() -> None:
    world = World("a")
    for _ in range(5):
        world.recovery.died(1, "storage")
    assert world.recovery.pause_s(1) == 30
    world.recovery.died(2, "node")
    assert world.recovery.pause_s(2) == 0


def test_another_node_where_there_is_one() -> None:
    world = World("a")
    world.start(1, "a")
    world.recovery.died(1, "error")
    assert world.recovery.avoid(1) == () and not world.recovery.has_another_node(1)
    world.places |= {"b": 2, "c": 2}
    assert world.recovery.avoid(1) == ("a",) and world.recovery.avoid(2) == ()
    assert world.recovery.has_another_node(1)
    for node in "bc":
        world.start(1, node)
        world.recovery.died(1, "error")
    assert world.recovery.avoid(1) == ("b", "c")  # where it died longest ago is better than none
    assert not world.recovery.has_another_node(1)
    world.recovery.reported(1)
    assert world.recovery.avoid(1) == ()


def test_nobody_waits_for_another_node_that_is_full() -> None:
    world = World("a", "b")
    for trial, node in enumerate("aabb"):
        world.start(trial, node)
    world.recovery.died(0, "process")
    assert world.recovery.avoid(0, living=[1, 2, 3]) == ()
    assert world.recovery.avoid(0, living=[0, 1, 2]) == ("a",)
    assert world.recovery.avoid(0, living=[2, 9]) == ()  # 9 will perhaps start on b


def test_deaths_that_come_together_are_the_machines() -> None:
    """On one node, within seconds, of different trials, and nothing reported between."""
    world = World("a", "b")
    for trial, node in enumerate("aab"):
        world.start(trial, node)
    assert world.recovery.died(0, "process") == "process"
    world.now_s += 5
    assert world.recovery.died(2, "process") == "process"
    assert world.recovery.died(0, "process") == "process"
    assert world.recovery.died(1, "process") == "machine"
    world.now_s += 11
    world.recovery.reported(1)
    assert world.recovery.died(0, "process") == "process"
    world.now_s += 11
    assert world.recovery.died(1, "process") == "process"
    assert world.recovery.died(0, "error") == "error"


def test_a_node_that_only_kills_is_left_alone_for_a_while_and_named() -> None:
    world = World("a", "b")
    for trial in range(3):
        world.start(trial, "a")
        world.recovery.died(trial, "process")
    assert world.said == ["node host-a: 3 attempts in a row died there: it is left alone for 60 s"]
    assert world.recovery.left_alone() == {"a"} and world.recovery.avoid(9) == ("a",)
    world.now_s += 61
    assert world.recovery.left_alone() == set() and world.recovery.avoid(9) == ()
    world.start(9, "a")
    world.recovery.died(9, "process")
    assert world.said[-1].endswith("for 120 s")
    world.now_s += 121
    world.start(9, "a")
    world.recovery.reported(9)
    world.recovery.died(9, "process")
    assert world.recovery.left_alone() == set() and len(world.said) == 2


def test_the_last_node_is_never_left_alone() -> None:
    world = World("a", "b")
    for node in "ab":
        for trial in range(4):
            world.start(trial, node)
            world.recovery.died(trial, "hung")
    assert world.recovery.left_alone() == {"a"} and len(world.said) == 1
    world.places = {"a": 2, "b": 0}
    assert world.recovery.avoid(0) == ()
    assert not world.recovery.can_start(("a",)) and world.recovery.can_start(())


def test_one_trial_alone_makes_no_bad_node() -> None:
    world = World("a", "b")
    for _ in range(5):
        world.start(1, "a")
        world.recovery.died(1, "process")
    assert not world.said


@pytest.mark.parametrize(("more", "cause"), [(0, "process"), (1, "memory")])
def test_the_kernel_tells_of_memory(more: int, cause: str) -> None:
    world = World("a")
    world.kills["a"] = 3
    world.start(1, "a")
    world.kills["a"] += more
    fault = Fault("process", "ActorDiedError: it died", killed=True)
    told = world.recovery.told_by_the_kernel(1, fault)
    assert told.cause == cause and told.reason.endswith("it died")
    assert ("host-a ran out of memory" in told.reason) == bool(more)
    assert world.recovery.told_by_the_kernel(1, fault) == fault  # told once
    for trial in (2, 3):
        world.start(trial, "a")
    world.kills["a"] += 2 * more
    told_of = [world.recovery.told_by_the_kernel(trial, fault).cause for trial in (2, 3)]
    assert told_of == [cause, cause]
    alive = fault._replace(killed=False)
    world.kills["a"] += 1
    assert world.recovery.told_by_the_kernel(1, alive) == alive


def test_attempts_that_could_not_say_where_they_ran_are_laid_on_no_node() -> None:
    world = World("a")
    world.start(1, "a")
    world.start(1, "")
    killed = Fault("process", "its process died", killed=True)
    for trial in (1, 2):
        assert world.recovery.told_by_the_kernel(trial, killed) == killed
        assert world.recovery.died(trial, "process") == "process"
        world.recovery.reported(trial)
    assert world.recovery.left_alone() == set() and world.said == []


def test_nothing_starts_on_a_node_that_leaves() -> None:
    world = World("a", "b")
    world.start(1, "a")
    world.start(2, "b")
    world.recovery.leaves("a")
    assert world.recovery.left_alone() == {"a"}
    assert world.recovery.on("a", {1, 2}) == [1]
    assert world.recovery.avoid(1) == ("a",)
    world.recovery.ended(1)
    assert world.recovery.on("a", {1, 2}) == []
    world.recovery.leaves("b")
    assert not world.recovery.can_start(world.recovery.avoid(1)), "there is none left"
