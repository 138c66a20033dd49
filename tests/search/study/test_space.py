"""Dimensions and conditions, against Optuna's own distributions."""

import random
from statistics import median
from typing import Any

import optuna
import pytest

from search.study.space import (
    Dimension,
    active,
    circle,
    context,
    ordered,
)


def dimension(**values) -> Dimension:
    return Dimension.model_validate(values)


SPACE = {
    "child": dimension(type="float", low=0.0, high=1.0, when={"kind": ("a", "b"), "size": (2,)}),
    "kind": dimension(type="categorical", choices=("a", "b", "c")),
    "size": dimension(type="int", low=1, high=3),
}


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, ["kind", "size"]),
        ({"kind": "a"}, ["kind", "size"]),
        ({"kind": "a", "size": 2}, ["child", "kind", "size"]),
        ({"kind": "c", "size": 2}, ["kind", "size"]),
        ({"kind": "b", "size": 3}, ["kind", "size"]),
    ],
)
def test_a_dimension_is_active_where_its_conditions_hold(params, expected):
    assert active(SPACE, params) == expected


def test_conditions_come_first():
    assert [name for name, _ in ordered(SPACE)] == ["kind", "size", "child"]


def nested(**conditions) -> dict[str, Dimension]:
    """Dimensions with the choices 1, 2 and 3 and conditions as given, in this order."""
    return {
        name: dimension(type="categorical", choices=(1, 2, 3), when=when)
        for name, when in conditions.items()
    }


CHAIN = nested(last={"middle": [1]}, middle={"first": [1, 2]}, first={}, beside={"first": [3]})


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"first": 1, "middle": 1}, ["last", "middle", "first"]),
        ({"first": 1, "middle": 2}, ["middle", "first"]),
        # Left over from elsewhere: the middle is not searched, so neither is what hangs on it.
        ({"first": 3, "middle": 1}, ["first", "beside"]),
        ({"first": True, "middle": 1}, ["first"]),
    ],
)
def test_a_chain_of_conditions(params, expected):
    assert active(CHAIN, params) == expected
    assert [name for name, _ in ordered(CHAIN)] == ["first", "middle", "beside", "last"]


def test_context_meets_every_condition_on_the_way():
    assert context(CHAIN, "last") == {"middle": 1, "first": 1}
    both = nested(first={}, middle={"first": [1, 2]}, last={"middle": [3], "first": [3, 2]})
    assert context(both, "last") == {"middle": 3, "first": 2}
    never = nested(first={}, middle={"first": [1]}, last={"middle": [3], "first": [3, 2]})
    assert context(never, "last") is None


def test_a_circle_of_conditions_is_found():
    assert circle(CHAIN) == []
    tangled = nested(
        hangs={"a": [1]}, a={"free": [1], "b": [1]}, b={"c": [1]}, c={"a": [1]}, free={}
    )
    assert circle(tangled) == ["a", "b", "c"]
    assert circle(nested(a={"a": [1]})) == ["a"]


def test_choices_may_be_lists():
    windows = dimension(type="categorical", choices=["w80l40", [0, 100], None, True])
    assert windows.values() == ["w80l40", [0, 100], None, True]
    assert all(map(windows.contains, windows.values()))
    assert windows.contains((0, 100.0))
    assert not any(map(windows.contains, ([False, 100], [0], [0, 100, 2], 1, [])))
    space = {
        "windows": windows,
        "child": dimension(type="int", low=0, high=1, when={"windows": [[0, 100]]}),
    }
    assert active(space, {"windows": [0, 100]}) == ["windows", "child"]
    assert active(space, {"windows": "w80l40"}) == ["windows"]
    with pytest.raises(ValueError, match="twice"):
        dimension(type="categorical", choices=[["a", "b"], ["b", "a"], ("a", "b")])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            dimension(type="float", low=0.1, high=0.7, step=0.1),
            optuna.distributions.FloatDistribution(0.1, 0.7, step=0.1),
        ),
        (
            dimension(type="float", low=1e-5, high=1e-3, log=True),
            optuna.distributions.FloatDistribution(1e-5, 1e-3, log=True),
        ),
        (
            dimension(type="int", low=8, high=64, step=8),
            optuna.distributions.IntDistribution(8, 64, step=8),
        ),
        (
            dimension(type="categorical", choices=(True, 0.5, "x", None)),
            optuna.distributions.CategoricalDistribution((True, 0.5, "x", None)),
        ),
    ],
)
def test_contains_all_that_optuna_samples(ours, theirs):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(50):
        value = study.ask({"x": theirs}).params["x"]
        assert ours.contains(value)


@pytest.mark.parametrize(
    ("values", "outside"),
    [
        ({"type": "float", "low": 0.1, "high": 0.7, "step": 0.1}, [0.05, 0.8, 0.25, "0.1", True]),
        ({"type": "int", "low": 8, "high": 64, "step": 8}, [0, 9, 72, 8.0, None]),
        ({"type": "categorical", "choices": (1, "a")}, [2, True, "1", None]),
    ],
)
def test_contains_nothing_else(values, outside):
    assert not any(dimension(**values).contains(value) for value in outside)


@pytest.mark.parametrize("value", [None, [2, 3], "a"])
def test_a_choice_that_is_a_prior_is_dumped_and_read(value: Any) -> None:
    """null is one where it is a choice; without a prior, a dump is what it always was."""
    values = {"type": "categorical", "choices": ["a", None, [2, 3]]}
    plain, stated = dimension(**values), dimension(**values, prior=value)
    assert not plain.has_prior and {"prior", "confidence"}.isdisjoint(plain.model_dump())
    assert stated.has_prior and stated.model_dump()["prior"] == value
    assert Dimension.model_validate(stated.model_dump(mode="json")) == stated
    number = dimension(type="int", low=1, high=2, prior=None)
    assert not number.has_prior and "prior" not in number.model_dump()


@pytest.mark.parametrize(
    "values",
    [
        {"type": "float", "low": 1e-5, "high": 1e-1, "log": True},
        {"type": "float", "low": -1.0, "high": 1.0},
        {"type": "float", "low": 0.1, "high": 0.7, "step": 0.1},
        {"type": "int", "low": 1, "high": 64, "log": True},
        {"type": "int", "low": 2, "high": 11, "step": 3},
        {"type": "categorical", "choices": [1, "a", [2, 3]]},
    ],
)
def test_random_values_are_of_the_dimension_and_reach_its_ends(values: dict[str, Any]) -> None:
    drawn, rng = dimension(**values), random.Random(0)
    found = [drawn.draw(rng) for _ in range(2000)]
    assert all(drawn.contains(value) for value in found)
    if drawn.choices:
        assert all(choice in found for choice in drawn.choices)
        return
    assert drawn.low is not None and drawn.high is not None
    if drawn.step or drawn.type == "int":
        assert (min(found), max(found)) == pytest.approx((drawn.low, drawn.high))
    if drawn.log:
        assert median(found) == pytest.approx((drawn.low * drawn.high) ** 0.5, rel=0.5)
