"""What a study has tried: everything is deterministic, so a configuration is trained once.

Compared are the searched parameters of searched trials; those whose conditions do not hold are none
of them. Neither references nor trials of earlier studies count: the former stand beside the search,
and what the latter did is no result of this study.
"""

import random
from collections.abc import Mapping
from itertools import islice
from typing import Any

from search.study.sampler_limits import combinations, continuous
from search.study.space import Dimension, among

LEFT = 1000
"""Untried combinations among which one is drawn at most."""


class Tried:
    """The configurations of a study's searched trials, and those that the trainer refused.

    Args:
        space: The study's.
    """

    def __init__(self, space: Mapping[str, Dimension]):
        self._space = space
        self._trials: dict[tuple[tuple[str, Any], ...], int | None] = {}

    def __contains__(self, params: Mapping[str, Any]) -> bool:
        return self._key(params) in self._trials

    def add(self, params: Mapping[str, Any], trial: int | None) -> None:
        """Take in a trial's parameters, or with None those that no trial can have."""
        self._trials.setdefault(self._key(params), trial)

    def trial(self, params: Mapping[str, Any]) -> int | None:
        """Return the first trial with these parameters, None if there is none."""
        return self._trials.get(self._key(params))

    def left(self, given: Mapping[str, Any], seed: int) -> dict[str, Any] | None:
        """Return an untried combination with the given values; None if there is none.

        Of a space with a continuous dimension, which always has more, none is known.
        """
        if continuous(self._space):
            return None
        fitting = (
            params
            for params in combinations(self._space)
            if given.keys() <= params.keys()
            and all(among(params[name], (value,)) for name, value in given.items())
            and params not in self
        )
        first = list(islice(fitting, LEFT))
        return random.Random(seed).choice(first) if first else None

    def _key(self, params: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
        return tuple((name, self._plain(name, params[name])) for name in sorted(params))

    def _plain(self, name: str, value: Any) -> Any:
        """Return a choice as its place, a number without the error of its steps."""
        choices = self._space[name].choices
        if choices is None:
            return f"{value:.12g}"
        return next(i for i, choice in enumerate(choices) if among(value, (choice,)))
