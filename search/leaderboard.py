"""The leaderboard and the verdicts as text: tables for a terminal, aligned lines for a pipe."""

import io
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search.compare import compare
from search.preview import align
from search.state import threshold_rule

Cells = list[list[str]]


def leaderboard(folder: Path) -> str:
    """Return a study's results as text: a table for a terminal, plain aligned lines otherwise."""
    result = compare(folder)
    ranked, beside = _cells(result)
    title = (
        f"{result['study']}: Dice of each trial's last epoch on its validation fold "
        f"({result['label']})"
    )
    table = _rich(ranked, beside) if sys.stdout.isatty() else _plain(ranked, beside)
    parts = [title, "", table, "", *_notes(result)]
    if result["pareto"]:
        parts += ["", *_pareto(result)]
    for verdict in result["verdicts"]:
        parts += ["", verdict_text(verdict)]
    return "\n".join(parts)


def _notes(result: dict[str, Any]) -> list[str]:
    notes = []
    if (metric := result["objective"]["metric"]) != "val/dice":
        notes.append(f"ranked by {metric}")
    notes.append("[…]: 95 % bootstrap interval over the cases with a lesion")
    if _shows_equal(result):
        mean = f", the mean of {result['smoothing']} validations" if result["smoothing"] > 1 else ""
        notes.append(
            f"at {result['equal_epoch']}: {metric} at the last epoch that all completed trials "
            f"have{mean}, with its rank: equal training, unlike at the end"
        )
    if sum(row["rank"] is not None for row in result["trials"]) > 1:
        judged = "the verdicts below say more" if result["verdicts"] else "`confirm` judges them"
        notes.append(
            f"differences between trials, of one seed on one fold each, are exploratory: {judged}"
        )
    if result["pruned_by"] and (saved := result["epochs_saved"]) is not None:
        ended = sum(row["ending"] is not None for row in result["trials"])
        notes.append(
            f"{result['pruned_by']} saved {saved:.0%} of the epochs of training all {ended} ended "
            f"trials to epoch {result['max_t']}"
        )
    return notes


def _shows_equal(result: dict[str, Any]) -> bool:
    """Say whether ranks at equal epochs tell anything that those at the end do not."""
    return any(row["resumed_after"] for row in result["trials"])


def _cells(result: dict[str, Any]) -> tuple[Cells, Cells]:
    """Return the rows of the ranking below its head, and of what stands beside it."""
    searched = result["searched"]
    metric = result["objective"]["metric"]
    own = [] if metric == "val/dice" else [metric]
    further = [objective["metric"] for objective in result["further_objectives"]]
    equal = [f"at {result['equal_epoch']}"] if _shows_equal(result) else []

    def cells(row: dict[str, Any], first: str) -> list[str]:
        low_high = row["dice_interval"]
        return [
            first,
            str(row["trial"]),
            row["ending"] or "going on",
            epochs_text(row),
            _number(row["dice"]),
            f"[{low_high[0]:.3f}, {low_high[1]:.3f}]" if low_high else "",
            *[_number(row["value"]) for _ in own],
            *[_ranked_number(row) for _ in equal],
            *[_number(row["metrics"].get(name)) for name in further],
            *[_param(row["params"].get(name, "")) for name in searched],
        ]

    head = ["rank", "trial", "ending", "epochs", "Dice", "", *own, *equal, *further, *searched]
    ranked = [head]
    for row in result["trials"]:
        mark = "*" * (row["trial"] in result["pareto"])
        ranked.append(cells(row, f"{row['rank'] or '-'}{mark}"))
    beside = [
        cells(row, "control (U-Net)" if row["kind"] == "control" else "reference")
        for row in result["references"]
    ]
    if threshold := result["threshold"]:
        row = ["threshold", "", threshold_rule(threshold), "", _number(threshold["dice"])]
        beside.append(row + [""] * (len(head) - len(row)))
    return ranked, beside


