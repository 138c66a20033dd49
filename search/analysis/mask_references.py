"""Masks that are a reference: as rows beside the trials, and in a confirmation, case by case."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from search.analysis.case_scores import (
    CASE_METRICS,
    DICE,
    case_values,
    intervals_of,
    paired_difference,
    read_cases,
    volume_groups,
)
from search.analysis.intervals import mean_interval
from search.ledger.journal import Event
from search.ledger.state import StudyState
from search.ledger.trial_state import TrialState
from search.study.config import StudyConfig
from trainer.files.documents import strict


def scored_masks(study: StudyConfig, state: StudyState) -> list[Event]:
    """Return how each masks that the study names score, as far as the ledger says."""
    return [state.masks[r.name] for r in study.mask_references if r.name in state.masks]


def mask_rows(
    study: StudyConfig, state: StudyState, folder: Path, best: TrialState | None
) -> list[dict[str, Any]]:
    """Return masks as rows with the keys of a trial's, whose values are None where it has none.

    Besides: `masks`, their folder; `covered`, how many of the cases of each fold have one;
    `missing`, the fold's cases without; `unseen`, in words whether its patients may not be new to
    their model, empty where they are; `said`, how they were read; `text`, all that in words.

    Args:
        study: Its settings.
        state: Its ledger.
        folder: Where the trials' cases lie.
        best: The best searched trial, None without one.
    """
    theirs = read_cases(folder / "trials" / f"{best.number:04d}", best.epoch) if best else []
    return [_row(study, event, best, theirs) for event in scored_masks(study, state)]


def _row(
    study: StudyConfig, event: Event, best: TrialState | None, theirs: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    rows = cases_of_fold(event, study.data.fold)
    dice, metrics = case_values(rows, DICE), event["metrics"]
    there = {row["case_id"] for row in rows}
    their_dice = case_values([row for row in theirs if row["case_id"] in there], DICE)
    difference = paired_difference(dice, their_dice) if best else None
    nothing = dict.fromkeys(
        ("trial", "rank", "rank_at_equal", "ending", "epochs", "goal", "value", "value_at_equal",
         "seed", "changed", "gpu_hours", "cpu_hours")
    )  # fmt: skip
    row = {
        **nothing,
        "name": event["name"],
        "kind": "masks",
        "status": "masks",
        "reason": "",
        "resumed_after": [],
        "value_epochs": [],
        "means": {},
        "last_value": strict(metrics.get(study.objective.metric)),
        "dice": strict(metrics.get("val/dice")),
        "dice_interval": mean_interval([*dice.values()], DICE.scale) if dice else None,
        "num_cases": len(dice) if dice else None,
        "avd_ml": strict(metrics.get("val/avd_ml")),
        "lesion_f1": strict(metrics.get("val/lesion_f1")),
        "difference_to_best": difference and {**difference, "epoch": best and best.epoch},
        "fold": study.data.fold,
        "hosts": [],
        "first_weights": "",
        "pictures": [],
        "metrics": {key: strict(value) for key, value in metrics.items()},
        "params": {},
        "masks": event["folder"],
        "covered": event["covered"],
        "missing": event["missing"],
        "unseen": event["unseen"],
        "said": event["said"],
        "groups": volume_groups(rows) if rows else None,
        "intervals": intervals_of(rows),
    }
    return row | {"text": _text(row, study.data.fold)}


def cases_of_fold(event: Event, fold: int) -> list[dict[str, Any]]:
    """Return the scores of masks on a fold's cases, sorted by case."""
    rows = [row for row in event["cases"] if row["fold"] == fold]
    return sorted(rows, key=lambda row: str(row["case_id"]))


def mask_values(event: Event, metric: str, fold: int) -> dict[str, float]:
    """Return a metric of the masks on each case of a fold that it averages; empty without any."""
    return case_values(cases_of_fold(event, fold), CASE_METRICS[metric]) or {}


def _text(row: Mapping[str, Any], fold: int) -> str:
    """Return a line about masks beside a ranking: where they lie, and which cases they cover."""
    scored, of = row["covered"].get(str(fold), [0, 0])
    parts = [f"{row['name']}: masks in {row['masks']}, {scored} of {of} cases of fold {fold}"]
    others = [f"{k} ({n} of {m})" for k, (n, m) in row["covered"].items() if k != str(fold) and n]
    if others:
        parts.append(f"and of folds {', '.join(others)}")
    return "; ".join([" ".join(parts), *([row["unseen"]] if row["unseen"] else [])])
