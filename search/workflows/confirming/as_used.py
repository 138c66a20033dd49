"""The best candidate's models scored as a finished model is used, and what that costs.

A training's validations sample in a step or three; what a finished model gives is another figure,
and takes many times as long.
"""

import math
from typing import Any

from search.analysis.case_scores import DICE, case_values
from search.analysis.verdicts.contrasts import Cases, Evidence, Pair, Plan, mean_and_interval
from search.execution.session import before_ray
from search.ledger.budget import UNITS, cost_key
from search.ledger.journal import Event
from search.ledger.session import StudySession
from search.ledger.state import StudyState
from search.report.verdicts import sampling_text
from search.storage.trials.names import trial_name
from search.study.config import StudyConfig
from trainer.config import SamplingConfig, TrainConfig
from trainer.respacing import timesteps


def num_validations(config: TrainConfig) -> int:
    """Return as how many of its validations the use of a model takes; 0: they are the same."""
    if config.validation_sampling == config.sampling:
        return 0
    if config.model.segments_directly:
        return 1

    def passes(sampling: SamplingConfig) -> int:
        steps = timesteps(config.diffusion.num_timesteps, sampling.timestep_respacing)
        return len(steps) * sampling.num_ensemble

    return math.ceil(passes(config.sampling) / passes(config.validation_sampling))


def cost_text(plan: Plan, study: StudyConfig, state: StudyState) -> str:
    """Return in words what `score_best` would take, if the best stays the best; or nothing."""
    best = state.trials[plan.candidates[0]]
    each = 0 if study.trainer else num_validations(best.config(study))
    there = plan.confirming(state)
    again = [there.get((best.number, pair)) for pair in plan.pairs]
    left = sum(trial is None or trial.number not in state.as_used for trial in again)
    if not each or not left:
        return ""
    said = f"{left} models of the best as they are used, {each} validations each"
    validate_s = best.reports[-1].metrics.get("time/validate_s") if best.reports else None
    if validate_s is None:
        return said
    unit, needs = cost_key(study.trials), study.trials
    hours = left * each * validate_s / 3600
    hours *= needs.gpus if unit == "gpu_hours" else needs.cpus_per_trial
    return f"{said}: about {hours:.3g} {UNITS[unit]} more"


def score_best(session: StudySession, plan: Plan, verdict: Event, address: str) -> dict[str, Any]:
    """Return the Dice of the best candidate's models as they are used, as `as_used` of a verdict.

    Nothing where its validations measure alike, or the weights are not at hand.
    """
    ranked = [row["trial"] for row in verdict["scores"] if row["role"] == "candidate"]
    confirming = plan.confirming(session.state).items()
    trials = {
        key: trial
        for key, trial in confirming
        if ranked and key[0] == ranked[0] and trial.ending == "completed"
    }
    if session.study.trainer:
        return {}
    configs = [trial.config(session.study) for trial in trials.values()]
    if not any(map(num_validations, configs)):
        return {}
    sampling = configs[0].sampling
    print(
        f"as used    {len(trials)} models of {trial_name(session.folder, ranked[0])}, "
        f"{sampling_text(sampling.model_dump())}",
        flush=True,
    )
    before_ray(address)
    from search.workflows.confirming.models import score_as_used

    try:
        score_as_used(session, [*trials.values()], address)
    except ValueError as error:
        print(f"as used    not measured: {error}", flush=True)
        return {}
    rows = {key: session.state.as_used[trial.number]["cases"] for key, trial in trials.items()}
    scores: dict[tuple[int | str, Pair], Cases] = {
        key: values for key, cases in rows.items() if (values := case_values(cases, DICE))
    }
    evidence = Evidence(plan, "val/dice", scores, {}, verdict["same_cases"])
    if not evidence.pairs(ranked[0]):
        return {}
    found = mean_and_interval(evidence.difference(ranked[0]))
    return {"as_used": {"trial": ranked[0], "sampling": sampling.model_dump(mode="json"), **found}}
