"""The picture of `segtune respace`: Dice against seconds a case, and where the best trades lie."""

from collections.abc import Sequence
from pathlib import Path

from search.compare import LABEL
from search.settings import Setting
from trainer.atomic import write_atomically

STYLES = {"ddim": ("#0072b2", "o"), "ddpm": ("#d55e00", "s"), "dpmpp_2m": ("#009e73", "^")}
"""Okabe & Ito's colours, told apart by the colour-blind; the markers tell them apart in print."""


def draw(settings: Sequence[Setting], chosen: Setting, name: str, out: Path) -> None:
    """Draw every setting with its interval over the cases, the Pareto set and the chosen one.

    Args:
        settings: From `search.settings.evaluated`.
        chosen: One of them.
        name: Of the model.
        out: PNG.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for method, (color, marker) in STYLES.items():
        points = [s for s in settings if s.sampling.method == method]
        for s in points:
            if s.interval:
                axes.plot([s.case_s] * 2, s.interval, color=color, alpha=0.25, lw=1.2, zorder=1)
        axes.scatter(
            [s.case_s for s in points],
            [s.dice for s in points],
            s=[14 + 10 * min(s.sampling.num_ensemble, 10) for s in points],
            c=color,
            marker=marker,
            label=method if points else None,
            edgecolors="white",
            linewidths=0.6,
            zorder=3,
        )
    front = sorted((s for s in settings if s.is_pareto), key=lambda s: s.case_s)
    axes.step(
        [s.case_s for s in front],
        [s.dice for s in front],
        where="post",
        color="#333333",
        lw=1,
        label="Pareto set",
        zorder=2,
    )
    axes.scatter(
        [chosen.case_s],
        [chosen.dice],
        s=260,
        facecolors="none",
        edgecolors="black",
        linewidths=1.4,
        label=f"chosen: {chosen.words}",
        zorder=4,
    )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds:g}"))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    axes.set(xlabel="seconds a case (log)", ylabel="Dice, 95 % interval over the cases")
    axes.set_title(f"{name}: sampled otherwise, validation fold ({LABEL})", fontsize=11)
    axes.grid(alpha=0.25, lw=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9, loc="lower right", title="larger: more masks")
    write_atomically(out, lambda path: figure.savefig(path, dpi=120, format="png"))
