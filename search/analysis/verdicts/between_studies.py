"""The confirmed best of several studies, compared as if one study had both.

`confirm` draws the same seeds on the same folds in each of them, so that two studies of the same
data are paired by seed, fold and case: a network that no study can hold beside another, since its
epochs have other numbers of images, is judged so. What a training took stands beside it.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, NamedTuple

from search.analysis.case_scores import case_metric, case_values, read_cases
from search.analysis.verdicts.contrasts import Cases, Evidence, Match, Pair, Plan, judge
from search.ledger.budget import cost_key
from search.ledger.state import StudyState
from search.ledger.trial_state import TrialState
from search.storage.studies import read_study
from search.study.config import StudyConfig


class Confirmed(NamedTuple):
    """The best that a study has confirmed."""

    study: StudyConfig
    state: StudyState
    trial: int
    mean: float
    """Of the objective, over all that trained it again."""
    trainings: dict[Pair, TrialState]
    scores: dict[Pair, Cases]
    same_cases: bool
    """Whether all its trainings have the same cases."""

    @property
    def name(self) -> str:
        return f"{self.study.study}:{self.trial}"

    @property
    def unit(self) -> Literal["gpu_hours", "cpu_hours"]:
        return cost_key(self.study.trials)

    def hours(self, pairs: Sequence[Pair]) -> float:
        """Return what a training of some took, in the mean."""
        meter, trials = self.state.meter, self.study.trials
        numbers = [self.trainings[pair].number for pair in pairs]
        return fmean(meter.cost_hours(trials, number)[self.unit] for number in numbers)


def between_studies(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Compare the confirmed best of the best study with that of each other one.

    Args:
        folders: Of studies with the same store, trainer, objective and validation fold.

    Returns:
        As a verdict's comparisons, a row for each other study that has confirmed anything, `trial`
        and `other` being `STUDY:TRIAL`, over the seeds and folds that both have; `hours` and
        `unit`, what a training of each took, None where they count in different units.
    """
    found = [each for folder in folders if (each := _confirmed(folder))]
    if len(found) < 2:
        return []
    better = found[0].study.objective.mode
    found.sort(key=lambda each: -each.mean if better == "max" else each.mean)
    pairs = list(dict.fromkeys(pair for each in found for pair in each.scores))
    evidence = Evidence(
        plan=Plan(list(range(len(found))), None, None, [], pairs, epochs=0),
        metric=found[0].study.objective.metric,
        scores={
            (number, pair): cases
            for number, each in enumerate(found)
            for pair, cases in each.scores.items()
            if cases.keys() == found[0].scores.get(pair, cases).keys()
        },
        missing={},
        same_cases=all(each.same_cases for each in found),
        mode=better,
    )
    first, *others = found
    rows = judge(evidence, [Match("study", 0, number) for number in range(1, len(found))], None)
    for number, (row, other) in enumerate(zip(rows, others, strict=True), start=1):
        shared, same_unit = evidence.pairs(0, number), first.unit == other.unit
        row |= {
            "trial": first.name,
            "other": other.name,
            "hours": [first.hours(shared), other.hours(shared)] if shared and same_unit else None,
            "unit": first.unit if same_unit else None,
        }
    return rows


def _confirmed(folder: Path) -> Confirmed | None:
    """Return what a study has confirmed on validation folds, None for nothing."""
    study, state = read_study(folder)
    verdict = next((v for v in reversed(state.verdicts) if v["on"] == "validation"), None)
    if verdict is None or "epochs" not in verdict:  # as version 0.1 wrote it
        return None
    best = next((row for row in verdict["scores"] if row["role"] == "candidate"), None)
    if best is None:
        return None
    pairs = [Pair(*pair) for pair in zip(verdict["seeds"], verdict["folds"], strict=True)]
    plan = Plan([best["trial"]], None, None, [], pairs, verdict["epochs"])
    trainings = {
        pair: trial
        for (_, pair), trial in plan.confirming(state).items()
        if trial.ending == "completed"
    }
    scores = {
        pair: cases
        for pair, trial in trainings.items()
        if (cases := _scores(study, trial, folder / "trials" / f"{trial.number:04d}"))
    }
    return Confirmed(
        study, state, best["trial"], best["mean"], trainings, scores, verdict["same_cases"]
    )


def _scores(study: StudyConfig, trial: TrialState, run_dir: Path) -> Cases | None:
    """Return a training's objective by case: from the ledger where that has all, to five digits."""
    report = trial.reports[-1]
    if report.scores and report.cases and report.cases.is_whole:
        return dict(zip(report.cases.names, report.scores, strict=True))
    metric = case_metric(study.objective.metric, study.objective.mode)
    return case_values(read_cases(run_dir, trial.epoch), metric)