def epochs_text(row: Mapping[str, Any]) -> str:
    """Return how far a trial got: 27, 27 -> 81 if resumed, 27 -> 30 of 81 on its way."""
    text = " -> ".join(map(str, [*row["resumed_after"], row["epochs"]]))
    on_its_way = row["resumed_after"] and row["ending"] is None
    return f"{text} of {row['goal']}" if on_its_way else text


def _pareto(result: dict[str, Any]) -> list[str]:
    objectives = [result["objective"], *result["further_objectives"]]
    names = [f"{o['metric']} ({o['mode']})" for o in objectives]
    by_number = {row["trial"]: row for row in result["trials"]}
    rows = [["trial", *names, *result["searched"]]]
    for number in result["pareto"]:
        row = by_number[number]
        values = [_number(row["metrics"].get(o["metric"])) for o in objectives]
        params = [_param(row["params"].get(name, "")) for name in result["searched"]]
        rows.append([str(number), *values, *params])
    return [
        "* Pareto set: no other trial is better in one objective without being worse in another",
        *align(rows).splitlines(),
    ]


def verdict_text(event: Mapping[str, Any]) -> str:
    """Return a `verdict` event as a table of the confirmed trials and a sentence each verdict."""
    rows = [["trial", "", "Dice", "95 % interval", *(f"seed {s}" for s in event["seeds"])]]
    for score in event["scores"]:
        low, high = score["interval"]
        by_seed = dict(zip(score["seeds"], score["by_seed"], strict=True))
        rows.append(
            [
                str(score["trial"]),
                score["role"],
                f"{score['mean']:.4f}",
                f"[{low:.3f}, {high:.3f}]",
                *(f"{by_seed[s]:.4f}" if s in by_seed else "-" for s in event["seeds"]),
            ]
        )
    sentences = [sentence(comparison) for comparison in event["comparisons"]]
    return "\n".join([f"confirmed {event['where']}:", "", align(rows), "", *sentences])


def sentence(comparison: Mapping[str, Any]) -> str:
    """Return one verdict in words, with what it rests on."""
    trial, word = f"trial {comparison['trial']}", comparison["verdict"]
    other = f"{comparison['family']} (trial {comparison['other']})"
    if word == "none":
        return f"{trial} against the {other}: no verdict {comparison['reason']}"
    low, high = comparison["interval"]
    said = {
        "better": f"{trial} is better than the {other}",
        "worse": f"{trial} is worse than the {other}",
        "equivalent": f"{trial} and the {other} are equivalent",
        "not distinguishable": f"{trial} and the {other} are not distinguishable",
    }[word]
    text = (
        f"{said}: Dice {comparison['mean']:+.4f}, {100 * comparison['level']:.4g} % interval "
        f"[{low:+.4f}, {high:+.4f}], p {comparison['p_holm']:.2g} (Holm), "
        f"{len(comparison['seeds'])} seeds, {sum(comparison['num_cases'])} cases"
    )
    return f"{text}; {comparison['reason']}" if comparison["reason"] else text


def _ranked_number(row: dict[str, Any]) -> str:
    value = row["value_at_equal"]
    return "" if value is None else f"{value:.4f} ({row['rank_at_equal'] or '-'})"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _param(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _plain(ranked: Cells, beside: Cells) -> str:
    lines = align([*ranked, *beside]).splitlines()
    return "\n".join([*lines[: len(ranked)], "", "not ranked:", *lines[len(ranked) :]])


def _rich(ranked: Cells, beside: Cells) -> str:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for name in ranked[0]:
        table.add_column(name, overflow="fold")
    for row in ranked[1:]:
        table.add_row(*map(Text, row))
    table.add_section()
    for row in beside:
        table.add_row(*map(Text, row), style="dim")
    console = Console(file=io.StringIO(), force_terminal=True, width=Console().width)
    console.print(table)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text.rstrip()
