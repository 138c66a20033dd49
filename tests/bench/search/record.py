"""Record what every configuration of a grid does on the phantom: a search space as a table.

    segtune phantom datasets/phantom20 --num-cases 20
    segtune prepare datasets/phantom20 prepared/phantom20 --image-size 32
    python -m tests.bench.search.record prepared/phantom20 OUT

trains 120 configurations x 2 seeds for 27 epochs each (about 11 s of CPU a run), one file a run
in OUT, and writes OUT/phantom_table.json.gz when all are there. Called again it goes on where it
was; a second process may come from the other end (`--backwards`). The runs are in random order, so
that an unfinished table is a fair sample.
"""

import argparse
import gzip
import itertools
import json
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainer.config import TrainConfig
from trainer.configfile import build, nest
from trainer.data.store import Store
from trainer.exceptions import Diverged
from trainer.files.atomic import write_atomically
from trainer.loop import fit

EPOCHS = 27
SEEDS = (0, 1)
TRAIN: dict[str, Any] = {
    "device": "cpu",
    "model.family": "medsegdiff_v1",
    "model.width": 8,
    "model.depth": 3,
    "model.attention_levels": 0,
    "loss.bce": 0.0,
    "optimizer.warmup_images": 60,
    "optimizer.ema_half_life_images": 60,
    "epochs": EPOCHS,
    "epoch_images": 64,
}
GRID: dict[str, list[Any]] = {
    "optimizer.lr": [1e-4, 3.2e-4, 1e-3, 3.2e-3, 1e-2],
    "batch.effective": [4, 16],
    "diffusion.target": ["x_start", "v", "eps"],
    "diffusion.input_scale": [0.1, 1.0],
    "loss.dice": [0.0, 1.0],
}
TABLE = "phantom_table.json.gz"


def main() -> None:
    """Train what is not yet trained, then write the table if nothing is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--backwards", action="store_true", help="begin with the last run")
    arguments = parser.parse_args()
    (arguments.out / "runs").mkdir(parents=True, exist_ok=True)
    runs = list(shuffled())
    for number, (index, params, seed) in enumerate(reversed(runs) if arguments.backwards else runs):
        path = arguments.out / "runs" / f"{index:03d}-{seed}.json"
        if path.exists():
            continue
        curve = train(arguments.store, params, seed)
        text = json.dumps({"params": params, "seed": seed, **curve})
        write_atomically(path, lambda temporary, text=text: temporary.write_text(text))
        print(f"{number + 1}/{len(runs)} {params} {seed}: {curve['dice'][-1:]}", flush=True)
    write_table(arguments.out, Store.open(arguments.store).content_hash)


def shuffled() -> Iterator[tuple[int, dict[str, Any], int]]:
    """Yield every run as (configuration's number in the grid, parameters, seed)."""
    configurations = [
        dict(zip(GRID, values, strict=True)) for values in itertools.product(*GRID.values())
    ]
    order = list(enumerate(configurations))
    random.Random(0).shuffle(order)
    for index, params in order:
        for seed in SEEDS:
            yield index, params, seed


def train(store: Path, params: dict[str, Any], seed: int) -> dict[str, Any]:
    """Train one configuration.

    Returns:
        `dice` of every validation, the `seconds` of CPU time up to each (training and validation,
        one thread), and `diverged`, the reason where a loss became infinite; `dice` ends there.
    """
    config = build(
        TrainConfig, nest({**TRAIN, **params, "seed": seed, "data.store": str(store)}), "record"
    )
    dice, seconds, diverged = [], [], ""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.process_time()
        try:
            for validation in fit(config, Path(folder) / "run"):
                dice.append(round(validation.metrics["val/dice"], 5))
                seconds.append(round(time.process_time() - begun, 3))
        except Diverged as error:
            diverged = str(error)
    return {"dice": dice, "seconds": seconds, "diverged": diverged}


def write_table(out: Path, store_hash: str) -> None:
    """Write all runs into one compressed file, with the same bytes for the same runs."""
    runs = {}
    for index, params, seed in sorted(shuffled(), key=lambda run: (run[0], run[2])):
        run = json.loads((out / "runs" / f"{index:03d}-{seed}.json").read_text())
        assert run["params"] == params, f"{out}: holds runs of another grid"
        runs[f"{index}-{seed}"] = run
    table = {"grid": GRID, "seeds": SEEDS, "train": TRAIN, "store": store_hash, "runs": runs}
    data = gzip.compress(json.dumps(table).encode(), mtime=0)
    write_atomically(out / TABLE, lambda temporary: temporary.write_bytes(data))
    print(f"{out / TABLE}: {len(runs)} runs, {len(data) / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
