"""How a study stands, also while it runs."""

import time
from collections import Counter
from pathlib import Path
from typing import Any

from search.compare import LABEL, read_study
from search.ledger import writer_of
from search.preview import align
from search.state import StudyState, TrialState
from search.storage import shown
from search.study import StudyConfig


def status(folder: Path) -> dict[str, Any]:
    """Return a study's state as JSON values.

    Returns:
        `driver`, who runs it, None if nobody; `trials` by ending, `running` and `waiting`, of
        `num_trials` searched ones; `epochs` done of at most `max_epochs`; `spent` of `budget`, what
        runs included up to now; `best`, `control` and `threshold`; `idle_s`, seconds since the
        ledger's last line.
    """
    study, state = read_study(folder)
    driver = writer_of(folder / "ledger.jsonl")
    now = time.time() if driver else None
    spent = state.meter.spent(study.trials.gpus_per_trial, now)
    going_on = {True: "running", False: "waiting"}
    counts = Counter(
        trial.ending or going_on[trial.running and driver is not None]
        for trial in state.trials.values()
    )
    return {
        "study": study.study,
        "folder": shown(folder),
        "driver": driver,
        "finished": state.finished(study),
        "num_trials": study.trials.num_trials,
        "searched": len(state.searched()),
        "trials": dict(sorted(counts.items())),
        "epochs": state.meter.epochs,
        "max_epochs": _planned_epochs(study, state),
        "spent": spent,
        "budget": study.budget.model_dump(),
        "objective": study.objective.metric,
        "best": _score(state.best(study.objective.mode)),
        "control": _score(state.control()),
        "threshold_dice": state.threshold["dice"] if state.threshold else None,
        "idle_s": round(time.time() - state.last_time, 1) if state.last_time else None,
    }


def _planned_epochs(study: StudyConfig, state: StudyState) -> int:
    """Return the epochs of the whole plan without pruning, resumed and confirming ones included."""
    planned = study.num_protected + study.trials.num_trials
    proposed = [trial for trial in state.trials.values() if trial.kind != "confirm"]
    unproposed = max(0, planned - len(proposed)) * study.scheduler.max_t
    return unproposed + sum(trial.goal(study) for trial in state.trials.values())


def _score(trial: TrialState | None) -> dict[str, Any] | None:
    if trial is None or not trial.reports:
        return None
    return {"trial": trial.number, "epoch": trial.epoch, "value": trial.value}


def render(result: dict[str, Any]) -> str:
    """Return `status` as lines for people."""
    trials = ", ".join(f"{number} {kind}" for kind, number in result["trials"].items())
    rows = [
        ("study", f"{result['study']}  {result['folder']}"),
        ("driver", result["driver"] or ("none; finished" if result["finished"] else "none")),
        ("trials", f"{result['searched']} of {result['num_trials']} searched: {trials or 'none'}"),
        ("epochs", f"{result['epochs']} of at most {result['max_epochs']}"),
        ("spent", _spent(result["spent"], result["budget"])),
        ("best", f"{_said(result['best'], result['objective'])} ({LABEL})"),
        ("control", _said(result["control"], result["objective"])),
    ]
    if result["threshold_dice"] is not None:
        rows.append(("threshold", f"Dice {result['threshold_dice']:.4f}"))
    if result["idle_s"] is not None:
        rows.append(("last event", f"{result['idle_s']:.0f} s ago"))
    if not (result["driver"] or result["finished"]):
        rows.append(("", "to continue it, run its `segtune launch` again"))
    return align(rows)


def _spent(spent: dict[str, float], budget: dict[str, float | None]) -> str:
    parts = []
    for what, amount in spent.items():
        limit = budget[what]
        if limit is not None:
            parts.append(f"{amount:.4g} of {limit:g} {what.replace('_', ' ')}")
        elif amount and what != "epochs":
            parts.append(f"{amount:.4g} {what.replace('_', ' ')}")
    return ", ".join(parts) or "nothing"


def _said(score: dict[str, Any] | None, metric: str) -> str:
    if score is None:
        return "nothing reported yet"
    return f"{metric} {score['value']:.4f} at epoch {score['epoch']}, trial {score['trial']}"
