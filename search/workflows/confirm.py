"""`segtune confirm`: are the best of a search really better? Trained again, and judged.

The search saw one seed and one validation fold, and its best is the best of many: optimistic. Here
the best trials are trained again with other seeds on folds that did not select them, and so are the
control and every protected reference, on the same pairs of seed and fold. Differences per case of the study's objective then give verdicts (analysis/significance.py),
corrected by Holm over the candidates within each family: against the control, against each
reference, and against the next best. Dice stands beside another objective.

A study that trains nothing (max_t 0) keeps its fold, since its weights were trained on the others,
and varies the seed of the sampling.
"""

from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path

from search.analysis.case_scores import lesion_dice
from search.analysis.contrasts import (
    MIN_UNITS,
    Cases,
    Evidence,
    Pair,
    Plan,
    verdict_event,
)
from search.analysis.ranking import ranked
from search.execution.session import before_ray, ray_address
from search.ledger.budget import overspent
from search.ledger.journal import Event
from search.ledger.session import StudySession
from search.ledger.state import StudyState
from search.report.verdicts import verdict_text
from search.storage.dataset_cache import open_store
from search.storage.run_folders import fetch_cases
from search.storage.studies import read_study
from search.study.config import StudyConfig
from search.tracking.tracker import send_rest
from search.workflows.launch import reopened, run_study, update_page
from search.workflows.resume import unsuitable
from trainer.configfile import ConfigError

NUM_FOLDS = 5


def confirm(
    folder: Path,
    *,
    top: int,
    trials: Collection[int] = (),
    seeds: int,
    epochs: int | None = None,
    margin: float | None = None,
    test: bool = False,
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
        margin: Differences of Dice below it do not matter (`equivalent`).
        test: Read the sealed test set with every retrained model, and judge there as well.
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
    if margin is not None and not 0 < margin < 1:  # also NaN
        raise ConfigError([f"--margin {margin}: must lie between 0 and 1"])
    plan_of = partial(make_plan, top=top, trials=trials, num_seeds=seeds, epochs=epochs)
    if dry_run:
        study, state = read_study(folder)
        plan = plan_of(study, state)
        print(describe(plan, num_new=len(proposals(plan, state))))
        return 0
    with reopened(folder) as session:
        plan = plan_of(session.study, session.state)
        if test:
            _check_test_set(session.study)
        new = proposals(plan, session.state)
        print(describe(plan, num_new=len(new)), flush=True)
        session.record(*new)
        again = list(plan.confirming(session.state).values())
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
) -> Plan:
    """Choose the best trials, and others that are asked for, and their pairs of seed and fold.

    Raises:
        ConfigError: There are too few trials or seeds, or the search is not over.
    """
    if num_seeds < MIN_UNITS:
        raise ConfigError([f"--seeds {num_seeds}: must be at least {MIN_UNITS}"])
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
    best = ranked(study, state.searched())
    if len(best) < top:
        raise ConfigError(
            [f"{study.study}: --top {top}: only {len(best)} searched trials have a result"]
        )
    if unknown := sorted(set(trials) - {trial.number for trial in best}):
        raise ConfigError(
            f"{study.study}:{number}: no searched trial with a result" for number in unknown
        )
    candidates = [trial for i, trial in enumerate(best) if i < top or trial.number in trials]
    others = [trial for trial in best if trial not in candidates]
    if epochs is None:
        epochs = max(trial.goal(study) for trial in candidates)
    elif problem := unsuitable(study, epochs):
        raise ConfigError([f"--epochs {epochs}: {problem}"])
    control = state.control()
    plan = Plan(
        candidates=[trial.number for trial in candidates],
        runner_up=others[0].number if len(candidates) == 1 and others else None,
        control=control.number if control else None,
        references=[trial.number for trial in state.references()],
        pairs=[_pair(study, i) for i in range(num_seeds)],
        epochs=epochs,
    )
    for number in plan.trials:
        study.train_config(state.trials[number].params, epochs=epochs)
    return plan


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


def describe(plan: Plan, num_new: int) -> str:
    """Return in a few lines what a plan trains."""
    roles = ", ".join(f"{plan.role(number)} {number}" for number in plan.trials)
    pairs = ", ".join(f"{pair.seed} on {pair.fold}" for pair in plan.pairs)
    total = len(plan.trials) * len(plan.pairs)
    return (
        f"confirm    {roles}\nseeds      on folds: {pairs}\n"
        f"trainings  {total} of {plan.epochs} epochs, {total - num_new} of them begun before"
    )


def validation_verdict(session: StudySession, plan: Plan, margin: float | None) -> Event:
    """Return the `verdict` event on the validation folds.

    Raises:
        ConfigError: The cases of a trial that completed are not at hand.
    """
    scores: dict[tuple[int, Pair], Cases] = {}
    for key, trial in plan.confirming(session.state).items():
        if trial.ending != "completed":
            continue
        run_dir = session.trial_dir(trial.number)
        if (cases := lesion_dice(run_dir, trial.epoch)) is None:
            raise ConfigError(
                [f"{run_dir}/cases.parquet: not at hand; was it trained on another machine's disk?"]
            )
        scores[key] = cases
    folds = sorted({pair.fold for pair in plan.pairs})
    where = f"on folds {', '.join(map(str, folds))}, which did not select them"
    if not session.study.trains:
        where = f"on fold {folds[0]}, which selected them: optimistic"
    return _verdict(session, plan, margin, scores, "validation", where, len(folds) == 1)


def sealed_verdict(session: StudySession, plan: Plan, margin: float | None) -> Event:
    """Return the `verdict` event on the test set, from its readings in the ledger."""
    read = {event["trial"]: event for event in session.state.test_readings}
    scores = {
        key: read[trial.number]["dice"]
        for key, trial in plan.confirming(session.state).items()
        if trial.number in read
    }
    where = "on the sealed test set, at thresholds frozen on the validation folds"
    return _verdict(session, plan, margin, scores, "test", where, True)


def _verdict(
    session: StudySession,
    plan: Plan,
    margin: float | None,
    scores: Mapping[tuple[int, Pair], Cases],
    on: str,
    where: str,
    same_cases: bool,
) -> Event:
    missing = {
        key: trial.ending or "not finished"
        for key, trial in plan.confirming(session.state).items()
        if key not in scores
    }
    evidence = Evidence(plan, scores, missing, same_cases, session.study.seed)
    return {"on": on, "where": where} | verdict_event(evidence, margin)


def _conclude(session: StudySession, event: Event) -> None:
    """Record a verdict, unless the last one like it says the same, print it, and renew the page."""
    before = [known for known in session.state.verdicts if known["on"] == event["on"]]
    if not before or any(before[-1].get(key) != value for key, value in event.items()):
        session.record(event)
    print(f"\n{verdict_text(event)}\n", flush=True)
    update_page(session.folder)
