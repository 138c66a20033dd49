"""What `segtune confirm` trains: the best, each configuration once, on pairs of seed and fold.

And what that costs, so that as much of it can be trained as GPU-hours are there for.
"""

import json
import math
from collections.abc import Collection, Iterable
from dataclasses import replace
from statistics import fmean

from search.analysis.case_scores import CASE_METRICS, case_metric
from search.analysis.ranking import UNRANKED, ranked
from search.analysis.verdicts.contrasts import MIN_UNITS, NUM_FOLDS, Pair, Plan
from search.ledger.budget import UNITS, cost_key, overspent
from search.ledger.journal import Event
from search.ledger.state import StudyState
from search.ledger.trial_state import TrialState
from search.study.config import StudyConfig
from search.workflows.confirming.as_used import cost_text
from search.workflows.resume import unsuitable
from trainer.configfile import ConfigError


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
    if study.trainer and not study.hears_of_seeds:
        raise ConfigError(
            [f"{study.study}: {study.trainer.name}: does not hear of seeds, so that it would train "
             "the same again: {seed} or {config} in trainer.command, or a setting `seed`"]
        )  # fmt: skip
    own_weights = study.trains and study.trainer is None
    if own_weights and "init_from" in study.train:
        raise ConfigError(
            [f"{study.study}: train.init_from: those weights were trained on the folds that would "
             "confirm"]
        )  # fmt: skip
    best = _distinct(study, ranked(study, state.searched()))
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
    foreign = [one[0].number for one in chosen.values() if one[0].params.get("init_from")]
    if own_weights and foreign:
        raise ConfigError(
            [f"{study.study}:{foreign[0]}: init_from: its first weights may have been trained on "
             "the folds that would confirm"]
        )  # fmt: skip
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
        study.check_settings(state.trials[number].params, epochs=epochs)
    return plan


def _check_metric(study: StudyConfig, margin: float | None) -> None:
    metric = CASE_METRICS.get(study.objective.metric)
    if study.trainer:
        metric = case_metric(study.objective.metric, study.objective.mode)
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
            config = json.dumps(study.settings(trial.params, epochs=1))
        except ConfigError:  # an earlier version had settings that there are no more
            config = repr(trial.params)
        by_config.setdefault(config, []).append(trial)
    return by_config


def num_configurations(study: StudyConfig, state: StudyState) -> int:
    """Return how many configurations of the search have a result."""
    return len(_distinct(study, ranked(study, state.searched())))


def _no_candidate(study: StudyConfig, state: StudyState, number: int) -> str:
    trial = state.trials.get(number)
    if trial is None or trial.protected or trial.ending not in UNRANKED:
        return f"{study.study}:{number}: no searched trial with a result"
    return f"{study.study}:{number}: {trial.ending} ({trial.reason}): no candidate"


def _pair(study: StudyConfig, i: int) -> Pair:
    fold = study.data.fold
    if study.trains and study.has_data:
        fold = (fold + 1 + i % (NUM_FOLDS - 1)) % NUM_FOLDS
    return Pair(study.training_seed + 1 + i, fold)


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
    if (pairs := pairs_within(plan, study, state, gpu_hours)) is None:
        raise ConfigError(
            [f"--gpu-hours {gpu_hours:g}: no epoch of these trials was timed: nobody knows"]
        )
    if len(pairs) < len(plan.pairs) and not cost(plan, study, state, pairs):
        hours = cost(plan, study, state, [plan.pairs[len(pairs)]])
        raise ConfigError(
            [
                f"--gpu-hours {gpu_hours:g}: is not enough for one seed more: its trainings"
                f" take about {hours:.3g} GPU-hours"
            ]
        )
    return replace(plan, pairs=pairs)


def pairs_within(
    plan: Plan, study: StudyConfig, state: StudyState, hours: float
) -> list[Pair] | None:
    """Return as many of a plan's pairs, from the first, as some hours of `cost_key` train.

    None where nobody knows what one costs.
    """
    pairs = list[Pair]()
    for pair in plan.pairs:
        if (more := cost(plan, study, state, [pair])) is None:
            return None
        if more > hours:
            break
        hours -= more
        pairs.append(pair)
    return pairs


def cost(plan: Plan, study: StudyConfig, state: StudyState, pairs: Iterable[Pair]) -> float | None:
    """Return what is left to train of some pairs, in hours of `cost_key`; None: nothing was timed.

    At the pace of what confirms the same trial already, or of the trial itself; one that was never
    timed, as a control that failed before its first report, is taken to have the others' mean.
    """
    paces_s = {number: _pace_s(state, number) for number in plan.trials}
    timed = [pace_s for pace_s in paces_s.values() if pace_s is not None]
    if not timed:
        return None
    there, seconds = plan.confirming(state), 0.0
    for pair in pairs:
        for number in plan.trials:
            training = there.get((number, pair))
            if training is not None and training.ending:
                continue
            done = training.epoch if training else 0
            seconds += (paces_s[number] or fmean(timed)) * max(1, plan.epochs - done)
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


def describe(
    whole: Plan, study: StudyConfig, state: StudyState, plan: Plan, *, as_used: bool = True
) -> str:
    """Return in a few lines what a plan trains, what that costs, and what is left out of it.

    Args:
        whole: The plan.
        study: Whose.
        state: Its ledger.
        plan: As much of it as is trained now.
        as_used: Whether the best one's models are scored as they are used, too.
    """
    roles = ", ".join(f"{plan.role(number)} {number}" for number in plan.trials)
    total, new = len(plan.trials) * len(plan.pairs), len(proposals(plan, state))
    unit = UNITS[cost_key(study.trials)]
    lines = [
        f"confirm    {roles}",
        f"objective  {study.objective.metric}, {study.objective.mode}",
        f"seeds      on folds: {_words(plan.pairs)}"
        if study.has_data
        else f"seeds      {', '.join(str(pair.seed) for pair in plan.pairs)}",
        f"trainings  {total} of {plan.epochs} epochs, {total - new} of them begun before",
    ]
    if names := [each.name for each in study.mask_references]:
        lines.append(f"masks      {', '.join(names)}: compared case by case")
    hours = cost(plan, study, state, plan.pairs)
    if hours is None:
        said = "not known: no epoch of these trials was timed"
    else:
        said = f"about {hours:.3g} {unit} of training, at the pace of these trials so far"
    if used := as_used and cost_text(plan, study, state):
        said += f"; {used}"
    lines.append(f"cost       {said}")
    lines += [
        f"not again  trial {twin} has the configuration of trial {number}"
        for twin, number in plan.equals.items()
    ]
    if out := whole.pairs[len(plan.pairs) :]:
        more = cost(whole, study, state, out)
        hours_more = "" if more is None else f": about {more:.3g} {unit} more"
        lines.append(f"left out   {_words(out)}{hours_more}")
    return "\n".join(lines)


def _words(pairs: Iterable[Pair]) -> str:
    return ", ".join(f"{pair.seed} on {pair.fold}" for pair in pairs)
