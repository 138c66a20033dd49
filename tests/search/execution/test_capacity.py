"""How many trials fit, on clusters that are only described."""

from typing import Any

import pytest

from search.execution.capacity import Slots


@pytest.mark.parametrize(
    ("cpus", "gpus", "nodes", "fit"),
    [
        (1, 0, [(2, 0)], 2),
        (8, 1, [(16, 4), (16, 1)], 3),  # two by the first one's CPUs, one by the second's GPU
        (1, 0.5, [(16, 2)], 4),
        (1, 0.4, [(16, 2)], 4),  # a share lies on one device: 5 x 0.4 = 2 does not fit
        (1, 2, [(16, 3), (16, 1)], 1),
        (4, 0, [(2, 0), (2, 0)], 0),  # a trial lies on one node
    ],
)
def test_slots_are_what_fits_on_each_node(
    monkeypatch: pytest.MonkeyPatch,
    cpus: int,
    gpus: float,
    nodes: list[tuple[int, int]],
    fit: int,
) -> None:
    described = [
        {"NodeID": str(number), "Resources": {"CPU": float(c), "GPU": float(g)}}
        for number, (c, g) in enumerate(nodes)
    ]
    monkeypatch.setattr("search.execution.capacity._nodes", lambda: described)
    slots = Slots(cpus, gpus)
    assert slots.count() == fit
    if fit == 0:
        with pytest.raises(ValueError, match=r"cpus_per_trial 4 .*the nodes have 2 \+ 0 and 2"):
            slots.check()


def test_waits_for_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a cluster whose head was started again, the other nodes join a little later."""
    asked, said = [], []

    def nodes() -> list[dict[str, Any]]:
        asked.append(len(asked))
        return [{"NodeID": "a", "Resources": {"CPU": 4.0 * (len(asked) > 3)}}]

    monkeypatch.setattr("search.execution.capacity._nodes", nodes)
    monkeypatch.setattr("search.execution.capacity.Slots.PERIOD_S", 0.01)
    slots = Slots(4, 0)
    slots.check(wait_s=60, say=said.append)
    assert slots.count() == 1 and len(asked) >= 4 and len(said) == 1


def test_a_full_cluster_is_spoken_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has just ended gives its place back a little later, which is no word worth."""
    free, said = [{"CPU": 1.0}, {"CPU": 3.0}], list[str]()
    monkeypatch.setattr("search.execution.capacity._free", lambda: free)
    monkeypatch.setattr("search.execution.capacity.Slots.FULL_S", 0.01)
    slots = Slots(4, 0)
    slots.say_if_full("the probe", said.append)
    assert said == ["waits    the probe: for room on the cluster, whose places are all used"]
    free.append({"CPU": 4.0})
    slots.say_if_full("the probe", said.append)
    assert len(said) == 1
