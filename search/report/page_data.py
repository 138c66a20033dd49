"""What the page of search/report/page_html.py shows of a study, as JSON values."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from search.analysis.case_scores import read_cases
from search.analysis.results import compare
from search.ledger.journal import Event, Ledger
from search.storage.data_facts import data_in_words
from search.storage.studies import read_study
from search.study.config import StudyConfig
from trainer.config import TrainConfig
from trainer.configfile import flatten
from trainer.documents import strict

SCORES = ("dice", "avd_ml", "lesion_f1", "lesion_count_diff", "hd95_mm", "predicted_ml",
          "false_positive_ml")  # fmt: skip
"""Columns of cases.parquet that the page shows."""


def gather(folder: Path, result: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return all that the page shows of a study but its pictures.

    Args:
        folder: The study's.
        result: What `compare` has just found of it, if anyone asked.

    Returns:
        What `compare` returns and besides: `config` (the study's settings), `begun` (commit,
        versions, hashes), `facts` (name and text of each fact of its data, None if none is known),
        `defaults` (of every trainer setting, by dotted path), `rungs`, `cases` (validation cases by
        lesion volume), and `details` by trial: its learning curve, decisions, and scores in the
        order of `cases`.
    """
    result = compare(folder) if result is None else result
    study, state = read_study(folder)
    assert state.study is not None
    trials = [state.trials[row["trial"]] for row in [*result["trials"], *result["references"]]]
    decided = _decisions(folder)
    scores = {
        trial.number: read_cases(folder / "trials" / f"{trial.number:04d}", trial.epoch)
        for trial in trials
    }
    cases = _cases(row for rows in scores.values() for row in rows)
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
    data: dict[str, Any] = strict(
        result
        | {
            "finished": state.finished(study) and not state.failed(),
            "standing": state.standing(study),
            "config": study.model_dump(mode="json", exclude_none=True),
            "begun": {key: value for key, value in state.study.items() if key != "config"},
            "facts": state.data and data_in_words(state.data),
            "defaults": _defaults(study),
            "rungs": _rungs(study, [event for events in decided.values() for event in events]),
            "cases": cases,
            "details": details,
        }
    )
    return data


def _decisions(folder: Path) -> dict[int, list[Event]]:
    """Return each trial's decisions, in order."""
    decided = defaultdict(list)
    for event in Ledger.open(folder / "ledger.jsonl", writer=False).events:
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
    epochs = sorted({epoch for levels in study.asha().rungs for epoch in levels})
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
    return {name: [row.get(name) for row in ordered] for name in SCORES}
