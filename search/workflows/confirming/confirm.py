"""`segtune confirm`: are the best of a search really better? Trained again, and judged.

The search saw one seed and one validation fold, and its best is the best of many: optimistic. Here
the best trials are trained again with other seeds on folds that did not select them, and so are the
control and every protected reference, on the same pairs of seed and fold. Differences per case, of
the study's objective, then give verdicts (analysis/verdicts/significance.py), corrected by Holm
over the candidates within each family: against the control, against each reference, and against the
next best. Dice stands beside another objective.

A study that trains nothing (max_t 0) keeps its fold, since its weights were trained on the others,
and varies the seed of the sampling.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from search.analysis.case_scores import CASE_METRICS, case_metric, case_values, read_cases
from search.analysis.mask_references import scored_masks
from search.analysis.verdicts.contrasts import (
    Cases,
    Evidence,
    Pair,
    Plan,
    verdict_event,
)
from search.analysis.verdicts.mask_contrasts import against_masks
from search.execution.session import before_ray, ray_address
from search.ledger.journal import Event
from search.ledger.session import StudySession
from search.report.leaderboard import readings_text
from search.report.verdicts import as_used_text, verdict_text
from search.storage.dataset_cache import open_store
from search.storage.run_folders import fetch_cases
from search.storage.sealed_readings import check, num_readings
from search.storage.studies import read_study
from search.study.config import StudyConfig
from search.tracking.tracker import send_rest
from search.workflows.confirming.as_used import score_best
from search.workflows.confirming.plan import describe, kept_to, make_plan, proposals
from search.workflows.run_study import reopened, run_study, update_page
from trainer.configfile import ConfigError


def confirm(
    folder: Path,
    *,
    top: int,
    trials: Collection[int] = (),
    seeds: int,
    epochs: int | None = None,
    margin: float | None = None,
    test: bool = False,
    gpu_hours: float | None = None,
    as_used: bool = True,
    dry_run: bool = False,
    address: str | None = None,
    fit: str = "trainer.loop:fit",
) -> int:
    """Train the best trials of a study again, and judge them.

    The same call again goes on where it was interrupted; more seeds add to those that there are.

    Args:
        folder: The study's.
        top: How many of the best; 0 for those named alone.
        trials: Others to judge beside them.
        seeds: How many pairs of seed and fold, at least MIN_UNITS.
        epochs: Of every training; by default the longest of the best trials'.
        margin: Differences of the objective below it do not matter (`equivalent`).
        test: Read the sealed test set with every retrained model, and judge there as well.
        gpu_hours: What the trainings may cost: pairs that do not fit are left out, and trainings
            that take longer than the search says are interrupted; the same call again continues.
        as_used: Score the best one's models as a finished model is used, too.
        dry_run: Say what would be trained, and stop.
        address: A Ray cluster, as in `search.workflows.launch.launch`.
        fit: `module:function` with the contract of `trainer.loop.fit`.

    Returns:
        Exit status, as `launch`.

    Raises:
        ValueError: The study is not finished or is being run, has fewer trials, or other data now.
        OSError: The study's folder cannot be read or written.
    """
    address = ray_address(address)
    plan_of = partial(
        make_plan, top=top, trials=trials, num_seeds=seeds, epochs=epochs, margin=margin
    )
    if dry_run:
        study, state = read_study(folder)
        plan = plan_of(study, state)
        kept = kept_to(plan, study, state, gpu_hours)
        print(describe(plan, study, state, kept, as_used=as_used))
        return 0
    with reopened(folder) as session:
        whole = plan_of(session.study, session.state)
        _check_folds(session.study, [pair.fold for pair in whole.pairs])
        if test:
            _check_test_set(session.study)
        plan = kept_to(whole, session.study, session.state, gpu_hours)
        print(describe(whole, session.study, session.state, plan, as_used=as_used), flush=True)
        if session.study.trainer and not _has_cases(session, plan.candidates[0]):
            print(
                "note       its trainer reports no cases: each training counts as one "
                "(docs/own_trainer.md)",
                flush=True,
            )
        session.record(*proposals(plan, session.state))
        again = list(plan.confirming(session.state).values())
        if gpu_hours is not None:
            spent = session.state.meter.spent(session.study.trials)
            session.most_hours = spent["gpu_hours"] + gpu_hours
        if status := run_study(session, address, only=[trial.number for trial in again], fit=fit):
            return status
        if any(trial.ending is None for trial in again):
            print("No verdict before all of them have ended: the same command again continues.")
            return 0
        fetch_cases(session.folder)
        found = validation_evidence(session, plan)
        verdict = validation_verdict(session, plan, found, margin)
        # Recorded before the models are used: that may take as long as the trainings did.
        _conclude(session, verdict)
        used = score_best(session, plan, verdict, address) if as_used else {}
        if used:
            record_verdict(session, verdict | used)
            update_page(session.folder)
            print(f"{as_used_text(used['as_used'])}\n", flush=True)
        if test:
            before_ray(address)
            from search.workflows.confirming.models import read_test_set

            completed = [trial for trial in again if trial.ending == "completed"]
            read_test_set(session, completed, address)
            _conclude(session, sealed_verdict(session, plan, margin))
            number = num_readings(session.study.data.store, session.state.test_readings)
            print(f"{readings_text(number)}\n", flush=True)
        send_rest(session, print)
    return 0


def _has_cases(session: StudySession, number: int) -> bool:
    fetch_cases(session.folder)
    trial = session.state.trials[number]
    return bool(read_cases(session.trial_dir(number), trial.epoch))


def _check_folds(study: StudyConfig, folds: Iterable[int]) -> None:
    if not study.has_data:
        return
    store = open_store(study.data.store)
    for fold in sorted({*folds}):
        store.split(fold)


def _check_test_set(study: StudyConfig) -> None:
    if study.trainer:
        raise ConfigError(
            [f"--test: reads the sealed test set with segtune's models: {study.trainer.name}'s are "
             "its own; `segtune evaluate` scores its masks"]
        )  # fmt: skip
    if not any(case.lesion_ml for case in open_store(study.data.store).test_cases()):
        raise ConfigError([f"{study.data.store}: has no test cases with a lesion"])
    check(study.data.store)


def validation_evidence(session: StudySession, plan: Plan) -> list[Evidence]:
    """Return what the trials of a plan scored on their validation folds.

    In the objective, and in Dice where that is another.

    Raises:
        ConfigError: The cases of a trial that completed are not at hand.
    """
    rows = {
        key: read_cases(session.trial_dir(trial.number), trial.epoch)
        for key, trial in plan.confirming(session.state).items()
        if trial.ending == "completed"
    }
    if session.study.trainer and (why := _without_cases(plan, rows)):
        print(f"note       {why}: each training counts as one case", flush=True)
        metric = case_metric(session.study.objective.metric)
        ended = plan.confirming(session.state)
        about = {"case_id": "all", "has_lesion": metric.over != "empty"}
        rows = {key: [about | {metric.column: ended[key].reports[-1].value}] for key in rows}
    return _evidence(session, plan, rows, len({pair.fold for pair in plan.pairs}) == 1)


def validation_verdict(
    session: StudySession, plan: Plan, evidence: Sequence[Evidence], margin: float | None
) -> Event:
    """Return the `verdict` event on the validation folds.

    Args:
        session: The study.
        plan: What was trained again.
        evidence: From `validation_evidence`.
        margin: Of the objective.
    """
    folds = sorted({pair.fold for pair in plan.pairs})
    where = f"on folds {', '.join(map(str, folds))}, which did not select them"
    if not session.study.has_data:
        where = "with other seeds on the cases that selected them: optimistic"
    elif not session.study.trains:
        where = f"on fold {folds[0]}, which selected them: optimistic"
    event = {"on": "validation", "where": where}
    event |= verdict_event(evidence[0], margin, *evidence[1:])
    if session.study.objective.metric in CASE_METRICS:  # which masks have
        _add_masks(session, evidence[0], event, margin)
    return event


def _without_cases(plan: Plan, rows: Mapping[tuple[int, Pair], Sequence[Event]]) -> str:
    """Return why trainings of a trainer of one's own cannot be compared case by case, or nothing.

    Args:
        plan: What was trained again.
        rows: The cases of each training, none where it did not tell them.
    """
    cases: dict[int, set[str]] = {}
    for (trial, pair), found in rows.items():
        ids = {row["case_id"] for row in found}
        if not ids:
            return "its trainer does not tell its cases"
        if (others := cases.setdefault(plan.unit(pair), ids)) != ids:
            case = min(ids ^ others)
            return (
                f"not all trainings that are compared have the same cases: that of trial {trial} "
                f"with seed {pair.seed} {'has' if case in ids else 'lacks'} {case}"
            )
    return ""


def sealed_verdict(session: StudySession, plan: Plan, margin: float | None) -> Event:
    """Return the `verdict` event on the test set, from its readings in the ledger."""
    read = {event["trial"]: event for event in session.state.test_readings}
    rows = {
        key: _cases_read(read[trial.number])
        for key, trial in plan.confirming(session.state).items()
        if trial.number in read
    }
    where = "on the sealed test set, at thresholds frozen on the validation folds"
    evidence = _evidence(session, plan, rows, True)
    return {"on": "test", "where": where} | verdict_event(evidence[0], margin, *evidence[1:])


def _cases_read(reading: Event) -> list[dict[str, Any]]:
    """Return the cases of a reading of the test set; version 0.1 kept their Dice alone."""
    dice = [
        {"case_id": case, "dice": dice, "has_lesion": True}
        for case, dice in reading["dice"].items()
    ]
    cases: list[dict[str, Any]] = reading.get("cases", dice)
    return cases


def _evidence(
    session: StudySession,
    plan: Plan,
    rows: Mapping[tuple[int, Pair], list[dict[str, Any]]],
    same_cases: bool,
) -> list[Evidence]:
    """Return what trainings scored in the objective, and in Dice where that is another.

    Args:
        session: The study.
        plan: What was trained again.
        rows: The cases of each training that counts, as `read_cases` returns them.
        same_cases: Whether all trainings have the same cases.

    Raises:
        ConfigError: The cases of a training are not at hand.
    """
    trials = plan.confirming(session.state)
    missing: dict[tuple[int | str, Pair], str] = {
        key: trial.ending or "not finished" for key, trial in trials.items() if key not in rows
    }
    metric, mode = session.study.objective.metric, session.study.objective.mode
    evidence = []
    for name in dict.fromkeys([metric] if session.study.trainer else [metric, "val/dice"]):
        scores: dict[tuple[int | str, Pair], Cases] = {}
        for key, cases in rows.items():
            values = case_values(cases, case_metric(name, mode))
            if values is None and name == metric:
                run_dir = session.trial_dir(trials[key].number)
                raise ConfigError(
                    [
                        f"{run_dir}/cases.parquet: {name} is not at hand; was it trained on "
                        "another machine's disk?"
                    ]
                )
            if values is not None:
                scores[key] = values
        evidence.append(Evidence(plan, name, scores, missing, same_cases, mode))
    return evidence


def _add_masks(
    session: StudySession, evidence: Evidence, event: Event, margin: float | None
) -> None:
    """Add to a verdict how the candidates compare with masks that are a reference."""
    best = [row["trial"] for row in event["scores"] if row["role"] == "candidate"]
    searched = {}
    for number in best:
        rows = read_cases(session.trial_dir(number), session.state.trials[number].epoch)
        searched[number] = case_values(rows, CASE_METRICS[evidence.metric]) or {}
    for masks in scored_masks(session.study, session.state):
        scores, comparisons = against_masks(evidence, masks, best, searched, margin)
        event["scores"] += scores
        event["comparisons"] += comparisons


def record_verdict(session: StudySession, event: Event) -> None:
    """Record a verdict, unless the last one like it says the same."""
    before = [known for known in session.state.verdicts if known["on"] == event["on"]]
    if not before or any(before[-1].get(key) != value for key, value in event.items()):
        session.record(event)


def _conclude(session: StudySession, event: Event) -> None:
    """Record a verdict, print it, and renew the page."""
    record_verdict(session, event)
    print(f"\n{verdict_text(event)}\n", flush=True)
    update_page(session.folder)
