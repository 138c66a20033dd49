"""How a study stands, also while it runs."""

import time
from pathlib import Path
from typing import Any

from search.analysis.first_weights import label
from search.analysis.mask_references import scored_masks
from search.analysis.ranking import Standing, best_of, value_of
from search.ledger.budget import UNITS, cost_key
from search.ledger.confirming import is_due, share_of
from search.ledger.hand import what_of
from search.ledger.journal import Event, Ledger
from search.ledger.state import StudyState, no_settings
from search.ledger.trial_state import TrialState
from search.monitor.eta import Forecast
from search.monitor.problem import problem_of
from search.monitor.snapshot import StudySnapshot, counted, score_of
from search.monitor.space import space_of
from search.report.text import age, align
from search.report.verdicts import confirmation_text
from search.storage.archives.opened import is_archived
from search.storage.data_facts import ceiling_of
from search.storage.requests import waiting
from search.storage.run_folders import log_of
from search.storage.studies import display_path, writer_of
from search.study.config import StudyConfig
from trainer.files.documents import strict
from trainer.terminal import one_line

MAX_FAILED = 3
"""So many failed trials have a line, the last ones."""


def status(folder: Path) -> dict[str, Any]:
    """Return a study's state as JSON values, as `status_of`.

    Raises:
        ValueError: The ledger is damaged, or has no settings.
        OSError: There is no ledger.
    """
    path = folder / "ledger.jsonl"
    snapshot = StudySnapshot.of(Ledger.open(path, writer=False))
    if snapshot is None:
        raise no_settings(path)
    return status_of(snapshot, folder, writer_of(path))


def status_of(snapshot: StudySnapshot, folder: Path, driver: str | None) -> dict[str, Any]:
    """Return a study's state as JSON values.

    Args:
        snapshot: What its ledger says.
        folder: The study's.
        driver: Who runs it, None if nobody.

    Returns:
        `driver`; `finished`, whether every trial ended and none failed; `standing`, that in
        words; `trials`, the searched ones by ending, `running` and `waiting`, of
        `num_trials` unless they are `exhausted`, and why; combinations that were `refused`, which
        are no trials; `references`, the control among them, and `confirming` likewise;
        `control_status`, how the control stands, None without one; `running`, each with its value
        and `since_report_s`, the seconds since it reported; `rungs`, with the trials judged
        there and those that `went_on`; those that `failed`, each with its reason and its log;
        `epochs` done of at most `max_epochs`, of which
        `epochs_expected` are expected in the end; `eta_s`, about how many seconds from now the
        study ends, None if nobody runs it or nothing is known, by the `eta_budget` if not by its
        plan; `spent` of `budget`, what runs included up to now, and which of them is shown as the
        `cost`; `best` and `control`, each with its value and the `epochs` of which that is the
        mean; `masks`, the Dice of those that are a reference, by name; `threshold_dice`; `idle_s`,
        seconds since the ledger's last line; `waits`, for what a study that runs has fewer
        trials than it wants, None where it has them; `problem`, what is wrong, `since` when (unix
        seconds), the `remedy` and all of it in a `line`, None where nothing is; `space` where that
        is short, else None: the bytes that are `free` on its disk, those about `needed` for the
        trials to come, the `hours` until it is full at this study's rate, and a `line`. By hand:
        `enqueued`,
        the trials to come that people asked for; `requests`, how many of their requests no driver
        has taken up yet; `declined`, those that were refused, and why; `stopping`, the trials that
        end at their checkpoint; `notes` on trials.
    """
    study, state, now = snapshot.study, snapshot.state, time.time()
    until = now if driver else None
    estimate = Forecast(study).estimate(snapshot, now) if driver else None
    seconds = estimate.seconds if estimate else None
    epochs = state.meter.epochs
    return {
        "study": study.study,
        "folder": display_path(folder),
        "driver": driver,
        "finished": state.finished(study) and not state.failed(),
        "standing": state.standing(study),
        "num_trials": state.num_trials(study),
        "max_concurrent": study.trials.max_concurrent,
        "enqueued": [_asked(event) for event in state.enqueued],
        "requests": len({*waiting(folder)} - state.requests.keys()),
        "declined": [
            {key: one_line(event[key]) for key in ("what", "reason")} for event in state.declined
        ],
        "stopping": [trial.number for trial in state.live() if trial.stop_asked],
        "notes": {str(t.number): t.notes for t in state.trials.values() if t.notes},
        "searched": len(state.searched()),
        "exhausted": state.exhausted or None,
        "waits": (state.waits or None) if driver else None,
        "refused": len(state.refused),
        **snapshot.counts(driver is not None),
        "failed": [_failed(trial, folder) for trial in state.failed()],
        "running": [_running(snapshot, trial, now) for trial in snapshot.running() if driver],
        "rungs": [rung._asdict() for rung in snapshot.rungs.rows()],
        "epochs": epochs,
        "epochs_expected": round(epochs + estimate.epochs, 1) if estimate else None,
        "max_epochs": snapshot.planned_epochs(),
        "eta_s": round(seconds, 1) if seconds is not None else None,
        "eta_budget": estimate.limit or None if estimate else None,
        "spent": state.meter.spent(study.trials, until),
        "cost": cost_key(study.trials),
        "budget": study.budget.model_dump(),
        "objective": study.objective.metric,
        "best": score_of(study, best_of(study, state)),
        "label": label(study, state),
        "trainer": study.trainer.name if study.trainer else None,
        "confirm": _confirm(study, state),
        "control": score_of(study, state.control()),
        "threshold_dice": state.threshold["dice"] if state.threshold else None,
        "masks": {
            event["name"]: event["metrics"].get("val/dice") for event in scored_masks(study, state)
        },
        "ceiling_dice": ceiling_of(state.data),
        "idle_s": round(now - state.last_time, 1) if state.last_time else None,
        "problem": _problem(snapshot, folder, driver, now),
        "space": _space(snapshot, folder),
    }


