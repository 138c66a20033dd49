"""The figures of a paper, as vectors: points with their intervals, in colours and shapes.

Letters are embedded as outlines of TrueType, which journals ask for; none is read as mathematics.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure

from search.ledger.state import threshold_rule
from search.report.learning_curves import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY
from search.report.mattered import group_text
from search.report.paper.tables import name_of, volume_names
from trainer.terminal import one_line

COLORS = (BLUE, GREEN, ORANGE, PURPLE, SKY, GREY)
MARKERS = "osD^vP"
WIDTH = 6.5
"""Inches, of an article's text."""


class Point(NamedTuple):
    """A mean as it is drawn; without one, a heading."""

    name: str
    mean: float | None
    interval: Sequence[float] | None


@contextmanager
def as_vectors() -> Iterator[None]:
    """Set what the figures of a paper have in common, while they are drawn."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a sign that the font lacks is a box
        with matplotlib.rc_context({"pdf.fonttype": 42, "text.parse_math": False, "font.size": 9}):
            yield


def importance_points(result: Mapping[str, Any]) -> list[Point]:
    """Return each setting's name and p-value, and below it the objective by its values.

    Empty where `compare` says nothing of importance that can be drawn.
    """
    points = []
    for row in (result.get("importance") or {}).get("parameters", ()):
        points.append(Point(f"{row['name']}, p {row['p']:.2g}", None, None))
        points += [
            Point(
                f"{group_text(group)} ({group['num_trials'] - group['diverged']})",
                group["mean"],
                group["interval"],
            )
            for group in row["groups"]
            if group["mean"] is not None
        ]
    return points


def draw_importance(result: Mapping[str, Any], out: Path) -> bool:
    """Draw the objective by the values of each searched setting, into a PDF.

    Returns:
        Whether anything is known.
    """
    if not (points := importance_points(result)):
        return False
    figure, axes = _rows(len(points))
    _points(axes, points)
    axes.set_xlabel(f"{name_of(result['objective']['metric'])}, mean over (trials)")
    _save(figure, out)
    return True


def draw_references(result: Mapping[str, Any], out: Path) -> bool:
    """Draw the Dice of the best, the control, the references, masks and the threshold, into a PDF.

    Returns:
        Whether any is known.
    """
    best = [row for row in result["trials"] if row["rank"]][:1]
    rows = [(f"best (trial {row['trial']})", row) for row in best]
    rows += [(row["name"], row) for row in (*result["references"], *result["masks"])]
    points = [Point(name, row["dice"], row["dice_interval"]) for name, row in rows
              if row["dice"] is not None]  # fmt: skip
    if threshold := result["threshold"]:
        points.append(Point(f"threshold {threshold_rule(threshold)}", threshold["dice"], None))
    if not points:
        return False
    figure, axes = _rows(len(points))
    _points(axes, points)
    axes.set_xlim(left=0)
    axes.set_xlabel("Dice")
    _save(figure, out)
    return True


def draw_volumes(result: Mapping[str, Any], out: Path) -> None:
    """Draw the Dice by lesion volume of the best, the control and the references, into a PDF."""
    names = volume_names(result)
    figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
    axes = figure.add_subplot()
    rows = result["subgroups"]
    counts = {group["name"]: group["num_cases"] for group in rows[0]["groups"]}
    for index, row in enumerate(rows):
        shift = 0.6 * ((index + 0.5) / len(rows) - 0.5)
        groups = {group["name"]: group for group in row["groups"]}
        color, marker = (all_[index % len(all_)] for all_ in (COLORS, MARKERS))
        whole = all(counts[name] == groups[name]["num_cases"] for name in names)
        label = one_line(row["name"]) + ("" if whole else " (some cases)")
        for place, name in enumerate(names):
            if (dice := groups[name]["dice"]) is not None:
                if ends := groups[name]["dice_interval"]:
                    axes.plot([place + shift] * 2, ends, "-", color=color, lw=1.4)
                axes.plot(place + shift, dice, marker, color=color, ms=4.5, label=label)
                label = ""
    axes.set_xticks(range(len(names)), [f"{name} ({counts[name]} cases)" for name in names])
    axes.set_ylabel("Dice")
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    _save(figure, out)


def _rows(number: int) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, 0.6 + 0.24 * number), layout="constrained")
    return figure, figure.add_subplot()


def _points(axes: Axes, points: Sequence[Point]) -> None:
    """Draw points from the top down, each beside its name; an open one has no interval."""
    for place, point in enumerate(points):
        if point.interval:
            axes.plot(point.interval, [place] * 2, "-", color=BLUE, lw=1.4)
        if point.mean is not None:
            face = BLUE if point.interval else "w"
            axes.plot(point.mean, place, "o", color=BLUE, ms=4.5, mfc=face)
    axes.set_yticks(range(len(points)), [one_line(point.name) for point in points])
    for label, point in zip(axes.get_yticklabels(), points, strict=True):
        label.set_fontweight("bold" if point.mean is None else "normal")
    axes.set_ylim(len(points) - 0.5, -0.5)
    axes.grid(axis="x", lw=0.4, color="#cccccc")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _save(figure: Figure, out: Path) -> None:
    FigureCanvasPdf(figure)
    figure.savefig(out, format="pdf")
