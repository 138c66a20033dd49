"""The prior: a proper distribution around what is stated, and draws that follow it."""

import math
import random
from collections import Counter
from itertools import pairwise
from statistics import mean, median

import pytest

from search.sampler.prior import Prior
from search.study.space import Dimension, stated


def number(kind: str = "float", **settings: object) -> Dimension:
    return Dimension.model_validate({"type": kind, **settings})


def of(dimension: Dimension) -> Prior:
    return Prior({"x": dimension}, [stated({"x": dimension})])


def density(prior: Prior, value: object) -> float:
    return math.exp(prior.log_density({"x": value}))


@pytest.mark.parametrize(
    "dimension",
    [
        number("int", low=1, high=5, prior=4),
        number("int", low=0, high=12, step=3, prior=0, confidence="high"),
        number("float", low=0.1, high=0.5, step=0.1, prior=0.3, confidence="low"),
        number("categorical", choices=["a", None, [1, 2]], prior=[1, 2]),
        number("categorical", choices=["a", None, [1, 2]], prior=None),
    ],
    ids=lambda dimension: f"{dimension.type}-{dimension.prior}",
)
def test_draws_of_few_values_are_as_frequent_as_their_density_says(dimension: Dimension) -> None:
    values, prior, rng = all_values(dimension), of(dimension), random.Random(0)
    densities = [density(prior, value) for value in values]
    assert mean(densities) == pytest.approx(1)
    assert max(densities) == density(prior, dimension.prior)
    drawn = Counter(str(prior.sample(rng)["x"]) for _ in range(4000))
    assert set(drawn) <= set(map(str, values))
    for value, dense in zip(values, densities, strict=True):
        assert drawn[str(value)] / 4000 == pytest.approx(dense / len(values), abs=0.03)


def all_values(dimension: Dimension) -> list[object]:
    if dimension.choices is not None:
        return list(dimension.choices)
    assert dimension.low is not None and dimension.high is not None
    step = dimension.step or 1
    count = round((dimension.high - dimension.low) / step) + 1
    return [round(dimension.low + step * index, 9) for index in range(count)]


@pytest.mark.parametrize("confidence", ["low", "medium", "high"])
def test_a_continuous_density_is_one_on_the_scale_on_which_it_is_drawn(confidence: str) -> None:
    dimension = number(low=1e-5, high=1e-1, log=True, prior=1e-4, confidence=confidence)
    prior, rng = of(dimension), random.Random(1)
    at = [10 ** (-5 + 4 * (index + 0.5) / 400) for index in range(400)]
    assert mean(density(prior, value) for value in at) == pytest.approx(1, abs=1e-3)
    drawn = [prior.sample(rng)["x"] for _ in range(2000)]
    assert all(dimension.contains(value) for value in drawn)
    below = sum(density(prior, value) for value in at if value < 1e-4) / 400
    assert mean(value < 1e-4 for value in drawn) == pytest.approx(below, abs=0.04)


def test_more_confidence_is_nearer() -> None:
    spreads = []
    for confidence in ("low", "medium", "high"):
        prior = of(number(low=0, high=1, prior=0.5, confidence=confidence))
        rng = random.Random(2)
        spreads.append(median(abs(prior.sample(rng)["x"] - 0.5) for _ in range(500)))
    assert all(wider > 1.5 * narrower for wider, narrower in pairwise(spreads))


def test_an_int_on_a_log_scale() -> None:
    prior = of(number("int", low=1, high=4, log=True, prior=2))
    drawn = Counter(prior.sample(random.Random(seed))["x"] for seed in range(3000))
    scale = [math.log((value + 0.5) / (value - 0.5)) / math.log(9) for value in (1, 2, 3, 4)]
    assert sum(scale) == pytest.approx(1)
    for value, width in zip((1, 2, 3, 4), scale, strict=True):
        assert drawn[value] / 3000 == pytest.approx(density(prior, value) * width, abs=0.03)


def test_the_far_end_is_unlikely_but_possible() -> None:
    prior = of(number(low=0, high=1, prior=0, confidence="high"))
    assert math.log(0.04) < prior.log_density({"x": 1.0}) < math.log(0.06)


SPACE = {
    "kind": number("categorical", choices=["a", "b"], prior="b", confidence="high"),
    "of_a": number(low=0, high=1, when={"kind": ["a"]}, prior=0.2),
    "of_b": number("int", low=0, high=9, when={"kind": ["b"]}, prior=7),
    "free": number(low=0, high=1),
}


def test_conditions_hold_and_what_is_not_stated_does_not_count() -> None:
    prior, rng = Prior(SPACE, [stated(SPACE)]), random.Random(3)
    for _ in range(200):
        params = prior.sample(rng)
        assert list(params) == ["kind", f"of_{params['kind']}", "free"]
    given = {"kind": "a", "free": 0.5}
    drawn = prior.sample(rng, given)
    assert drawn == {**given, "of_a": drawn["of_a"]}
    assert prior.log_density(drawn) == prior.log_density({**drawn, "free": 0.1})
    centre = prior.centre(0, rng)
    assert centre == {"kind": "b", "of_b": 7, "free": centre["free"]}
    assert set(prior.centre(0, rng, {"kind": "a"})) == {"kind", "of_a", "free"}


def test_several_centres_are_a_mixture() -> None:
    space = {"x": number(low=0, high=1), "y": number(low=0, high=1)}
    one, other = {"x": 0.1, "y": 0.1}, {"x": 0.9, "y": 0.9}
    both = Prior(space, [one, other])
    parts = [Prior(space, [centre]) for centre in (one, other)]
    for params in (one, other, {"x": 0.3, "y": 0.8}):
        each = [math.exp(part.log_density(params)) for part in parts]
        assert math.exp(both.log_density(params)) == pytest.approx(mean(each))
    drawn = [both.sample(random.Random(seed)) for seed in range(300)]
    assert mean(params["x"] < 0.5 for params in drawn) == pytest.approx(0.5, abs=0.1)
    near = mean((params["x"] < 0.5) == (params["y"] < 0.5) for params in drawn)
    assert near > 0.9