def _space(snapshot: StudySnapshot, folder: Path) -> dict[str, Any] | None:
    """Return the room on the study's disk while it has trials to train; None for enough to say."""
    if is_archived(folder) or snapshot.state.finished(snapshot.study):
        return None
    found = space_of(snapshot.study, snapshot.state, folder)
    if not (found and found.is_short):
        return None
    return {**found._asdict(), "line": found.in_words(folder)}


def _problem(
    snapshot: StudySnapshot, folder: Path, driver: str | None, now: float
) -> dict[str, Any] | None:
    found = problem_of(snapshot, folder, driver, now)
    return found._asdict() | {"line": found.in_words(now)} if found else None


def _asked(event: Event) -> dict[str, Any]:
    """Return a trial that a person asked for, as JSON values."""
    asked = {key: event[key] for key in ("reference", "like") if event.get(key)}
    return {"params": strict(event["params"]), **asked}


def _confirm(study: StudyConfig, state: StudyState) -> dict[str, Any] | None:
    """Return how far the section `confirm` of a study is, None without one."""
    if study.confirm is None:
        return None
    share, unit = share_of(study, state.meter), UNITS[cost_key(study.trials)]
    line = f"{share.spent:.3g} of {share.limit:.3g} {unit} spent"
    if not state.searched_out(study):
        line = f"when the search has ended, for {study.confirm.budget_share:g} of its {unit}"
    elif state.confirmed and not is_due(study, state.confirmed):
        line = one_line(confirmation_text(state.confirmed))
    return {**share._asdict(), "line": line}


