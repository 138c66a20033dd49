"""How a validation should measure: the mean and the noise of its Dice by steps and members.

    python -m tests.bench.validation_noise [--epochs 12] [--targets eps,v,x_start] [--store STORE]

trains a small V1 for each diffusion target (a minute each) and validates its last weights with 1 to
10 steps of DDIM and 1 or 8 members, each five times with fresh noise. What `validation.steps` is by
default comes from here: one step for x_start and v, and for eps the fewest steps whose mean is at
most 0.01 below that of ten (`trainer.config.EPS_STEPS`).
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from trainer.config import TrainConfig
from trainer.configfile import build, nest
from trainer.data.phantom import write_phantom
from trainer.data.prepare import prepare
from trainer.data.store import Store
from trainer.evaluation.validation_noise import validation_noise
from trainer.loop import fit
from trainer.saved.model_io import load, with_settings

STEPS = (1, 2, 3, 5, 10)
TRAIN = {
    "device": "cpu",
    "model.family": "medsegdiff_v1",
    "model.width": 16,
    "model.depth": 3,
    "model.attention_levels": 0,
    "optimizer.lr": 1e-3,
    "epoch_images": 400,
    "validation.every": 1000,
}


def main() -> None:
    """Train, measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.validation_noise")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--targets", default="x_start,v,eps")
    parser.add_argument("--members", default="1,8")
    parser.add_argument("--store", type=Path, help="instead of a phantom of 20 cases at 32 px")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = asked.store or phantom(Path(folder))
        print("| target | steps | members | Dice | standard deviation | s a validation |")
        print("|---|---|---|---|---|---|")
        for target in asked.targets.split(","):
            settings = {"data.store": str(store), "diffusion.target": target}
            config = build(TrainConfig, nest(TRAIN | settings | {"epochs": asked.epochs}), "bench")
            measure(config, Path(folder) / target, [*map(int, asked.members.split(","))])


def phantom(folder: Path) -> Path:
    """Return a small store."""
    write_phantom(folder / "dataset", num_cases=20)
    prepare(folder / "dataset", folder / "store", image_size=32)
    return folder / "store"


def measure(config: TrainConfig, run_dir: Path, numbers: Sequence[int]) -> None:
    """Print the rows of one target."""
    list(fit(config, run_dir))
    trained = load(run_dir, "cpu")
    store = Store.open(Path(config.data.store))
    cases = store.split(config.data.fold)[1]
    for steps in STEPS:
        for members in numbers:
            how = {"validation.steps": steps, "validation.members": members}
            begun = time.perf_counter()
            dice = validation_noise(with_settings(trained, how), store, cases)["val/dice"]
            validation_s = (time.perf_counter() - begun) / 5
            print(
                f"| {config.diffusion.target} | {steps} | {members} | {dice.mean:.4f} "
                f"| {dice.std:.4f} | {validation_s:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
