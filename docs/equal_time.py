"""Draws Dice by seconds of training: `python -m docs.equal_time docs/equal_time.png`."""

import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from docs.answers import STYLES, unpacked
from search.storage.studies import read_study

IMAGE_S = {"diffusion": 0.0115, "U-Net": 0.0020, "U-Net, width 24": 0.0034}
"""Of a training image on a core with nothing else to do; studies ran beside other work."""
CURVES = {
    ("diffusion_hippocampus", 5): ("diffusion", "below"),
    ("equal_time", 10): ("diffusion", "below"),
    ("diffusion_hippocampus", 0): ("U-Net", "below"),
    ("equal_time", 0): ("U-Net", "below"),
    ("hippocampus_unet", 4): ("U-Net, width 24", "above"),
    ("equal_time_unet", 7): ("U-Net, width 24", "above"),
}
"""By study and trial: what it is, and where its label stands."""
LOOKS = {"diffusion": "candidate", "U-Net": "control", "U-Net, width 24": "reference"}


def main(out: Path) -> None:
    """Draw the mean Dice of each configuration's trainings on folds that selected nothing."""
    figure, axes = plt.subplots(figsize=(7.5, 4), layout="constrained")
    named = set()
    for (name, trial), (what, where) in CURVES.items():
        with unpacked(name) as folder:
            study, state = read_study(folder)
        epoch_images = study.train["epoch_images"]
        by_epoch = defaultdict(list)
        for training in state.confirming():
            if training.of == trial and training.ending == "completed":
                for report in training.reports:
                    by_epoch[report.epoch].append(report.value)
        seconds = [epoch * epoch_images * IMAGE_S[what] for epoch in by_epoch]
        means = [fmean(values) for values in by_epoch.values()]
        label = None if what in named else what
        named.add(what)
        axes.plot(seconds, means, lw=1.5, ms=5, label=label, **STYLES[LOOKS[what]])
        images = f"{max(by_epoch) * epoch_images:,} images"
        end, shift = (seconds[-1], means[-1]), (0, 7 if where == "above" else -14)
        axes.annotate(images, end, shift, textcoords="offset points", fontsize=8, ha="center")
    axes.set_xscale("log")
    axes.set_xticks(ticks := [2, 5, 10, 20, 50, 100, 200], map(str, ticks))
    axes.set_xlim(1.2, 280)
    axes.set_ylim(0.55, 0.92)
    axes.minorticks_off()
    axes.set_xlabel("seconds of training on one quiet core")
    axes.set_ylabel("Dice, mean of all seeds and folds")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
