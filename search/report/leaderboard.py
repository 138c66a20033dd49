"""A study's results as text: tables for a terminal, aligned lines for a pipe."""

import re
import sys
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from search.analysis.results import compare
from search.ledger.budget import UNITS
from search.ledger.state import threshold_rule
from search.report.answer import answer
from search.report.leaderboard_columns import (
    NOTED,
    LeaderboardColumns,
    has_means,
    number,
    trial_text,
)
from search.report.mattered import mattered_method, mattered_sentence, mattered_table
from search.report.settings_text import param
from search.report.text import align
from search.report.verdicts import confirmation_text, verdict_text

MAX_FAILURES = 3
"""So many failed trials are named."""
COMMAND = re.compile("`[^`]*`")
GLUE = "\0"
"""In place of a space at which no line is broken; no text that is printed has it."""


def leaderboard(folder: Path) -> str:
    """Return a study's results as text: a table for a terminal, plain aligned lines otherwise."""
    return leaderboard_text(compare(folder), terminal_width())


def leaderboard_text(result: Mapping[str, Any], width: int | None) -> str:
    """Return what `compare` found as text: a table so many characters wide, or for None plain."""
    columns = LeaderboardColumns(result)
    metric = "Dice" if columns.has_dice else result["objective"]["metric"]
    where = " on its validation fold" if result["store"] else ""
    title = f"{result['study']}: {metric} of each trial's last epoch{where} ({result['label']})"
    table, left_out = (columns.plain(), []) if width is None else columns.rich(width)
    if not columns.rows:
        table = "nothing reported yet"
    parts = [
        *wrapped([title], width),
        "",
        table,
        "",
        *wrapped(_notes(result, columns, left_out), width),
    ]
    if result["pareto"]:
        parts += ["", *_pareto(result, width)]
    if result["trials"] and result["searched"]:
        parts += ["", *_importance(result["importance"], width)]
    if result["subgroups"]:
        parts += ["", *_subgroups(result)]
    for verdict in result["verdicts"]:
        parts += ["", *_prose_wrapped(verdict_text(verdict), width)]
    if event := result["confirmation"]:
        parts += ["", *wrapped([f"confirmed: {confirmation_text(event)}"], width)]
    parts += ["", *wrapped([answer(result)], width)]
    return "\n".join(parts)


def terminal_width() -> int | None:
    """Return the characters of the terminal that is written to, None if it is none."""
    if not sys.stdout.isatty():
        return None
    from rich.console import Console

    return Console().width


def wrapped(lines: Iterable[str], width: int | None) -> list[str]:
    """Return lines broken between words on a terminal, what goes on indented.

    A command in backticks is to be copied, and stays in one piece where a line has room for it.
    """
    if width is None:
        return [line.replace("\n", " ") for line in lines]
    whole = (COMMAND.sub(lambda found: found[0].replace(" ", GLUE), line) for line in lines)
    broken = (
        textwrap.wrap(line, width, subsequent_indent="  ", break_on_hyphens=False) for line in whole
    )
    return [part.replace(GLUE, " ") for parts in broken for part in parts]


def _notes(
    result: Mapping[str, Any], columns: LeaderboardColumns, left_out: list[str]
) -> list[str]:
    notes, metric = list[str](), result["objective"]["metric"]
    if columns.has_means:
        notes.append(
            f"ranked by {metric}, the mean of the epochs in (): the last {result['smoothing']} "
            "validations; all else is of the last epoch; the weights of "
            f"{result['weights_of']} stand for a trial"
        )
    elif metric != "val/dice":
        notes.append(f"ranked by {metric}")
    if result["trainer"] is None and columns.rows:
        notes.append("[…]: 95 % interval over the cases with a lesion")
    elif any(row["dice_interval"] for row in columns.rows):
        notes.append("[…]: 95 % interval over the cases")
    for row in columns.rows:
        if row["first_weights"] and row["first_weights"] not in result["label"]:
            notes.append(f"{result['study']}:{row['trial']}: {row['first_weights']}")
    for row in columns.rows:
        notes += [
            f"{NOTED} {result['study']}:{row['trial']}: {text}" for text in row.get("notes", ())
        ]
    if left_out:
        notes.append(f"no room for {', '.join(left_out)}: a wider terminal, --csv or --html")
    if columns.has_equal_epoch:
        mean = f", the mean of {result['smoothing']} validations" if result["smoothing"] > 1 else ""
        notes.append(
            f"at epoch {result['equal_epoch']}: {metric} at the last that all have that came to "
            f"epoch {result['max_t']}{mean}, with its rank: equal training, unlike at the end"
        )
    if any(row["difference_to_best"] for row in columns.rows):
        best = f"{result['study']}:{result['trials'][0]['trial']}"
        notes.append(
            f"difference to the best: Dice minus that of {best}, case by case at the last "
            "epoch that both reported"
        )
    if sum(row["rank"] is not None for row in result["trials"]) > 1:
        judge = f"`segtune confirm {result['study']}` judges them"
        judged = "the verdicts below say more" if result["verdicts"] else judge
        notes.append(
            f"differences between trials, of one seed on one fold each, are exploratory: {judged}"
        )
    notes.append(noise_text(result))
    notes += [row["text"] for row in result["masks"]]
    if read := result["test_readings"]:
        notes.append(readings_text(read))
    if threshold := result["threshold"]:
        notes.append(f"threshold: {threshold_rule(threshold)}, the best of a single modality")
    if (data := result["data"]) and (ceiling := data["ceiling"]):
        notes.append(f"ceiling: {ceiling_text(data, ceiling)}")
    if common := _common(result):
        usual = ", with the defaults in ()" if "(" in common else ""
        notes.append(f"all trials{usual}: {common}")
    if result["exhausted"]:
        notes.append(result["exhausted"])
    elif result["refused"]:
        notes.append(f"combinations that the trainer refuses, no trials: {result['refused']}")
    notes += _failures(result)
    notes += _spent(result)
    notes += _rungs(result)
    return notes