def _by_hand(result: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what people asked for as rows: what is to come, and what was done with it."""
    study, rows = result["study"], list[tuple[str, str]]()
    for asked in result["enqueued"]:
        when = "comes next" if result["driver"] else "comes at the next launch"
        rows.append(("by hand", f"{what_of({'kind': 'enqueue'} | asked)}: {when}"))
    if result["stopping"]:
        names = ", ".join(f"{study}:{number}" for number in result["stopping"])
        rows.append(("by hand", f"{names}: asked to stop"))
    if count := result["requests"]:
        what = "request that waits" if count == 1 else "requests that wait"
        who = "the driver" if result["driver"] else "the next launch"
        rows.append(("by hand", f"{count} {what} for {who}"))
    rows += [("declined", f"{each['what']}: {each['reason']}") for each in result["declined"][-3:]]
    for number, notes in result["notes"].items():
        rows += [("note", f"{study}:{number}: {text}") for text in notes]
    return rows


def _running(snapshot: StudySnapshot, trial: TrialState, now: float) -> dict[str, Any]:
    return {
        "trial": trial.number,
        "kind": trial.kind,
        "epoch": trial.epoch,
        "goal": trial.goal(snapshot.study),
        "value": value_of(snapshot.study, trial),
        "since_report_s": round(now - snapshot.last_report_s.get(trial.number, now), 1),
    }


def _failed(trial: TrialState, folder: Path) -> dict[str, Any]:
    log = log_of(folder, trial.number) if trial.attempts else ""
    return {"trial": trial.number, "reason": trial.reason, "log": log}


def render(result: dict[str, Any]) -> str:
    """Return `status` as lines for people."""
    rows = [
        ("study", f"{result['study']}  {result['folder']}"),
        ("driver", result["driver"] or f"none; {result['standing']}"),
        *([("problem", problem["line"])] if (problem := result["problem"]) else []),
        ("trials", f"{result['searched']} of {result['num_trials']} searched: {counted(result)}"),
        *([("at once", f"at most {most}")] if (most := result["max_concurrent"]) else []),
        ("epochs", f"{result['epochs']} of at most {result['max_epochs']}"),
        ("spent", _spent(result)),
        ("best", f"{_said(result, 'best')} ({result['label']})"),
    ]
    if result["trainer"]:
        rows.insert(1, ("trainer", result["trainer"]))
    else:
        rows.append(("control", _said(result, "control")))
    for name, dice in result["masks"].items():
        rows.append((name, f"masks, Dice {dice:.4f}" if dice is not None else "masks, not scored"))
    if result["threshold_dice"] is not None:
        rows.append(("threshold", f"Dice {result['threshold_dice']:.4f}"))
    if result["ceiling_dice"] is not None:
        rows.append(("ceiling", f"Dice {result['ceiling_dice']:.4f}, of a perfect model"))
    if result["confirm"]:
        rows.append(("confirm", result["confirm"]["line"]))
    rows += _by_hand(result)
    if result["waits"]:
        rows.append(("waits", result["waits"]))
    if result["exhausted"]:
        rows.append(("note", result["exhausted"]))
    if result["space"]:
        rows.append(("space", result["space"]["line"]))
    for each in result["failed"][-MAX_FAILED:]:
        log = f"; log: {each['log']}" if each["log"] else ""
        rows.append(("failed", f"{result['study']}:{each['trial']}, {each['reason']}{log}"))
    if result["idle_s"] is not None:
        rows.append(("last event", f"{age(result['idle_s'])} ago"))
    return align(rows)


def _spent(result: dict[str, Any]) -> str:
    parts = []
    for what, amount in result["spent"].items():
        limit = result["budget"].get(what)
        if limit is not None:
            parts.append(f"{amount:.4g} of {limit:g} {UNITS[what]}")
        elif amount and what in (result["cost"], "wall_hours"):
            parts.append(f"{amount:.4g} {UNITS[what]}")
    return ", ".join(parts) or "nothing"


def _said(result: dict[str, Any], which: str) -> str:
    if (score := result[which]) is None:
        return "nothing reported yet"
    where = Standing(score["value"], tuple(score["epochs"])).where
    return (
        f"{result['objective']} {score['value']:.4f}, {where}, {result['study']}:{score['trial']}"
    )
