"""The picture of `segtune respace`: Dice against seconds a case, and where the best trades lie."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from search.analysis.first_weights import LABEL
from search.analysis.intervals import TOO_FEW
from search.analysis.sampling_options import Setting, choose, difference_text, reason
from search.report.text import align
from trainer.files.atomic import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLES = {"ddim": ("#0072b2", "o"), "ddpm": ("#d55e00", "s"), "dpmpp_2m": ("#009e73", "^")}
"""Okabe & Ito's colours, told apart by the colour-blind; the markers tell them apart in print."""

Interval = tuple[float, float] | None


def draw(settings: Sequence[Setting], chosen: Setting, margin: float, name: str, out: Path) -> None:
    """Draw every setting, with intervals, the Pareto set and the chosen one.

    Above, Dice as it is, with what another draw of cases would change; below, what decides: the
    difference to the best case by case, in which what cases have in common has gone.

    Args:
        settings: From `search.analysis.sampling_options.evaluated`.
        chosen: One of them.
        margin: Of Dice that does not matter.
        name: Of the model.
        out: PNG.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    figure = Figure(figsize=(8, 7), layout="constrained")
    above, below = figure.subplots(2, sharex=True, height_ratios=(2, 3))
    _points(above, settings, chosen, {s.trial: (s.dice, s.interval) for s in settings})
    paired: dict[int, tuple[float, Interval]] = {
        s.trial: (s.difference_to_best["mean"], s.difference_to_best["interval"])
        for s in settings
        if s.difference_to_best
    }
    _points(below, [s for s in settings if s.trial in paired], chosen, paired)
    below.axhspan(-margin, margin, color="#000000", alpha=0.06, lw=0)
    below.axhline(0, color="#555555", lw=0.8, ls=":")
    for s in settings:
        if s.is_pareto and s.trial in paired:
            count = f"{s.sampling.timestep_respacing} x {s.sampling.num_ensemble}"
            height, interval = paired[s.trial]
            top = interval[1] if interval else height
            below.annotate(
                count,
                (s.case_s, top),
                (0, 6),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )
    below.set_xscale("log")
    below.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds:g}"))
    below.set_xlabel("seconds a case (log); marked: steps x masks of the Pareto set")
    above.set_ylabel("Dice\n95 % interval over the cases")
    below.set_ylabel("difference to the best, case by case\n95 % interval; grey: no matter")
    figure.suptitle(f"{name}: ways to sample it, validation fold ({LABEL})", fontsize=11)
    handles, labels = above.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9,
        title="larger marks: more masks", title_fontsize=9,
    )  # fmt: skip
    write_atomically(out, lambda path: figure.savefig(path, dpi=120, format="png"))


def _points(
    axes: "Axes",
    settings: Sequence[Setting],
    chosen: Setting,
    values: dict[int, tuple[float, Interval]],
) -> None:
    """Draw settings at their seconds; `values` has the height and interval of each trial."""
    for method, (color, marker) in STYLES.items():
        points = [s for s in settings if s.sampling.method == method]
        for s in points:
            if interval := values[s.trial][1]:
                axes.plot([s.case_s] * 2, interval, color=color, alpha=0.4, lw=1.2, zorder=1)
        axes.scatter(
            [s.case_s for s in points],
            [values[s.trial][0] for s in points],
            s=[20 + 12 * min(s.sampling.num_ensemble, 10) for s in points],
            c=color,
            marker=marker,
            label=method if points else None,
            edgecolors="white",
            linewidths=0.6,
            zorder=3,
        )
    front = sorted((s for s in settings if s.is_pareto), key=lambda s: s.case_s)
    heights = [values[s.trial][0] for s in front]
    seconds = [s.case_s for s in front]
    axes.step(seconds, heights, where="post", color="#333333", lw=1, label="Pareto set", zorder=2)
    if chosen in settings:
        axes.scatter(
            [chosen.case_s],
            [values[chosen.trial][0]],
            s=240,
            facecolors="none",
            edgecolors="black",
            linewidths=1.4,
            label=f"chosen: {chosen.words}",
            zorder=4,
        )
    axes.grid(alpha=0.25, lw=0.5)
    axes.spines[["top", "right"]].set_visible(False)


def table(settings: Sequence[Setting], how: str, margin: float, where: str) -> str:
    """Return the settings as aligned lines, best first, and in a sentence what is chosen.

    Arguments as for `choose`, but there may be no settings yet.
    """
    if not settings:
        return "no setting was evaluated"
    chosen = choose(settings, how, margin, where)
    head = ["", "trial", "Dice", "95 % interval", "difference to the best", "s a case"]
    rows = [[*head, "method", "steps", "eta", "masks"]]
    for setting in settings:
        s = setting.sampling
        mark = "*" * setting.is_pareto + ">" * (setting is chosen)
        missing = TOO_FEW if setting.difference_to_best else ""
        rows.append(
            [
                mark,
                str(setting.trial),
                f"{setting.dice:.4f}",
                "[{:.3f}, {:.3f}]".format(*setting.interval) if setting.interval else missing,
                difference_text(setting),
                f"{setting.case_s:.2f}",
                s.method,
                str(s.timestep_respacing),
                f"{s.eta:g}" if s.method == "ddim" else "",
                str(s.num_ensemble),
            ]
        )
    return "\n".join(
        [
            f"Dice against seconds a case on the validation fold ({LABEL})",
            "",
            align(rows),
            "",
            "*  Pareto set: no other is better without being slower",
            "difference to the best: case by case, with its 95 % interval; exploratory",
            f">  chosen: trial {chosen.trial}, {chosen.words}:",
            f"   {reason(chosen, settings[0], how, margin)}",
        ]
    )
