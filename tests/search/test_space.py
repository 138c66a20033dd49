"""Dimensions and conditions, against Optuna's own distributions."""

import optuna
import pytest

from search.space import Dimension, active, ordered


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
def test_active(params, expected):
    assert active(SPACE, params) == expected


def test_conditions_come_first():
    assert [name for name, _ in ordered(SPACE)] == ["kind", "size", "child"]


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