def readings_text(number: int) -> str:
    """Return in words how often a sealed test set was read."""
    return f"the test set has been read {number} time{'s' * (number != 1)}"


def ceiling_text(data: Mapping[str, Any], ceiling: Mapping[str, float]) -> str:
    """Return in words what no model of a study's store can be expected to exceed."""
    return (
        f"at {data['image_size']} pixels a perfect model scores Dice {number(ceiling['dice'])}, "
        f"lesion F1 {ceiling['lesion_f1']:.3f} on these cases"
    )


def noise_text(result: Mapping[str, Any]) -> str:
    """Return in words what a study's validations vary by nothing but their noise."""
    noise = result["noise"]
    if "missing" in noise:
        return f"validation noise: {noise['missing']}"
    many = result["smoothing"]
    mean = f" ({number(noise['std_of_value'])} of a mean of {many})" if many > 1 else ""
    return (
        f"validation noise: {noise['metric']} {number(noise['mean'])}, standard deviation "
        f"{number(noise['std'])}{mean}, over {noise['draws']} noise seeds of the weights of "
        f"{result['study']}:{noise['trial']}, epoch {noise['epoch']}"
    )


def _common(result: Mapping[str, Any]) -> str:
    """Return what no trial has at its default, and all alike."""
    changes = [row["changed"] for row in result["trials"] if row["changed"] is not None]
    return ", ".join(
        f"{name} {param(value)}" + ("" if default is None else f" ({param(default)})")
        for name, (default, value) in (changes[0] if changes else {}).items()
        if name not in result["searched"]
        and all(other.get(name) == [default, value] for other in changes)
    )


def _failures(result: Mapping[str, Any]) -> list[str]:
    """Return a line for each of the last trials that failed: why, and where its log is."""
    rows = [row for row in [*result["trials"], *result["references"]] if row["ending"] == "failed"]
    rows.sort(key=lambda row: row["trial"])
    notes = [f"{len(rows)} trials failed, the last:"] if len(rows) > MAX_FAILURES else []
    for row in rows[-MAX_FAILURES:]:
        log = f"; log: {row['log']}" if row["log"] else ""
        notes.append(f"{result['study']}:{row['trial']} failed: {row['reason']}{log}")
    return notes


def _spent(result: Mapping[str, Any]) -> list[str]:
    spent, cost, notes = result["spent"], result["cost"], []
    if spent["epochs"] or spent[cost]:
        hours = f"{spent[cost]:.3g} {UNITS[cost]}"
        notes.append(f"spent: {hours}, {spent['epochs']} epochs")
    if result["pruned_by"] and (saved := result["epochs_saved"]) is not None:
        ended = sum(row["ending"] is not None for row in result["trials"])
        notes.append(
            f"{result['pruned_by']} saved {saved:.0%} of the epochs of training all {ended} ended "
            f"trials to epoch {result['max_t']}"
        )
    return notes


def _rungs(result: Mapping[str, Any]) -> list[str]:
    found = result["rung_correlation"]
    if not found:
        return []
    at = ", ".join(
        f"at {row['epoch']} {row['spearman']:+.2f} (n {row['num_trials']})" for row in found
    )
    by_rungs = result["pruned_by"].startswith("ASHA")
    survivors = " among those that were not stopped" if by_rungs else ""
    return [f"ranks that agree with those at epoch {result['max_t']}{survivors}, Spearman: {at}"]


def _prose_wrapped(text: str, width: int | None) -> list[str]:
    """Return lines of which sentences are broken on a terminal, and tables are not."""
    return [
        part
        for line in text.splitlines()
        for part in ([line] if "  " in line or not line else wrapped([line], width))
    ]


def _pareto(result: Mapping[str, Any], width: int | None) -> list[str]:
    objectives = [result["objective"], *result["further_objectives"]]
    names = [f"{o['metric']} ({o['mode']})" for o in objectives]
    by_number = {row["trial"]: row for row in result["trials"]}
    # On a terminal the parameters stand in the table above alone.
    searched = result["searched"] if width is None else []
    rows = [["trial", *names, *searched]]
    for trial in result["pareto"]:
        row = by_number[trial]
        values = [number(row["means"].get(o["metric"])) for o in objectives]
        params = [param(row["params"].get(name, "")) for name in searched]
        rows.append([str(trial), *values, *params])
    title = "* Pareto set: no other trial is better in one objective without being worse in another"
    if has_means(by_number.values()):
        title += f", by the mean of the last {result['smoothing']} validations"
    return [*wrapped([title], width), *align(rows).splitlines()]


def _importance(found: Mapping[str, Any], width: int | None) -> list[str]:
    said = mattered_sentence(found)
    if found["missing"]:
        return wrapped([said], width)
    return [*wrapped([f"{said} ({mattered_method(found)})"], width), *mattered_table(found)]


def _subgroups(result: Mapping[str, Any]) -> list[str]:
    """Return the Dice by lesion volume of the best, the control and the references."""
    groups = [
        g for g in result["subgroups"][0]["groups"] if g["num_cases"] and g["name"] != "empty"
    ]
    heads = [f"{group['name']} ({group['num_cases']})" for group in groups]
    rows = [["", "trial", *heads]]
    for row in result["subgroups"]:
        dice = {group["name"]: group["dice"] for group in row["groups"]}
        values = [number(dice[group["name"]]) for group in groups]
        rows.append([row["name"], trial_text(row), *values])
    title = f"Dice by lesion volume at the last epoch, of (cases), {result['label']}:"
    return [title, "", *align(rows).splitlines()]
