"""Draws the path from 6 % Dice: `python -m docs.from_six_percent docs/from_six_percent.png`."""

import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from docs.answers import STYLES, read

STEPS = {
    1: "what MedSegDiff's users report:\neps, noise loss, lr 1e-4, batch 4",
    2: "and learning rate 1e-3",
    7: "and target v",
    8: "and Dice and cross-entropy\nbeside the noise loss",
    0: "instead of all that: the U-Net control",
}
"""Trials of the study, in the order of the path; each has what the one above it has."""


def main(out: Path) -> None:
    """Draw each step's Dice with its interval, and what it gains over the step before."""
    [verdict] = read("from_six_percent")["verdicts"]
    scores = {score["trial"]: score for score in verdict["scores"]}
    figure, axes = plt.subplots(figsize=(8, 3.8), layout="constrained")
    before: int | None = None
    for at, trial in enumerate(STEPS):
        score = scores[trial]
        style = STYLES[score["role"]]
        axes.plot(score["interval"], [-at, -at], color=style["color"], lw=1.5)
        axes.plot(score["mean"], -at, ms=9, ls="", **style)
        axes.annotate(f"{score['mean']:.3f}", (score["mean"], -at + 0.17), ha="center", fontsize=9)
        if before is not None:
            gain, low, high = _gain(verdict, trial, before)
            axes.text(0.66, -at, f"{gain:+.3f} [{low:+.3f}, {high:+.3f}]", va="center", fontsize=9)
            ends = [scores[before]["mean"], score["mean"]]
            axes.plot(ends, [1 - at, -at], color="#999999", lw=1, ls=":", zorder=0)
        before = trial
    axes.text(0.66, 0.05, "over the row above", va="center", fontsize=9, style="italic")
    axes.set_yticks([-at for at in range(len(STEPS))], STEPS.values())
    axes.set(xlim=(0, 0.96), ylim=(0.4 - len(STEPS), 0.6))
    axes.set_xticks([0.1 * tick for tick in range(7)])
    cases = sum(scores[1]["num_cases"])
    axes.set_xlabel(f"Dice, 95 % interval: 4 seeds on 4 other folds, {cases} cases")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, dpi=110)


def _gain(verdict: dict[str, Any], trial: int, other: int) -> tuple[float, float, float]:
    """Return a trial's paired difference to another, and its interval."""
    for pair in verdict["comparisons"]:
        low, high = pair["interval"]
        if (pair["trial"], pair["other"]) == (trial, other):
            return pair["mean"], low, high
        if (pair["trial"], pair["other"]) == (other, trial):
            return -pair["mean"], -high, -low
    raise LookupError(f"trials {trial} and {other} were not compared")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
