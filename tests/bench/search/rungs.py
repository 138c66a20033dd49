"""How well a rung tells the end: rank correlations in tables that `record` wrote.

    python -m tests.bench.search.rungs TABLE [TABLE…]

prints Spearman's correlation of the Dice at each rung with that at the last epoch, over the
configurations that all tables have with both seeds. A table may also be the folder OUT of `record`
while it is not finished: its runs are in random order, so it is a fair sample.
"""

import argparse
import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import spearmanr

from tests.bench.search.problems import EPOCHS

RUNGS = (1, 3, 9)
SMOOTHING = 3
"""Validations of which a rung judges the mean, as ASHA does in the bench."""
SEEDS = (0, 1)


class Correlation(NamedTuple):
    """Of one rung with the last epoch."""

    rung: int
    within: float
    """The same runs, the mean of both seeds."""
    across: float
    """With the other seed's end: what the rung says of the configuration, not of the run."""


def runs_of(path: Path) -> dict[tuple[int, int], list[float]]:
    """Return the Dice of every epoch by (configuration, seed); epochs after a divergence have 0."""
    if path.is_dir():
        found = {f.stem: json.loads(f.read_text()) for f in (path / "runs").glob("*.json")}
    else:
        found = json.loads(gzip.decompress(path.read_bytes()))["runs"]
    runs = {}
    for name, run in found.items():
        index, seed = map(int, name.split("-"))
        runs[index, seed] = run["dice"] + [0.0] * (EPOCHS - len(run["dice"]))
    return runs


def complete(runs: Mapping[tuple[int, int], Any]) -> set[int]:
    """Return the configurations that have all seeds."""
    return {index for index, _ in runs if all((index, seed) in runs for seed in SEEDS)}


def correlations(
    runs: Mapping[tuple[int, int], list[float]], chosen: set[int]
) -> list[Correlation]:
    """Return what each rung says about the end, over the chosen configurations."""
    curves = np.array([[runs[index, seed] for index in sorted(chosen)] for seed in SEEDS])

    def at(epoch: int) -> np.ndarray:
        """Return the mean of the last validations as (seeds, configurations)."""
        mean: np.ndarray = curves[:, :, max(0, epoch - SMOOTHING) : epoch].mean(axis=2)
        return mean

    found = []
    for rung in (*RUNGS, EPOCHS):
        early, end = at(rung), at(EPOCHS)
        within = [spearmanr(early[seed], end[seed]).statistic for seed in SEEDS]
        across = [spearmanr(early[seed], end[1 - seed]).statistic for seed in SEEDS]
        found.append(Correlation(rung, float(np.mean(within)), float(np.mean(across))))
    return found


def main() -> None:
    """Print a row for each table and rung."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="+", type=Path, metavar="TABLE")
    tables = {path: runs_of(path) for path in parser.parse_args().tables}
    chosen = set.intersection(*map(complete, tables.values()))
    print(f"{len(chosen)} configurations, {len(SEEDS)} seeds, mean of {SMOOTHING} validations\n")
    print(
        "| table | epoch | within a seed | across seeds | Dice at the end |\n|---|---|---|---|---|"
    )
    for path, runs in tables.items():
        ends = np.mean([runs[index, seed][-SMOOTHING:] for index in chosen for seed in SEEDS])
        for rung, within, across in correlations(runs, chosen):
            print(f"| {path} | {rung} | {within:+.3f} | {across:+.3f} | {ends:.4f} |")


if __name__ == "__main__":
    main()
