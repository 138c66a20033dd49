"""Draws what the shipped studies found: `python docs/answers.py docs/answers.png`."""

import gzip
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from search.analysis.results import compare

RESULTS = Path(__file__).resolve().parents[1] / "spaces" / "results"

# Okabe & Ito's colours, told apart by the colour-blind; markers tell them apart in print.
STYLES: dict[str, dict[str, Any]] = {
    "candidate": {"color": "#0072b2", "marker": "o"},
    "control": {"color": "#009e73", "marker": "s"},
    "reference": {"color": "#d55e00", "marker": "D"},
}
NAMES = {
    ("batch", 5): "batch 32, lr 1e-3",
    ("batch", 12): "batch 4, lr 1e-3",
    ("losses", 6): "fixed weights",
    ("losses", 14): "learned weights",
    ("losses", 1): "noise loss alone",
    ("diffusion", 12): "v, cosine, zero SNR",
    ("diffusion", 9): "v, linear",
    ("diffusion", 2): "x_start",
    ("diffusion", 1): "eps: the baseline",
}
LABELLED = (1, 2, 3, 7, 11, 17)
"""Of the study respacing."""


def main(out: Path) -> None:
    """Plot the confirmed trials of three studies, and the fourth's Dice against its seconds."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    confirmed(left, [read(name) for name in ("batch", "losses", "diffusion")])
    sampling(right, read("respacing"))
    figure.savefig(out, dpi=110)


def read(name: str) -> dict[str, Any]:
    """Return what `segtune compare` reads in a ledger that ships."""
    with unpacked(name) as folder:
        return compare(folder)


@contextmanager
def unpacked(name: str) -> Iterator[Path]:
    """Give the folder of a study whose ledger ships."""
    with tempfile.TemporaryDirectory() as temporary:
        ledger = gzip.decompress((RESULTS / f"{name}.jsonl.gz").read_bytes())
        (Path(temporary) / "ledger.jsonl").write_bytes(ledger)
        yield Path(temporary)


def confirmed(axes: Axes, studies: list[dict[str, Any]]) -> None:
    """Draw each configuration's seeds, small, and its mean with the 95 % interval."""
    rows: list[str] = []
    for study in studies:
        for score in study["verdicts"][-1]["scores"]:
            style, at = STYLES[score["role"]], -len(rows)
            low, high = score["interval"]
            axes.plot([low, high], [at, at], color=style["color"], lw=1.5)
            axes.plot(score["mean"], at, ms=8, ls="", **style)
            axes.plot(score["by_seed"], [at] * len(score["by_seed"]), "|", color="black", ms=7)
            name = NAMES.get((study["study"], score["trial"]), "U-Net control")
            rows.append(f"{study['study']}: {name}")
    axes.set_yticks([-i for i in range(len(rows))], rows)
    axes.set(xlabel="Dice on folds that did not select them", xlim=(0, None))
    axes.set_title("confirmed with three seeds (|), 95 % interval", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)


def sampling(axes: Axes, study: dict[str, Any]) -> None:
    """Draw Dice against seconds a case of every sampling setting, those in the Pareto set large."""
    best = set(study["pareto"])
    for row in study["trials"]:
        seconds, is_best = row["metrics"]["time/case_s"], row["trial"] in best
        color, size = (STYLES["candidate"]["color"], 9) if is_best else ("#999999", 5)
        axes.plot(seconds, row["dice"], "o", color=color, ms=size)
        params = row["params"]
        steps, masks = params["sampling.timestep_respacing"], params["sampling.num_ensemble"]
        text = f"{params['sampling.method']} {steps} x {masks}"
        if row["trial"] in LABELLED:
            where = (-8, -3) if is_best else (0, 6)
            axes.annotate(
                text,
                (seconds, row["dice"]),
                where,
                textcoords="offset points",
                ha="right" if is_best else "center",
                size=8,
            )
    axes.set_xscale("log")
    axes.set_xlim(0.004, 100)
    axes.set(xlabel="seconds a case, one CPU thread", ylabel="Dice")
    axes.set_title("sampling: method, steps x masks; large: Pareto set", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
