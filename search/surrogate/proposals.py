"""Candidates for the next configuration, and what each may gain."""

from collections.abc import Iterable

import numpy as np
from scipy.special import ndtr

from search.surrogate.encoding import Array, Encoding

ANYWHERE, NEARBY = 150, 100
"""Candidates from all of the space, and near the best trials."""
PARENTS = 5
"""Trials near which candidates are drawn."""
NEAR = 0.15
"""Standard deviation of how far they are, in unit ranges."""


class Candidates:
    """Draws configurations to choose from."""

    def __init__(self, encoding: Encoding, rng: np.random.Generator):
        self._encoding, self._rng = encoding, rng

    def draw(self, best: Array, without: Iterable[Array]) -> Array:
        """Return points (candidates, columns), each once.

        Args:
            best: Points of trials, the best first.
            without: Points that are not candidates.
        """
        parents = best[self._rng.integers(0, min(PARENTS, len(best)), NEARBY)]
        drawn = np.concatenate(
            [
                self._encoding.draw(self._rng, ANYWHERE),
                self._encoding.vary(self._rng, parents, NEAR),
            ]
        )
        had = {_key(point) for point in without}
        kept = []
        for point in drawn:
            if (key := _key(point)) not in had:
                had.add(key)
                kept.append(point)
        return np.array(kept).reshape(-1, drawn.shape[1])


def _key(point: Array) -> bytes:
    return (np.round(point, 9) + 0.0).tobytes()


def expected_improvement(mean: Array, sd: Array, best: float) -> Array:
    """Return how far each of normal distributions is expected to lie above `best`, (rows,)."""
    z = (mean - best) / sd
    return np.asarray(sd * (z * ndtr(z) + np.exp(-z * z / 2) / np.sqrt(2 * np.pi)))
