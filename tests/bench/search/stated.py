"""What a user may know before a search: a configuration, good, middling or bad."""

import random

from search.study.space import draw
from tests.bench.search.problems import EPOCHS, Params, Problem

STATED = {"good": (25, 0), "middling": (5, 0), "bad": (5, -1)}
"""How many random configurations it is one of, and its place among them by the truth."""


def stated(problem: Problem, seed: int, how: str) -> Params:
    """Return the configuration that is stated in a search with this seed."""
    number, place = STATED[how]
    rng = random.Random(f"stated/{problem.name}/{seed}")
    drawn = [draw(problem.space, rng, given={}) for _ in range(number)]
    return sorted(drawn, key=lambda params: problem.regret(params, EPOCHS))[place]
