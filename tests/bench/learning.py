"""Does it learn, and what decides? The same CPU time, one thread and one fold for every row.

    segtune prepare isles24_like STORE --image-size 64
    python -m tests.bench.learning STORE OUT [ROW ...]

times each row for a few seconds, trains as many images as fit into --seconds, validates once at the
end, and prints the table of all rows in OUT that are finished. CPU time rather than the clock's, so
that two processes with different rows may run side by side. A row whose run folder exists is
continued.
"""

import argparse
import json
import time
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch

from trainer.config import TrainConfig
from trainer.configfile import build, nest
from trainer.data.batches import Draws, rows_of
from trainer.data.store import Store
from trainer.evaluation.threshold_baseline import best_threshold
from trainer.files.atomic import write_atomically
from trainer.loop import fit
from trainer.training.train_state import TrainState

COMMON = {
    "device": "cpu",
    "model.width": 16,
    "model.depth": 4,
    "batch.effective": 16,
    "optimizer.lr": 1e-3,
    "optimizer.ema_half_life_images": 1000,
    "loss.dice": 1.0,
    "loss.bce": 1.0,
    "sampling.timestep_respacing": 10,
}
# Without it a network learns to copy the mask that shows through the noise, and at sampling copies
# its own mistakes.
NOISIER = {"diffusion.input_scale": 0.1}
ROWS: dict[str, dict[str, Any]] = {
    "unet": {"model.family": "unet"},
    "diffusion_unet": {"model.family": "diffusion_unet", **NOISIER},
    "v1": {"model.family": "medsegdiff_v1", **NOISIER},
    "v2": {"model.family": "medsegdiff_v2", **NOISIER},
    "v1-recycling": {"model.family": "medsegdiff_v1", "diffusion.recycling": 0.5},
} | {
    f"v1-{target}-{'dice' if dice else 'nodice'}-b{batch}": {
        "model.family": "medsegdiff_v1",
        "diffusion.target": target,
        "loss.dice": dice,
        "loss.bce": 0.0,
        "batch.effective": batch,
        "optimizer.lr": 5e-4,
    }
    for target, dice, batch in product(("eps", "x_start"), (0.0, 1.0), (4, 32))
}
CALIBRATION_S = 10.0


def config(store: str, row: str, images: int) -> TrainConfig:
    """Return a row's configuration: one epoch is all of its training."""
    values = {**COMMON, **ROWS[row], "data.store": store, "epochs": 1, "epoch_images": images}
    return build(TrainConfig, nest(values), row)


def images_in(seconds: float, store: Path, row: str) -> int:
    """Return how many images a row trains in so much CPU time."""
    settings = config(str(store), row, 10**6)
    torch.set_num_threads(settings.num_threads)
    opened, cpu = Store.open(store), torch.device("cpu")
    state = TrainState(settings, opened, cpu)
    batches = Draws(opened, settings, rows_of(opened.split(0)[0])).batches(0, cpu)
    for _ in range(2):
        state.step(next(batches))
    begun, before = time.process_time(), state.images
    while time.process_time() - begun < CALIBRATION_S:
        state.step(next(batches))
    return int(seconds * (state.images - before) / (time.process_time() - begun))


def train(store: Path, out: Path, row: str, seconds: float) -> dict[str, Any]:
    """Train one row and return its figures."""
    plan = out / f"{row}.images"
    if not plan.exists():
        out.mkdir(parents=True, exist_ok=True)
        plan.write_text(str(images_in(seconds, store, row)))
    settings = config(str(store), row, int(plan.read_text()))
    begun = time.process_time()
    metrics = list(fit(settings, out / row))[-1].metrics
    return {
        "row": row,
        "images": settings.epoch_images,
        "cpu_s": time.process_time() - begun,
        **{key: value for key, value in metrics.items() if key.startswith("val/")},
    }


def table(out: Path, store: Path) -> str:
    """Return the finished rows as Markdown."""
    results = [json.loads(path.read_text()) for path in sorted(out.glob("*.json"))]
    threshold = best_threshold(Store.open(store), 0)
    lines = ["| row | images | Dice | lesion F1 | AVD mL |", "|---|---|---|---|---|"]
    rule = f"{threshold['modality']} {'>=' if threshold['above'] else '<'} "
    lines.append(
        f"| threshold ({rule}{threshold['threshold']:.3g}) | | {threshold['dice']:.3f} | | |"
    )
    for result in sorted(results, key=lambda result: list(ROWS).index(result["row"])):
        lines.append(
            f"| {result['row']} | {result['images']:,} | {result['val/dice']:.3f} "
            f"| {result['val/lesion_f1']:.3f} | {result['val/avd_ml']:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Train the named rows, all by default, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--seconds", type=float, default=300.0, help="CPU time of each row")
    given = parser.parse_args()
    if unknown := sorted({*given.rows} - {*ROWS}):
        parser.error(f"no such row: {', '.join(unknown)}; there are {', '.join(ROWS)}")
    for row in given.rows or ROWS:
        if not (given.out / f"{row}.json").exists():
            result = json.dumps(train(given.store, given.out, row, given.seconds), indent=1)
            write_atomically(given.out / f"{row}.json", partial(Path.write_text, data=result))
            print(result, flush=True)
    print(table(given.out, given.store))


if __name__ == "__main__":
    main()
