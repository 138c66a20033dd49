"""A peer that needs nothing: random search that stops at epoch 3 what is below its best there."""

import random
from typing import Any

from tests.bench.search.peers.serve import serve

RUNGS = (3, 27)


class Example:
    """One search; see `serve`. Its epochs' sum shows what it was told."""

    def __init__(self, space: dict[str, Any], seed: int, stated: Any, **_: Any):
        self._space, self._rng, self._stated = space, random.Random(seed), stated
        self._number, self._told, self._best = 0, 0, (float("-inf"), -1)

    def next(self) -> tuple[int, dict[str, Any]]:
        params = {name: self._rng.uniform(d["low"], d["high"]) for name, d in self._space.items()}
        params |= self._stated or {}
        self._stated = None
        self._number += 1
        return self._number, params | {"told": self._told}

    def report(self, trial: int, epoch: int, value: float) -> bool:
        self._told += epoch
        print("what a library prints")
        if epoch == 3:
            better = value > self._best[0]
            self._best = max(self._best, (value, trial))
            return better
        return epoch < 27

    def incumbent(self) -> int | None:
        return self._best[1] if self._best[1] > 0 else None


if __name__ == "__main__":
    serve(Example, RUNGS)
