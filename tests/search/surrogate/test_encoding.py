"""Points and parameters are each other's."""

import random

import numpy as np
import pytest

from search.study.space import Dimension, active, draw
from search.surrogate.encoding import INACTIVE_CHOICE, INACTIVE_NUMBER, Encoding

SPACE = {
    "decay": Dimension(
        type="float", low=1e-5, high=1e-1, log=True, when={"optimizer": ("adam", "sgd")}
    ),
    "optimizer": Dimension(type="categorical", choices=("adam", "sgd", "lion")),
    "momentum": Dimension(type="float", low=0.0, high=0.9, step=0.1, when={"optimizer": ("sgd",)}),
    "width": Dimension(type="int", low=1, high=300, log=True),
    "depth": Dimension(type="int", low=2, high=8, step=2),
    "batch": Dimension(type="categorical", choices=(8, 16, 64)),
    "nesterov": Dimension(
        type="categorical", choices=(True, False), when={"momentum": (0.8, 0.9), "batch": (8, 16)}
    ),
    "inputs": Dimension(type="categorical", choices=(["ct"], ["ct", "tmax"])),
}


def test_random_parameters_come_back() -> None:
    encoding, rng = Encoding(SPACE), random.Random(0)
    for _ in range(200):
        params = draw(SPACE, rng, {})
        back = encoding.decode(encoding.encode(params))
        assert list(back) == [name for name in SPACE if name in params]
        decay = params.pop("decay", 0.0)
        assert back.pop("decay", 0.0) == pytest.approx(decay, rel=1e-9)
        assert back == params


@pytest.mark.parametrize("nearby", [False, True])
def test_random_points_are_those_of_parameters(nearby: bool) -> None:
    encoding, rng = Encoding(SPACE), np.random.default_rng(0)
    points = encoding.draw(rng, 300)
    if nearby:
        origin, points = points, encoding.vary(rng, points, 0.15)
        assert (abs(origin - points) > 1e-9).any(axis=1).mean() > 0.7
        assert (abs(origin - points) < 1e-9).mean() > 0.4
    found = [encoding.decode(point) for point in points]
    for point, params in zip(points, found, strict=True):
        assert set(params) == set(active(SPACE, params))
        assert all(SPACE[name].contains(value) for name, value in params.items())
        assert np.allclose(encoding.encode(params), point)
    for name in SPACE:  # every value and every condition is met
        values = {str(params.get(name)) for params in found}
        few = SPACE[name].choices or (SPACE[name].type == "int" and SPACE[name].step)
        assert len(values) == len(SPACE[name].choices or "four") + bool(SPACE[name].when) or not few


def test_numbers_lie_in_their_order_and_other_choices_have_none() -> None:
    encoding = Encoding(SPACE)
    columns = dict(zip(encoding._columns, encoding.choices, strict=True))
    assert columns["batch"] == columns["width"] == 0
    assert columns["optimizer"] == 3 and columns["inputs"] == 2
    params = {"optimizer": "lion", "width": 1, "depth": 2, "batch": 16, "inputs": ["ct"]}
    point = dict(zip(encoding._columns, encoding.encode(params), strict=True))
    assert point["batch"] == 0.5 and point["depth"] == 1 / 8
    assert point["decay"] == INACTIVE_NUMBER and point["nesterov"] == INACTIVE_CHOICE
