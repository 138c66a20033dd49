"""What the page of search/report/page_html.py shows of a study, as JSON values and floats."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from search.analysis.case_scores import DICE, case_values, paired_difference, read_cases
from search.analysis.results import compare
from search.ledger.case_lists import DIGITS
from search.ledger.journal import Event, Ledger
from search.ledger.state import StudyState
from search.ledger.trial_state import Report
from search.report.answer import answer
from search.report.verdicts import confirmation_text
from search.storage.data_facts import data_in_words
from search.study.config import StudyConfig
from search.study.frozen import study_of
from search.study.rungs import rungs_of
from trainer.config import TrainConfig
from trainer.configfile import flatten

SCORES = ("dice", "avd_ml", "lesion_f1", "lesion_count_diff", "hd95_mm", "predicted_ml",
          "false_positive_ml")  # fmt: skip
"""Columns of cases.parquet that the page shows."""
CLOSE = 20
"""So many of the best trials, the control and the references are set against each other."""


def gather(folder: Path, result: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return all that the page shows of a study but its pictures.

    Args:
        folder: The study's.
        result: What `compare` has just found of it, if anyone asked.

    Returns:
        What `compare` returns and besides: `answer`, that in a sentence; `config` (the study's
        settings), `begun` (commit, versions, hashes), `facts` (name and text of each fact of its
        data, None if none is known), `defaults` (of every trainer setting, by dotted path),
        `rungs`, `cases` (validation cases by lesion volume), `contrasts`, the paired differences of
        Dice of any two of the best trials, the control and the references, and `details` by trial:
        its learning curve, decisions, scores in the order of `cases` and, of those, what the
        training told by epoch.
    """
    path = folder / "ledger.jsonl"
    ledger = Ledger.open(path, writer=False)
    state = StudyState.of(ledger)
    assert state.study is not None
    study = study_of(state.study, path)
    if result is None:
        result = compare(folder, (study, state))
    trials = [state.trials[row["trial"]] for row in [*result["trials"], *result["references"]]]
    decided = _decisions(ledger.events)
    scores = {
        trial.number: read_cases(folder / "trials" / f"{trial.number:04d}", trial.epoch)
        for trial in trials
    }
    cases = _cases(row for rows in scores.values() for row in rows)
    close = [*trials[: min(CLOSE, len(result["trials"]))], *trials[len(result["trials"]) :]]
    details = {
        trial.number: {
            "epochs": [each.epoch for each in trial.reports],
            "values": [each.value for each in trial.reports],
            "decisions": [
                {key: event[key] for key in ("epoch", "action", "reason")}
                for event in decided[trial.number]
                if event["reason"]
            ],
            "scores": _columns(scores[trial.number], cases),
        }
        for trial in trials
    }
    for trial in close:
        details[trial.number]["training"] = _training(trial.reports)
    further = [each.metric for each in study.further_objectives]
    return result | {
        "trials": [_slim(row, further) for row in result["trials"]],
        "references": [_slim(row, further) for row in result["references"]],
        "finished": state.finished(study) and not state.failed(),
        "standing": state.standing(study),
        "answer": answer(result),
        "confirmed": confirmation_text(event) if (event := result["confirmation"]) else None,
        "config": study.model_dump(mode="json", exclude_none=True),
        "begun": {key: value for key, value in state.study.items() if key != "config"},
        "facts": state.data and data_in_words(state.data),
        "defaults": _defaults(study),
        "rungs": _rungs(study, [event for events in decided.values() for event in events]),
        "cases": cases,
        "contrasts": _contrasts({t.number: scores[t.number] for t in close}),
        "details": details,
    }


def _slim(row: Mapping[str, Any], wanted: Iterable[str]) -> dict[str, Any]:
    """Return a trial's row with those of its many metrics that have no column of their own."""
    return {**row, "metrics": {name: row["metrics"].get(name) for name in wanted}}


def _contrasts(scores: Mapping[int, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Return how far each two trials are apart, case by case, at their last epochs."""
    dice = {trial: case_values(rows, DICE) for trial, rows in scores.items() if rows}
    return [
        {"one": one, "other": other, "mean": found["mean"], "interval": found["interval"]}
        for one, other in combinations(dice, 2)
        if (found := paired_difference(dice[one], dice[other]))
    ]


def _training(reports: Sequence[Report]) -> dict[str, list[float | None]]:
    """Return what a training told of itself by epoch: loss terms, learning rate, gradient norm."""
    names = dict.fromkeys(n for each in reports for n in each.metrics if n.startswith("train/"))
    return {
        name: [
            None if (x := each.metrics.get(name)) is None else float(f"{x:.4g}") for each in reports
        ]
        for name in names
    }


def _decisions(events: Iterable[Event]) -> dict[int, list[Event]]:
    """Return each trial's decisions, in order."""
    decided = defaultdict(list)
    for event in events:
        if event["event"] == "decided":
            decided[event["trial"]].append(event)
    return decided


def _rungs(study: StudyConfig, decided: Iterable[Event]) -> list[dict[str, int]]:
    """Return each rung's epoch, how many trials it judged, and how many of them it stopped."""
    judged: Counter[int] = Counter()
    stopped: Counter[int] = Counter()
    for event in decided:
        if event.get("rung") is not None:
            judged[event["rung"]] += 1
            stopped[event["rung"]] += event["action"] == "stop"
    epochs = sorted({epoch for levels in rungs_of(study) for epoch in levels})
    return [{"epoch": e, "judged": judged[e], "stopped": stopped[e]} for e in epochs]


def _defaults(study: StudyConfig) -> dict[str, Any]:
    """Return TrainConfig's defaults by dotted path, with what no trial has by its own choice.

    Of another trainer those at the study's birth.
    """
    if study.trainer:
        return flatten(study.settings({}))
    data = {"store": study.data.store, "fold": study.data.fold}
    # No epochs would need weights to begin with.
    config = TrainConfig.model_validate({"data": data, "epochs": max(1, study.scheduler.max_t)})
    own = {"epochs": study.scheduler.max_t, "init_from": study.train.get("init_from")}
    return flatten(config.model_dump(mode="json")) | own


def _cases(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return every case of any trial, the largest lesion first, with its group by volume.

    None of another trainer's, which does not tell volumes.
    """
    from trainer.evaluation.metrics import volume_group

    found = {row["case_id"]: row for row in rows if row.get("lesion_ml") is not None}
    return [
        {
            "case": row["case_id"],
            "lesion_ml": row["lesion_ml"],
            "group": volume_group(row["lesion_ml"]) if row["has_lesion"] else "empty",
        }
        for row in sorted(found.values(), key=lambda row: (-row["lesion_ml"], row["case_id"]))
    ]


def _columns(
    rows: Iterable[Mapping[str, Any]], cases: Iterable[Mapping[str, Any]]
) -> dict[str, list[Any]] | None:
    """Return a trial's scores by column, each in the order of the cases; None where it has none."""
    by_case = {row["case_id"]: row for row in rows if row.get("lesion_ml") is not None}
    if not by_case:
        return None
    ordered = [by_case.get(each["case"], {}) for each in cases]
    return {name: [_short(row.get(name)) for row in ordered] for name in SCORES}


def _short(score: float | None) -> float | None:
    """Return a score as exactly as the ledger has Dice: these are most of a large page."""
    return None if score is None else round(score, DIGITS)
