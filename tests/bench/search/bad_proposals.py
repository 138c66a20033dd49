"""How many proposals cannot be trained, by sampler and scheduler, in simulated time.

    python -m tests.bench.search.bad_proposals [SAMPLER…]

Memory is width times batch, and half of the space needs too much; of the rest, a fifth diverges at
a learning rate that is too high. Shares after trial 20 of 60, four workers at once, the mean of the
seeds. Random search is bad in 0.53 of its proposals. gp takes half a second of CPU a proposal.
"""

import argparse
import math
from collections.abc import Iterator
from statistics import mean
from typing import Any, ClassVar, NamedTuple

from search.study.space import Dimension
from tests.bench.search.methods import Segtune
from tests.bench.search.problems import EPOCHS, Curve, Params, rng_of
from tests.bench.search.simulate import simulate

NUM_TRIALS, FROM, WORKERS = 60, 20, 4
SAMPLERS = ("random", "qmc", "tpe", "nsga2", "gp")
SCHEDULERS: dict[str, dict[str, Any]] = {
    "none": {"type": "none", "max_t": EPOCHS, "smoothing": 3},
    "asha": {"type": "asha", "grace_period": 3, "max_t": EPOCHS, "smoothing": 3},
}


class Memory:
    """Dice rises with the memory that is used, up to a limit that half of the space is beyond."""

    name = "memory"
    metric = "val/dice"
    seconds = float(EPOCHS)
    LIMIT = 2048
    """Of width times batch."""
    MAX_LR = 10**-1.8
    """Beyond it trials diverge after two epochs."""
    space: ClassVar[dict[str, Dimension]] = {
        "width": Dimension(type="int", low=8, high=128),
        "batch": Dimension(type="int", low=4, high=64),
        "lr": Dimension(type="float", low=1e-5, high=1e-1, log=True),
    }

    def bad(self, params: Params) -> bool:
        """Return whether a trial cannot be trained."""
        return self._memory(params) > 1 or params["lr"] > self.MAX_LR

    def curve(self, params: Params, seed: int) -> Curve:
        seconds = [float(epoch) for epoch in range(1, EPOCHS + 1)]
        if self.bad(params):
            trained = 0 if self._memory(params) > 1 else 2
            return Curve([0.1] * trained + [math.nan] * (EPOCHS - trained), seconds)
        rng, final = rng_of(seed, params), self._dice(params)
        values = [
            final * (1 - math.exp(-4 * epoch / EPOCHS)) + rng.gauss(0, 0.02)
            for epoch in range(1, EPOCHS + 1)
        ]
        return Curve(values, seconds)

    def regret(self, params: Params, epoch: int) -> float:
        return 1.0 if self.bad(params) else (0.7 - self._dice(params)) / 0.2

    def _memory(self, params: Params) -> float:
        return float(params["width"] * params["batch"] / self.LIMIT)

    def _dice(self, params: Params) -> float:
        return 0.3 + 0.4 * self._memory(params) - 0.1 * abs(math.log10(params["lr"]) + 3)


class Row(NamedTuple):
    """The searches of one sampler under one scheduler."""

    sampler: str
    scheduler: str
    share: float
    """Of the proposals after trial 20 that cannot be trained."""
    best: float
    """Regret of the best configuration that was proposed."""


def row(sampler: str, scheduler: str, seeds: int) -> Row:
    """Search with every seed."""
    problem, shares, best = Memory(), [], []
    for seed in range(seeds):
        method = Segtune(
            problem,
            seed,
            sampler={"type": sampler},
            scheduler=SCHEDULERS[scheduler],
            trials={"num_trials": NUM_TRIALS},
        )
        run = simulate(problem, method, workers=WORKERS, until_s=math.inf, seed=seed)
        tried = list(run.params.values())
        assert len(tried) == NUM_TRIALS
        shares.append(mean(map(problem.bad, tried[FROM:])))
        best.append(min(problem.regret(params, EPOCHS) for params in tried))
    return Row(sampler, scheduler, mean(shares), mean(best))


def rows(samplers: tuple[str, ...], seeds: int) -> Iterator[Row]:
    """Yield a row for each sampler and scheduler."""
    for sampler in samplers:
        for scheduler in SCHEDULERS:
            yield row(sampler, scheduler, seeds)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("samplers", nargs="*", metavar="SAMPLER", help=f"of: {', '.join(SAMPLERS)}")
    parser.add_argument("--seeds", type=int, default=8)
    arguments = parser.parse_args()
    print("| sampler | scheduler | bad proposals | regret of the best |\n|---|---|---|---|")
    for found in rows(tuple(arguments.samplers) or SAMPLERS, arguments.seeds):
        print(
            f"| {found.sampler} | {found.scheduler} | {found.share:.2f} | {found.best:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
