"""Does a second loss help, and do the terms stay comparable? One network, four ways to weigh.

    segtune prepare isles24_like STORE --image-size 48
    python -m tests.bench.loss_study STORE OUT

trains the same images with the noise loss alone and with Dice and cross-entropy beside it, fixed,
warmed in and learned, on three seeds; writes OUT/results.json and a picture, and prints a table.
Learned weights bring each weighted term to 1, so that there only the terms themselves can fall.
Called again it goes on where it was. Several processes share the work, say, with one mode each
(`--modes learned`): each ends with a summary of all runs in OUT that are finished.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from trainer.config import TrainConfig
from trainer.configfile import build, nest
from trainer.files.atomic import write_atomically
from trainer.loop import fit
from trainer.run_log import RunLog

TRAIN = {
    "device": "cpu",
    "model.family": "medsegdiff_v1",
    "model.width": 16,
    "model.depth": 3,
    "diffusion.target": "x_start",
    "batch.effective": 8,
    "optimizer.lr": 1e-3,
    "optimizer.warmup_images": 200,
    "sampling.timestep_respacing": 5,
}
MODES: dict[str, dict[str, Any]] = {
    "noise-only": {"loss.dice": 0.0, "loss.bce": 0.0},
    "fixed": {},
    "warm-in": {"loss.weighting": "warm_in"},
    "learned": {"loss.weighting": "learned"},
}
POINTS = 20
"""Validations of a run, and points of its curves."""

# Okabe & Ito's colours, told apart by the colour-blind; line styles tell them apart in print.
STYLES: dict[str, dict[str, Any]] = {
    "noise": {"color": "#0072b2", "ls": "-"},
    "dice": {"color": "#d55e00", "ls": "--"},
    "bce": {"color": "#009e73", "ls": "-."},
    "total": {"color": "#000000", "ls": ":"},
}


def main() -> None:
    """Train what is asked for and not yet trained; summarize all that is finished."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--modes", default=",".join(MODES), help="of: %(default)s")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--images", type=int, default=6000, help="training images of each run")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after as many")
    parser.add_argument("--picture", type=Path, help="default: OUT/losses.png")
    arguments = parser.parse_args()
    modes = arguments.modes.split(",")
    if unknown := sorted(set(modes) - set(MODES)):
        parser.error(f"--modes: {', '.join(unknown)}: must be of {', '.join(MODES)}")

    deadline = time.monotonic() + arguments.seconds
    for seed in map(int, arguments.seeds.split(",")):
        for mode in modes:
            config = configuration(arguments.store, mode, seed, arguments.images)
            for validation in fit(config, arguments.out / f"{mode}-{seed}"):
                print(f"{mode}, seed {seed}: {100 * validation.epoch // POINTS} %", flush=True)
                if time.monotonic() > deadline:
                    print("Time is up; the same command goes on from here.")
                    return
    curves = finished(arguments.out)
    text = json.dumps(curves, indent=1) + "\n"
    write_atomically(arguments.out / "results.json", lambda path: path.write_text(text))
    draw(curves, arguments.images, arguments.picture or arguments.out / "losses.png")
    print(table(curves))


def configuration(store: Path, mode: str, seed: int, images: int) -> TrainConfig:
    length = {"epochs": POINTS, "epoch_images": images // POINTS}
    settings = TRAIN | MODES[mode] | length | {"data.store": str(store), "seed": seed}
    return build(TrainConfig, nest(settings), "loss_study")


def finished(out: Path) -> dict[str, dict[str, list[dict[str, float]]]]:
    """Return the metrics of every validation of each finished run, by mode and seed."""
    found: dict[str, dict[str, list[dict[str, float]]]] = {mode: {} for mode in MODES}
    for mode, runs in found.items():
        for folder in sorted(out.glob(f"{mode}-*")):
            validations = RunLog(folder).validations
            if validations and validations[-1].epoch == POINTS:
                runs[folder.name.rpartition("-")[2]] = [v.metrics for v in validations]
    return {mode: runs for mode, runs in found.items() if runs}


def table(curves: dict[str, dict[str, list[dict[str, float]]]]) -> str:
    """Return the final Dice of each mode as a Markdown table."""
    lines = ["| weighting | Dice, mean | min to max | seeds |", "|---|---|---|---|"]
    for mode, runs in curves.items():
        dice = [run[-1]["val/dice"] for run in runs.values()]
        span = f"{min(dice):.3f} to {max(dice):.3f}"
        lines.append(f"| {mode} | {np.mean(dice):.3f} | {span} | {len(dice)} |")
    return "\n".join(lines)


def draw(curves: dict[str, dict[str, list[dict[str, float]]]], images: int, picture: Path) -> None:
    """Draw each mode's terms over training: as they are above, as they are weighted below."""
    figure, rows = plt.subplots(
        2,
        len(curves),
        figsize=(2.6 * len(curves) + 0.6, 5),
        sharex=True,
        sharey="row",
        squeeze=False,
        layout="constrained",
    )
    at = images / POINTS * np.arange(1, POINTS + 1)
    for column, (mode, runs) in enumerate(curves.items()):
        above, below = rows[:, column]
        for term in ("noise", "dice", "bce"):
            plot(above, at, runs, f"train/{term}", term)
            plot(below, at, runs, f"train/{term}_weighted", term)
        plot(below, at, runs, "train/loss", "total")
        dice = [run[-1]["val/dice"] for run in runs.values()]
        above.set_title(f"{mode}\nvalidation Dice {np.mean(dice):.3f}", fontsize=10)
        below.set_xlabel("training images")
        for axes in (above, below):
            axes.set_yscale("log")
            axes.grid(axis="y", color="0.9", lw=0.8)
            axes.spines[["top", "right"]].set_visible(False)
    rows[0, 0].set_ylabel("loss term")
    rows[1, 0].set_ylabel("weighted loss term")
    handles = [Line2D([], [], lw=2, label=name, **style) for name, style in STYLES.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(STYLES), frameon=False)
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=110)
    plt.close(figure)


def plot(
    axes: Axes, at: np.ndarray, runs: dict[str, list[dict[str, float]]], key: str, name: str
) -> None:
    """Draw a metric of every seed, thin, and the mean over the seeds; nothing where it is 0."""
    values = np.array([[point.get(key, 0.0) for point in run] for run in runs.values()])
    if not values.any():
        return
    shown = np.where(values > 0, values, np.nan)
    axes.plot(at, shown.T, lw=0.7, alpha=0.5, **STYLES[name])
    axes.plot(at, shown.mean(axis=0), lw=2, **STYLES[name])


if __name__ == "__main__":
    main()
