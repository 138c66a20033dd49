"""`segtune confirm`: are the best of a search really better? Trained again, and judged.

The search saw one seed and one validation fold, and its best is the best of many: optimistic. Here
the best trials are trained again with other seeds on folds that did not select them, and so are the
control and every protected reference, on the same pairs of seed and fold. Differences per case, of
the study's objective, then give verdicts (analysis/significance.py), corrected by Holm over the
candidates within each family: against the control, against each reference, and against the next
best. Dice stands beside another objective.

A study that trains nothing (max_t 0) keeps its fold, since its weights were trained on the others,
and varies the seed of the sampling.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from search.analysis.case_scores import CASE_METRICS, case_values, read_cases
from search.analysis.contrasts import (
    MIN_UNITS,
    NUM_FOLDS,
    Cases,
    Evidence,
    Pair,
    Plan,
    verdict_event,
)
from search.analysis.ranking import ranked
from search.execution.session import before_ray, ray_address
from search.ledger.budget import UNITS, cost_key, overspent
from search.ledger.journal import Event
from search.ledger.session import StudySession
from search.ledger.state import StudyState, TrialState
from search.report.verdicts import verdict_text
from search.storage.dataset_cache import open_store
from search.storage.run_folders import fetch_cases
from search.storage.studies import read_study
from search.study.config import StudyConfig
from search.tracking.tracker import send_rest
from search.workflows.launch import reopened, run_study, update_page
from search.workflows.resume import CAN_GO_ON, unsuitable
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
        print(describe(plan, study, state, kept_to(plan, study, state, gpu_hours)))
        return 0
    with reopened(folder) as session:
        whole = plan_of(session.study, session.state)
        if test:
            _check_test_set(session.study)
        plan = kept_to(whole, session.study, session.state, gpu_hours)
        print(describe(whole, session.study, session.state, plan), flush=True)
        session.record(*proposals(plan, session.state))
        again = list(plan.confirming(session.state).values())
        if gpu_hours is not None:
            spent = session.state.meter.spent(session.study.trials)
            session.gpu_hours = spent["gpu_hours"] + gpu_hours
        if status := run_study(session, address, only=[trial.number for trial in again], fit=fit):
            return status
        if any(trial.ending is None for trial in again):
            print("No verdict before all of them have ended: the same command again continues.")
            return 0
        fetch_cases(session.folder)
        _conclude(session, validation_verdict(session, plan, margin))
        if test:
            before_ray(address)
            from search.workflows.holdout import read_test_set

            completed = [trial for trial in again if trial.ending == "completed"]
            read_test_set(session, completed, address)
            _conclude(session, sealed_verdict(session, plan, margin))
        send_rest(session, print)
    return 0


def make_plan(
    study: StudyConfig,
    state: StudyState,
    *,
    top: int,
    trials: Collection[int] = (),
    num_seeds: int,
    epochs: int | None = None,
    margin: float | None = None,
) -> Plan:
    """Choose the best trials, and others that are asked for, and their pairs of seed and fold.

    A trial that failed, diverged or did not fit is no candidate, and what has the configuration of
    a candidate is not trained beside it.

    Raises:
        ConfigError: There are too few trials or seeds, the search is not over, or its objective is
            no mean over cases.
    """
    if num_seeds < MIN_UNITS:
        raise ConfigError([f"--seeds {num_seeds}: must be at least {MIN_UNITS}"])
    _check_metric(study, margin)
    over = state.planned(study) and all(trial.ending for trial in state.searched())
    if not over and not overspent(study, state.meter):
        raise ConfigError(
            [f"{study.study}: the search is not finished, so its best are not known: launch it"]
        )
    if study.trains and "init_from" in study.train:
        raise ConfigError(
            [f"{study.study}: train.init_from: those weights were trained on the folds that would "
             "confirm"]
        )  # fmt: skip
    best = _distinct(study, [t for t in ranked(study, state.searched()) if t.ending in CAN_GO_ON])
    if len(best) < top:
        raise ConfigError(
            [f"{study.study}: --top {top}: only {len(best)} searched trials have a result"]
        )
    same = {trial.number: one for one in best.values() for trial in one}
    if problems := [_no_candidate(study, state, n) for n in sorted({*trials} - {*same})]:
        raise ConfigError(problems)
    named = {same[number][0].number for number in trials}
    firsts = [one[0] for one in best.values()]
    candidates = [trial for i, trial in enumerate(firsts) if i < top or trial.number in named]
    others = [trial for trial in firsts if trial not in candidates]
    if epochs is None:
        epochs = max(trial.goal(study) for trial in candidates)
    elif problem := unsuitable(study, epochs):
        raise ConfigError([f"--epochs {epochs}: {problem}"])
    runner_up = others[:1] if len(candidates) == 1 else []
    control = state.control()
    beside = [*([control] if control else []), *state.references()]
    chosen = _distinct(study, [*candidates, *runner_up, *beside])
    kept = {one[0].number for one in chosen.values()}
    twins = [*chosen.values(), *(one for one in best.values() if one[0] in candidates)]
    plan = Plan(
        candidates=[trial.number for trial in candidates],
        runner_up=runner_up[0].number if runner_up else None,
        control=control.number if control and control.number in kept else None,
        references=[trial.number for trial in state.references() if trial.number in kept],
        pairs=[_pair(study, i) for i in range(num_seeds)],
        epochs=epochs,
        equals={twin.number: one[0].number for one in twins for twin in one[1:]},
    )
    for number in plan.trials:
        study.train_config(state.trials[number].params, epochs=epochs)
    return plan


def _check_metric(study: StudyConfig, margin: float | None) -> None:
    metric = CASE_METRICS.get(study.objective.metric)
    if metric is None:
        raise ConfigError(
            [
                f"{study.study}: objective: {study.objective.metric}: is no mean over cases, of "
                "which verdicts are"
            ]
        )
    most = metric.scale.most
    if margin is not None and not 0 < margin < most:  # also NaN
        rule = "be above 0" if math.isinf(most) else f"lie between 0 and {most:g}"
        raise ConfigError([f"--margin {margin}: must {rule}"])


def _distinct(study: StudyConfig, trials: Iterable[TrialState]) -> dict[str, list[TrialState]]:
    """Return trials by what they train, in their order: of each configuration the first leads."""
    by_config: dict[str, list[TrialState]] = {}
    for trial in trials:
        try:
            config = study.train_config(trial.params, epochs=1).model_dump_json()
        except ConfigError:  # an earlier version had settings that there are no more
            config = repr(trial.params)
        by_config.setdefault(config, []).append(trial)
    return by_config


def _no_candidate(study: StudyConfig, state: StudyState, number: int) -> str:
    trial = state.trials.get(number)
    if trial is None or trial.protected or not trial.reports or trial.ending is None:
        return f"{study.study}:{number}: no searched trial with a result"
    return f"{study.study}:{number}: {trial.ending} ({trial.reason}): no candidate"


def _pair(study: StudyConfig, i: int) -> Pair:
    fold = study.data.fold
    if study.trains:
        fold = (fold + 1 + i % (NUM_FOLDS - 1)) % NUM_FOLDS
    return Pair(study.train_config({}).seed + 1 + i, fold)


def _check_test_set(study: StudyConfig) -> None:
    if not any(case.lesion_ml for case in open_store(study.data.store).test_cases()):
        raise ConfigError([f"{study.data.store}: has no test cases with a lesion"])


def proposals(plan: Plan, state: StudyState) -> list[Event]:
    """Return the `proposed` events of what the ledger does not have yet, pair by pair."""
    there = plan.confirming(state)
    wanted = [(of, pair) for pair in plan.pairs for of in plan.trials if (of, pair) not in there]
    return [
        {
            "event": "proposed",
            "trial": number,
            "params": state.trials[of].params,
            "kind": "confirm",
            "protected": True,
            "of": of,
            **pair._asdict(),
            "epochs": plan.epochs,
        }
        for number, (of, pair) in enumerate(wanted, start=state.next_number)
    ]


def kept_to(plan: Plan, study: StudyConfig, state: StudyState, gpu_hours: float | None) -> Plan:
    """Return a plan with as many of its pairs, from the first, as some GPU-hours are enough for.

    Raises:
        ConfigError: Not one more pair fits, or nobody knows what one costs.
    """
    if gpu_hours is None:
        return plan
    if not 0 < gpu_hours < math.inf:  # also NaN
        raise ConfigError([f"--gpu-hours {gpu_hours}: must be above 0"])
    if not study.trials.gpus:
        raise ConfigError(
            [f"--gpu-hours {gpu_hours:g}: {study.study}'s trials run on the CPU (gpus_per_trial 0)"]
        )
    left, pairs = gpu_hours, list[Pair]()
    for pair in plan.pairs:
        if (hours := cost(plan, study, state, [pair])) is None:
            raise ConfigError(
                [f"--gpu-hours {gpu_hours:g}: no epoch of these trials was timed: nobody knows"]
            )
        if hours > left:
            if left == gpu_hours:
                raise ConfigError(
                    [
                        f"--gpu-hours {gpu_hours:g}: is not enough for one seed more: its trainings"
                        f" take about {hours:.3g} GPU-hours"
                    ]
                )
            break
        left -= hours
        pairs.append(pair)
    return replace(plan, pairs=pairs)


def cost(plan: Plan, study: StudyConfig, state: StudyState, pairs: Iterable[Pair]) -> float | None:
    """Return what is left to train of some pairs, in hours of `cost_key`; None: nothing was timed.

    At the pace of what confirms the same trial already, or of the trial itself.
    """
    there, seconds = plan.confirming(state), 0.0
    for pair in pairs:
        for number in plan.trials:
            training = there.get((number, pair))
            if training is not None and training.ending:
                continue
            pace_s = _pace_s(state, number)
            if pace_s is None:
                return None
            done = training.epoch if training else 0
            seconds += pace_s * max(1, plan.epochs - done)
    trials = study.trials
    each = trials.gpus if cost_key(trials) == "gpu_hours" else trials.cpus_per_trial
    return seconds / 3600 * each


def _pace_s(state: StudyState, number: int) -> float | None:
    """Return the seconds of an epoch of a trial, its validations included, or of its validation."""
    again = [trial for trial in state.confirming() if trial.of == number and trial.reports]
    for trials in (again, [state.trials[number]]):
        seconds = sum(state.meter.by_trial.get(trial.number, 0.0) for trial in trials)
        epochs = sum(trial.epoch or len(trial.reports) for trial in trials)
        if seconds and epochs:
            return seconds / epochs
    return None


def describe(whole: Plan, study: StudyConfig, state: StudyState, plan: Plan) -> str:
    """Return in a few lines what a plan trains, what that costs, and what is left out of it.

    Args:
        whole: The plan.
        study: Whose.
        state: Its ledger.
        plan: As much of it as is trained now.
    """
    roles = ", ".join(f"{plan.role(number)} {number}" for number in plan.trials)
    total, new = len(plan.trials) * len(plan.pairs), len(proposals(plan, state))
    unit = UNITS[cost_key(study.trials)]
    lines = [
        f"confirm    {roles}",
        f"objective  {study.objective.metric}, {study.objective.mode}",
        f"seeds      on folds: {_words(plan.pairs)}",
        f"trainings  {total} of {plan.epochs} epochs, {total - new} of them begun before",
    ]
    hours = cost(plan, study, state, plan.pairs)
    if hours is None:
        lines.append("cost       not known: no epoch of these trials was timed")
    else:
        lines.append(f"cost       about {hours:.3g} {unit}, at the pace of these trials so far")
    lines += [
        f"not again  trial {twin} has the configuration of trial {number}"
        for twin, number in plan.equals.items()
    ]
    if out := whole.pairs[len(plan.pairs) :]:
        more = cost(whole, study, state, out)
        lines.append(f"left out   {_words(out)}: about {more:.3g} {unit} more")
    return "\n".join(lines)


def _words(pairs: Iterable[Pair]) -> str:
    return ", ".join(f"{pair.seed} on {pair.fold}" for pair in pairs)


def validation_verdict(session: StudySession, plan: Plan, margin: float | None) -> Event:
    """Return the `verdict` event on the validation folds.

    Raises:
        ConfigError: The cases of a trial that completed are not at hand.
    """
    rows = {
        key: read_cases(session.trial_dir(trial.number), trial.epoch)
        for key, trial in plan.confirming(session.state).items()
        if trial.ending == "completed"
    }
    folds = sorted({pair.fold for pair in plan.pairs})
    where = f"on folds {', '.join(map(str, folds))}, which did not select them"
    if not session.study.trains:
        where = f"on fold {folds[0]}, which selected them: optimistic"
    return _verdict(session, plan, margin, rows, "validation", where, len(folds) == 1)


def sealed_verdict(session: StudySession, plan: Plan, margin: float | None) -> Event:
    """Return the `verdict` event on the test set, from its readings in the ledger."""
    read = {event["trial"]: event for event in session.state.test_readings}
    rows = {
        key: _cases_read(read[trial.number])
        for key, trial in plan.confirming(session.state).items()
        if trial.number in read
    }
    where = "on the sealed test set, at thresholds frozen on the validation folds"
    return _verdict(session, plan, margin, rows, "test", where, True)


def _cases_read(reading: Event) -> list[dict[str, Any]]:
    """Return the cases of a reading of the test set; version 0.1 kept their Dice alone."""
    dice = [
        {"case_id": case, "dice": dice, "has_lesion": True}
        for case, dice in reading["dice"].items()
    ]
    cases: list[dict[str, Any]] = reading.get("cases", dice)
    return cases


def _verdict(
    session: StudySession,
    plan: Plan,
    margin: float | None,
    rows: Mapping[tuple[int, Pair], list[dict[str, Any]]],
    on: str,
    where: str,
    same_cases: bool,
) -> Event:
    """Return a `verdict` event.

    Args:
        session: The study.
        plan: What was trained again.
        margin: Of the objective.
        rows: The cases of each training that counts, as `read_cases` returns them.
        on: `validation` or `test`.
        where: The same in words.
        same_cases: Whether all trainings have the same cases.

    Raises:
        ConfigError: The cases of a training are not at hand.
    """
    trials = plan.confirming(session.state)
    missing = {
        key: trial.ending or "not finished" for key, trial in trials.items() if key not in rows
    }
    metric = session.study.objective.metric
    evidence = []
    for name in dict.fromkeys([metric, "val/dice"]):
        scores: dict[tuple[int, Pair], Cases] = {}
        for key, cases in rows.items():
            values = case_values(cases, CASE_METRICS[name])
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
        evidence.append(Evidence(plan, name, scores, missing, same_cases))
    return {"on": on, "where": where} | verdict_event(evidence[0], margin, *evidence[1:])


def _conclude(session: StudySession, event: Event) -> None:
    """Record a verdict, unless the last one like it says the same, print it, and renew the page."""
    before = [known for known in session.state.verdicts if known["on"] == event["on"]]
    if not before or any(before[-1].get(key) != value for key, value in event.items()):
        session.record(event)
    print(f"\n{verdict_text(event)}\n", flush=True)
    update_page(session.folder)
