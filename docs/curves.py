"""Draws the README's picture: `python docs/curves.py runs/quickstart docs/quickstart.png`."""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from search.compare import read_study

# Okabe & Ito's colours, told apart by the colour-blind; line styles tell them apart in print.
SEARCHED, CONTROL, REFERENCE, THRESHOLD = "#0072b2", "#009e73", "#d55e00", "#555555"


def main(folder: Path, out: Path) -> None:
    """Plot the objective by epoch of every trial of a study."""
    study, state = read_study(folder)
    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    best = state.best(study.objective.mode)
    for trial in state.trials.values():
        epochs = [report.epoch for report in trial.reports]
        values = [report.value for report in trial.reports]
        label = None
        style = {"color": SEARCHED, "alpha": 0.45, "lw": 1.2}
        if trial.kind == "control":
            style, label = {"color": CONTROL, "lw": 2, "ls": "--"}, "control (U-Net)"
        elif trial.protected:
            style = {"color": REFERENCE, "lw": 2, "ls": "-."}
            label = "reference: where one starts from"
        elif trial is best:
            style = {"color": SEARCHED, "lw": 2.5}
            label = f"best of the search (trial {trial.number})"
        axes.plot(epochs, values, label=label, **style)
        if trial.ending == "stopped":
            axes.plot(epochs[-1], values[-1], "x", color=SEARCHED)
    if state.threshold:
        label = f"best threshold ({state.threshold['modality']})"
        axes.axhline(state.threshold["dice"], color=THRESHOLD, ls=":", label=label)
    images = study.train_config({}).epoch_images
    axes.set(xlabel=f"epoch ({images} images)", ylabel=study.objective.metric, ylim=(0, None))
    axes.set_title(f"{study.study}: {len(state.searched())} searched trials, x = stopped by ASHA")
    axes.legend(loc=(0.63, 0.28), frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
