"""Record what every configuration of a grid does on scikit-learn's digits: real learning curves.

    python -m tests.bench.search.record_digits OUT

trains 504 small networks x 2 seeds for 27 epochs each on 250 digits with noise (some ten minutes of
CPU), and writes OUT/digits_table.json.gz. Of every epoch it has the correct ones of 300 digits for
validation, which are what a search sees, and of the 1,247 others, which are the truth.
"""

import argparse
import gzip
import itertools
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from trainer.files.atomic import write_atomically

EPOCHS = 27
PASSES = 4
"""Over the digits, in what is an epoch here."""
SEEDS = (0, 1)
NUM_TRAIN, NUM_VALIDATION = 250, 300
PIXEL_NOISE = 5.0
"""Standard deviation; pixels are 0 to 16."""
GRID: dict[str, list[Any]] = {
    "lr": [1e-4, 3.2e-4, 1e-3, 3.2e-3, 1e-2, 3.2e-2, 1e-1],
    "batch": [8, 32, 128],
    "width": [16, 64],
    "alpha": [1e-4, 1.0],
    "activation": ["relu", "tanh"],
    "solver": ["adam", "sgd"],
    "momentum": [0.0, 0.9],
}
"""Of which adam has no momentum."""
TABLE = "digits_table.json.gz"


def main() -> None:
    """Train every configuration with every seed, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore", ConvergenceWarning)
    runs = []
    for params in configurations():
        for seed in SEEDS:
            runs.append({"params": params, "seed": seed, **train(params, seed)})
        print(len(runs), params, runs[-1]["truth"][-1:], f"{runs[-1]['seconds']:.2f} s", flush=True)
    text = json.dumps({"grid": GRID, "runs": runs}, separators=(",", ":"))
    data = gzip.compress(text.encode(), mtime=0)
    write_atomically(out / TABLE, lambda temporary: temporary.write_bytes(data))
    print(f"{out / TABLE}: {len(runs)} runs, {len(data) / 1024:.0f} KiB")


def configurations() -> list[dict[str, Any]]:
    """Return the grid, without the momentum of adam."""
    found = []
    for values in itertools.product(*GRID.values()):
        params = dict(zip(GRID, values, strict=True))
        if params["solver"] == "adam" and params.pop("momentum"):
            continue
        found.append(params)
    return found


def train(params: dict[str, Any], seed: int) -> dict[str, Any]:
    """Train one configuration.

    Returns:
        `validation` and `truth`, how many digits are correct after every epoch, and the `seconds`
        of CPU time of all.
    """
    pixels, labels = load_digits(return_X_y=True)
    pixels = (pixels + np.random.default_rng(0).normal(0, PIXEL_NOISE, pixels.shape)) / 16
    end = NUM_TRAIN + NUM_VALIDATION
    learner = MLPClassifier(
        (params["width"],),
        activation=params["activation"],
        solver=params["solver"],
        alpha=params["alpha"],
        batch_size=params["batch"],
        learning_rate_init=params["lr"],
        momentum=params.get("momentum", 0.0),
        random_state=seed,
    )
    validation, truth, begun = [], [], time.process_time()
    for _ in range(EPOCHS):
        for _ in range(PASSES):
            learner.partial_fit(pixels[:NUM_TRAIN], labels[:NUM_TRAIN], classes=range(10))
        correct = learner.predict(pixels[NUM_TRAIN:]) == labels[NUM_TRAIN:]
        validation.append(int(correct[: end - NUM_TRAIN].sum()))
        truth.append(int(correct[end - NUM_TRAIN :].sum()))
    seconds = round(time.process_time() - begun, 3)
    return {"validation": validation, "truth": truth, "seconds": seconds}


if __name__ == "__main__":
    main()
