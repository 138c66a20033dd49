"""Several studies side by side, as text."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from search.analysis.first_weights import LABEL
from search.analysis.results import compare_studies
from search.ledger.budget import HEADS
from search.report.leaderboard import terminal_width, wrapped
from search.report.leaderboard_columns import (
    has_means,
    interval,
    mean_text,
    number,
)
from search.report.settings_text import param, short_names
from search.report.text import align
from search.report.verdicts import confirmation_text, metric_name, sentence
from search.storage.data_facts import ceiling_of


def side_by_side(folders: Sequence[Path]) -> str:
    """Return a line a study, then what the best of each is and what `confirm` says of it."""
    width = terminal_width()
    result = compare_studies(folders)
    studies = result["studies"]
    title = (
        f"{len(studies)} studies: Dice of each one's best trial on its validation fold ({LABEL})"
    )
    parts = [
        *wrapped([title], width),
        "",
        *_table(studies, width).splitlines(),
        "",
    ]
    notes = ["[…]: 95 % interval over the cases with a lesion"]
    if differing := result["incomparable"]:
        notes.append(f"numbers are not comparable between them: other {', '.join(differing)}")
    else:
        notes.append(
            "same store and validation fold; differences between the studies' best trials, of one "
            "seed each, are exploratory"
        )
    if len({study["max_t"] for study in studies}) > 1:
        notes.append("their trials have other numbers of epochs")
    parts += wrapped(notes, width)
    for study in studies:
        parts += ["", *wrapped(_about(study), width)]
    if between := result["between"]:
        name = metric_name({"metric": studies[0]["objective"]["metric"]})
        lines = [f"  {sentence(row, name)}" for row in between]
        where = "between studies, by what `confirm` trained again with the same seeds and folds:"
        parts += ["", *wrapped([where, *lines], width)]
    return "\n".join(parts)


def _table(studies: Sequence[Mapping[str, Any]], width: int | None) -> str:
    rows = [
        {
            "study": study["study"],
            "best": _best(study),
            **_means(studies, study),
            "Dice": number(_first(study, "dice")),
            "95 % interval": interval(
                _first(study, "dice_interval"), measured=_first(study, "num_cases")
            ),
            "at epoch": str(_first(study, "epochs") or ""),
            "control": number(_control(study)),
            **_masks(studies, study),
            "threshold": number((study["threshold"] or {}).get("dice")),
            "ceiling": number(ceiling_of(study["data"])),
            "trials": str(len(study["trials"])),
            "epochs": str(study["max_t"]),
            "saved": "" if study["epochs_saved"] is None else f"{study['epochs_saved']:.0%}",
            **_costs(studies, study),
            "fold": "" if study["fold"] is None else str(study["fold"]),
            "store": (study["store_hash"] or study["store"] or "")[:8],
        }
        for study in studies
    ]
    names = [*rows[0]]
    text = align([names, *[[row[name] for name in names] for row in rows]])
    # The last columns are the least wanted, and what differs in them is said below.
    while width is not None and max(map(len, text.splitlines())) > width and len(names) > 4:
        names.pop()
        text = align([names, *[[row[name] for name in names] for row in rows]])
    return text


def _masks(studies: Sequence[Mapping[str, Any]], study: Mapping[str, Any]) -> dict[str, str]:
    """Return the Dice of masks that are a reference, a column a name that any study has."""
    names = dict.fromkeys(row["name"] for other in studies for row in other["masks"])
    mine = {row["name"]: number(row["dice"]) for row in study["masks"]}
    return {name: mine.get(name, "") for name in names}


def _costs(studies: Sequence[Mapping[str, Any]], study: Mapping[str, Any]) -> dict[str, str]:
    """Return what a study cost, with an empty cell for a unit that only others have."""
    mine = f"{study['spent'][study['cost']]:.3g}"
    units = sorted({other["cost"] for other in studies}, reverse=True)
    return {HEADS[unit]: mine if unit == study["cost"] else "" for unit in units}


def _means(studies: Sequence[Mapping[str, Any]], study: Mapping[str, Any]) -> dict[str, str]:
    """Return what the best trial is ranked by, with its epochs, where that is a mean anywhere."""
    if not any(has_means(other["trials"]) for other in studies):
        return {}
    first = study["trials"][:1]
    return {"mean (epochs)": mean_text(first[0]) if first and first[0]["rank"] else ""}


def _best(study: Mapping[str, Any]) -> str:
    first = _first(study, "trial")
    return "" if first is None else f"trial {first}"


def _first(study: Mapping[str, Any], key: str) -> Any:
    """Return what the best trial has, None without one."""
    rows = study["trials"]
    return rows[0][key] if rows and rows[0]["rank"] else None


def _control(study: Mapping[str, Any]) -> float | None:
    return next((row["dice"] for row in study["references"] if row["kind"] == "control"), None)


def _about(study: Mapping[str, Any]) -> list[str]:
    """Return the settings of a study's best trial, and the verdicts on those that did best."""
    params: Mapping[str, Any] = _first(study, "params") or {}
    names = short_names([*params])
    settings = ", ".join(f"{names[name]} {param(value)}" for name, value in params.items())
    best = _first(study, "trial")
    named = f"{study['study']}: nothing" if best is None else f"{study['study']}:{best}"
    lines = [f"{named} is best: {settings or 'no settings'}"]
    if warning := _first(study, "first_weights"):
        lines.append(f"  {warning}")
    for verdict in study["verdicts"]:
        judged = [row["trial"] for row in verdict["comparisons"]][:1]
        name = metric_name(verdict)
        said = [sentence(row, name) for row in verdict["comparisons"] if row["trial"] in judged]
        lines += [f"  confirmed {verdict['where']}:", *(f"  {text}" for text in said)]
    if event := study["confirmation"]:
        lines.append(f"  confirmed: {confirmation_text(event)}")
    elif not study["verdicts"]:
        lines.append("  not confirmed")
    return lines
