"""Learning curves as pictures: of a study, of a trial.

`python -m search.report.learning_curves STUDY OUT.png` draws a study's. Okabe and Ito's colours,
told apart by the colour-blind; line styles and markers tell them apart in print. Nothing here is
global: pictures may be drawn in any thread.
"""

import sys
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from search.analysis.mask_references import scored_masks
from search.analysis.ranking import best_of
from search.ledger.state import StudyState, threshold_rule
from search.ledger.trial_state import TrialState
from search.study.config import StudyConfig
from trainer.files.atomic import write_atomically
from trainer.terminal import one_line

BLUE, GREEN, ORANGE, SKY, PURPLE, GREY = (
    "#0072b2", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#555555",
)  # fmt: skip

MAX_TERMS = 5
"""Loss terms that one picture can tell apart."""


def draw_study(study: StudyConfig, state: StudyState, out: Path) -> None:
    """Draw the objective by epoch of every trial of a search, 960 x 480 pixels where it is a PNG.

    A study without training has one validation a trial; its trials are drawn side by side.

    Args:
        study: The study's settings.
        state: What its ledger says.
        out: The file, .png or .pdf, replaced if it exists.
    """
    figure, [axes] = _figure(4.0, 1)
    best = best_of(study, state)
    trials = [t for t in state.trials.values() if t.kind != "confirm" and t.reports]
    trials.sort(key=lambda trial: (trial.protected, trial is best))  # these on top
    at_once = not study.trains
    num_plain = sum(not trial.protected and trial is not best for trial in trials)
    named = f"searched trials ({num_plain} others)" if best else ""
    for trial in trials:
        color, width, line, alpha = BLUE, 1.0, "-", 0.45
        label = ""
        if trial.kind == "control":
            color, width, line, alpha, label = GREEN, 2.0, "--", 1.0, "control (U-Net)"
        elif trial.protected:
            color, width, line, alpha = ORANGE, 2.0, "-.", 1.0
            label = f"{state.reference_name(study, trial)} (trial {trial.number})"
        elif trial is best:
            width, alpha, label = 2.6, 1.0, f"best of the search (trial {trial.number})"
        else:
            label, named = named, ""
        epochs = [trial.number if at_once else report.epoch for report in trial.reports]
        values = [report.value for report in trial.reports]
        marker = "o" if len(values) == 1 else None
        axes.plot(epochs, values, line, color=color, lw=width, alpha=alpha, marker=marker,
                  ms=4, label=label or None)  # fmt: skip
        if trial.ending in ("stopped", "stalled"):
            axes.plot(epochs[-1], values[-1], "x", color=color, ms=5)
    for masks in scored_masks(study, state):
        if (value := masks["metrics"].get(study.objective.metric)) is not None:
            axes.axhline(value, color=GREY, ls="-.", lw=1.6, label=f"masks {masks['name']}")
    if state.threshold and study.objective.metric == "val/dice":
        label = one_line(f"best threshold ({threshold_rule(state.threshold)})")
        axes.axhline(state.threshold["dice"], color=GREY, ls=":", lw=1.6, label=label)
    _finish(axes, study, "trial" if at_once else None)
    stopped = sum(trial.ending in ("stopped", "stalled") for trial in trials)
    note = f"; x: {stopped} stopped early" if stopped else ""
    axes.set_title(f"{study.study}: {len(state.searched())} searched trials{note}", fontsize=11)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8.5, loc="best")
    _save(figure, out)


def draw_trial(study: StudyConfig, trial: TrialState, out: Path) -> None:
    """Draw a trial's objective and its loss terms, as weighted, by epoch; PNG of 960 x 420 pixels.

    Args:
        study: The study's settings.
        trial: With at least one report.
        out: The file, replaced if it exists.
    """
    figure, [left, right] = _figure(3.5, 2)
    epochs = [report.epoch for report in trial.reports]
    left.plot(epochs, [report.value for report in trial.reports], "o-", color=BLUE, lw=2, ms=3)
    for segment in trial.segments:
        left.axvline(segment.after, color=GREY, ls=":", lw=1.2)
        left.annotate("resumed", (segment.after, 0.02), xycoords=("data", "axes fraction"),
                      rotation=90, fontsize=8, color=GREY, ha="right")  # fmt: skip
    _finish(left, study, None)
    left.set_title(f"trial {trial.number}: {trial.status()} at epoch {trial.epoch}", fontsize=11)
    last = trial.reports[-1].metrics
    weighted = [key for key in last if key.startswith("train/") and key.endswith("_weighted")]
    weighted.sort(key=lambda key: -abs(last[key]))
    styles = zip((ORANGE, GREEN, PURPLE, SKY, GREY), ("--", "-.", ":", "-", "--"), strict=True)
    terms = [("train/loss", "loss, the sum", BLUE, "-")] if "train/loss" in last else []
    for key, (color, line) in zip(weighted[:MAX_TERMS], styles, strict=False):
        name = key.removeprefix("train/").removesuffix("_weighted")
        terms.append((key, f"{name}, weighted", color, line))
    for key, label, color, line in terms:
        points = [(r.epoch, r.metrics[key]) for r in trial.reports if key in r.metrics]
        right.plot(*zip(*points, strict=True), line, color=color, lw=1.8, label=label)
    right.set_xlabel("epoch")
    right.set_title("training loss", fontsize=11)
    right.spines[["top", "right"]].set_visible(False)
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    if terms:
        right.legend(frameon=False, fontsize=8.5)
    _save(figure, out)


def _figure(height: float, num_columns: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(8.0, height))
    # By hand: a layout that fits itself takes three times as long, beside the driver of a study.
    figure.subplots_adjust(0.075, 0.47 / height, 0.985, 1 - 0.3 / height, wspace=0.16)
    return figure, [figure.add_subplot(1, num_columns, i + 1) for i in range(num_columns)]


def _finish(axes: Axes, study: StudyConfig, xlabel: str | None) -> None:
    images = f" ({study.epoch_images} images)" if study.epoch_images else ""
    axes.set_xlabel(xlabel or f"epoch{images}")
    axes.set_ylabel(study.objective.metric)
    if study.objective.metric == "val/dice":
        axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _save(figure: Figure, out: Path) -> None:
    FigureCanvasAgg(figure)
    kind = out.suffix.removeprefix(".")
    write_atomically(out, lambda temporary: figure.savefig(temporary, dpi=120, format=kind))


def main(folder: Path, out: Path) -> None:
    """Draw the learning curves of the study in a folder."""
    from search.storage.studies import read_study

    draw_study(*read_study(folder), out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
