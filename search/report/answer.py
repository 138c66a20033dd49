"""What a study has found, in one sentence: the best, by how much, what mattered, what to do."""

from collections.abc import Mapping
from typing import Any

from search.analysis.intervals import TOO_FEW
from search.analysis.next_step import (
    beside,
    best_row,
    control_row,
    falls_short,
    judged,
    lead,
    next_step,
    verdict_on,
)
from search.report.leaderboard_columns import interval, number
from search.report.settings_text import settings_words
from search.report.verdicts import metric_name, opponent

Row = Mapping[str, Any]

NAMED = 3
"""Rivals of the best that are named; the others are counted."""


def answer(result: Row) -> str:
    """Return what a study has found as a sentence, commands in backticks.

    Args:
        result: As `search.analysis.results.compare` returns it.
    """
    best, step = best_row(result), next_step(result)
    parts = ["no trial has a result yet"]
    if best is not None:
        parts = [
            _best(result, best),
            rivals_text(result),
            _compared(result, best),
            _shortfall(result, best),
        ]
        parts.append(mattered_text(result))
    why = step.why if best is not None or step.command else ""
    parts.append(f"next: `{step.command}`, as {why}" if step.command else why)
    return "; ".join(filter(None, parts))


def _best(result: Row, best: Row) -> str:
    words = settings_words(result["searched"], best["params"])
    settings = ", ".join(words[name] for name in result["searched"] if name in words)
    objective = result["objective"]["metric"]
    metric = "Dice" if objective == "val/dice" else objective
    with_settings = f" with {settings}" if settings else ""
    value = f"{metric} {number(best['value'])}, {result['label']}"
    return f"{result['study']}:{best['trial']} is best{with_settings}: {value}"


def rivals_text(result: Row) -> str:
    """Return which trials are not told from the best one; empty where nothing tells.

    Args:
        result: As `search.analysis.results.compare` returns it.
    """
    if (found := result.get("rivals")) is None:
        return ""
    by = {"cases": "case by case", "some cases": "case by case where the ledger has cases"}
    how = by.get(found["by"], "by the noise of validations")
    names = [str(number) for number in found["trials"]]
    if not names:
        return f"{how} it is told from all others"
    if len(names) > NAMED:
        names = [*names[:NAMED], f"{len(names) - NAMED} more"]
    *before, last = names
    named = f"{', '.join(before)} and {last}" if before else last
    return f"{how} {named} cannot be told apart from it"


def _compared(result: Row, best: Row) -> str:
    """Return by how much the best is ahead of what it is compared with."""
    if verdict := verdict_on(result, best):
        trial, rows = judged(verdict)
        name = metric_name(verdict)
        said = [_judged(row, name) for row in rows if row["family"] != "runner-up"]
        said = said or [_judged(row, name) for row in rows]
        about = "" if trial == best["trial"] else f" trial {trial}"
        return f"confirmed{about} {verdict['where']}: {', '.join(said)}" if said else ""
    return ", ".join(filter(None, (_against(row) for row in beside(result))))


def _judged(row: Row, name: str) -> str:
    """Return a verdict of a comparison: `better than the control (trial 0), Dice +0.1 […]`."""
    word = row["verdict"] if row["verdict"] != "none" else "no verdict"
    preposition = "than" if word in ("better", "worse") else "against"
    said = f"{word} {preposition} the {opponent(row)}"
    if row.get("mean") is None:
        return said
    return f"{said} ({name} {row['mean']:+.4f} {interval(row.get('interval'), '+.4f')})"


def _against(row: Row) -> str:
    """Return by how much the best is ahead of a row, as far as its cases tell."""
    found = lead(row)
    if found is None:
        return ""
    name = "the control" if row["kind"] == "control" else row["name"]
    mean, ends = found
    if ends is None:
        return f"Dice {mean:+.3f} against {name} ({TOO_FEW})"
    if ends[0] > 0:
        return f"it beats {name} by Dice {mean:.3f} {interval(ends)}"
    if ends[1] < 0:
        return f"it is behind {name} by Dice {-mean:.3f} {interval((-ends[1], -ends[0]))}"
    return f"it is not told from {name} (Dice {mean:+.3f} {interval(ends, '+.3f')})"


def _shortfall(result: Row, best: Row) -> str:
    control = control_row(result)
    if control is None or not falls_short(best, control):
        return ""
    return (
        f"the control reaches {control['dice']:.2f} where the best reaches {best['dice']:.2f}: "
        "the data is not the reason"
    )


def mattered_text(result: Row) -> str:
    """Return which settings mattered, as far as the study's importance tells."""
    found = result["importance"]
    if not result["searched"]:
        return ""
    if found["missing"]:
        return "too few trials tell what mattered"
    names = [row["name"] for row in found["parameters"] if row["mattered"]]
    return f"{', '.join(names)} mattered" if names else "no setting's effect is told from chance"
