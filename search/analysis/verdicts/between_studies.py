"""The confirmed best of several studies, compared as if one study had both.

`confirm` draws the same seeds on the same folds in each of them, so that two studies of the same
data are paired by seed, fold and case: networks that no study can hold beside each other, since an
epoch of one has more images than one of the other, are judged so. What a training took stands
beside it.
"""

from collections.abc import Mapping, Sequence, Set
from itertools import combinations
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

from search.analysis.case_scores import case_metric, case_values, read_cases
from search.analysis.validation_noise import samples
from search.analysis.verdicts.contrasts import (
    MIN_UNITS,
    Cases,
    Evidence,
    Match,
    Pair,
    Plan,
    judge,
)
from search.ledger.budget import cost_key
from search.ledger.journal import Event
from search.ledger.state import StudyState
from search.ledger.trial_state import TrialState
from search.storage.studies import display_path, read_study
from search.study.config import StudyConfig

MEASURED = {"method", "timestep_respacing", "eta", "num_ensemble", "fuse"}
"""Of how a validation samples, what makes figures differ."""


class Confirmed(NamedTuple):
    """The best that a study has confirmed."""

    folder: Path
    study: StudyConfig
    state: StudyState
    trial: int
    mean: float
    """Of the objective, over all that trained it again."""
    trainings: Mapping[Pair, TrialState]
    scores: Mapping[Pair, Cases]
    """Of the trainings whose cases are at hand."""
    several_folds: bool
    """Whether the confirmation was on several folds."""

    @property
    def uid(self) -> str:
        """What is no other study's; an early one has none but where it lies."""
        return str((self.state.study or {}).get("uid") or self.folder.resolve())

    def hours(self, pairs: Sequence[Pair]) -> float:
        """Return what a training of some took, the median: one may have been begun again."""
        meter, trials = self.state.meter, self.study.trials
        numbers = [self.trainings[pair].number for pair in pairs]
        return median(meter.cost_hours(trials, number)[cost_key(trials)] for number in numbers)

    def measured(self) -> dict[str, Any] | None:
        """Return how its validations sample; None for a network that segments directly."""
        training = next(iter(self.trainings.values()), None)
        if training is None or not samples(self.study, training):
            return None
        sampling = training.config(self.study).validation_sampling
        return sampling.model_dump(mode="json", include=MEASURED)


def between_studies(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Compare the confirmed best of the best study with that of each other one.

    The best is the one with the best mean over the seeds and folds that all of them have. As the
    same trainings choose it, the verdicts are corrected for all pairs of studies.

    Args:
        folders: Of studies with the same store, trainer, objective and validation fold.

    Returns:
        As a verdict's comparisons, a row for each other study that has confirmed anything, `trial`
        and `other` being `STUDY:TRIAL`, over the seeds and folds that both have; `hours`, what a
        training of each took, with its `units`, None without one that both have; and `measured`,
        how the validations of each sample, None where that is the same.
    """
    if len(folders) < 2:
        return []
    known = [best for folder in folders if (best := _confirmed(folder))]
    # A study may be given twice, as a folder and as an archive say.
    found = [*{(each.uid, each.trial): each for each in known}.values()]
    if len(found) < 2:
        return []
    of_all = [pair for pair in found[0].scores if all(pair in each.scores for each in found)]
    found.sort(key=lambda each: _mean(each, of_all), reverse=found[0].study.objective.mode == "max")
    matches = [Match("study", one, other) for one, other in combinations(range(len(found)), 2)]
    family = [(_evidence(found, match), match) for match in matches]
    return [
        row | _about(row, found[0], found[int(match.other)], evidence.plan.pairs)
        for row, (evidence, match) in zip(judge(family, None), family, strict=True)
        if match.trial == 0
    ]


def _mean(one: Confirmed, pairs: Sequence[Pair]) -> float:
    return fmean(fmean(one.scores[pair].values()) for pair in pairs) if pairs else one.mean


def _evidence(found: Sequence[Confirmed], match: Match) -> Evidence:
    """Return what two scored with the seeds, on the folds and the cases that both have."""
    both = {number: found[number] for number in (match.trial, int(match.other))}
    one, other = both.values()
    pairs = [pair for pair in one.trainings if pair in other.trainings]
    scores = {number: each.scores for number, each in both.items()}
    shared = [p for p in pairs if _cases(one, p) and _cases(one, p) == _cases(other, p)]
    if one.study.trainer and shared != pairs:  # as in `confirm`, each training counts as one case
        shared = pairs
        scores = {
            number: {pair: {"all": each.trainings[pair].reports[-1].value} for pair in pairs}
            for number, each in both.items()
        }
    one_fold = len({pair.fold for pair in shared}) == 1
    if one_fold and (one.several_folds or other.several_folds):
        shared = []  # seeds on one fold say nothing of the others
    return Evidence(
        plan=Plan([match.trial], None, None, [], shared, epochs=0),
        metric=one.study.objective.metric,
        scores={(number, pair): own[pair] for number, own in scores.items() for pair in shared},
        missing={},
        same_cases=one_fold,
        mode=one.study.objective.mode,
    )


def _cases(one: Confirmed, pair: Pair) -> Set[str]:
    return one.scores.get(pair, {}).keys()


def _about(
    row: Mapping[str, Any], one: Confirmed, other: Confirmed, pairs: Sequence[Pair]
) -> dict[str, Any]:
    """Return what a row says of two beside their difference."""
    both = (one, other)
    namesakes = one.study.study == other.study.study
    names = [display_path(each.folder) if namesakes else each.study.study for each in both]
    measured = [each.measured() for each in both]
    reason = ""
    if row["verdict"] == "none":
        reason = _too_few(one, other)
    elif not (one.study.has_data and one.study.trains):
        reason = "on the cases that selected both: optimistic"
    return {
        "trial": f"{names[0]}:{one.trial}",
        "other": f"{names[1]}:{other.trial}",
        "hours": [each.hours(pairs) for each in both] if pairs else None,
        "units": [cost_key(each.study.trials) for each in both] if pairs else None,
        "measured": measured if all(measured) and measured[0] != measured[1] else None,
        "reason": reason,
    }


def _too_few(one: Confirmed, other: Confirmed) -> str:
    """Return why two have no verdict."""
    if len(one.trainings.keys() & other.trainings.keys()) < MIN_UNITS:
        return f"before both have {MIN_UNITS} seeds on the same folds"
    if any(each.trainings.keys() - each.scores.keys() for each in (one, other)):
        return "since the cases of their trainings are not all at hand"
    return "since they share too few folds with the same cases"


def _confirmed(folder: Path) -> Confirmed | None:
    """Return the best that a study has confirmed on validation folds, None for nothing.

    Of all that it has confirmed, whichever verdict is the newest: one may be of a trial alone.
    """
    study, state = read_study(folder)
    candidates: dict[tuple[int, int], tuple[float, Event]] = {}
    for verdict in state.verdicts:
        for row in verdict["scores"] if verdict["on"] == "validation" else ():
            if row["role"] == "candidate" and len(row["seeds"]) >= MIN_UNITS:
                candidates[row["trial"], verdict["epochs"]] = row["mean"], verdict
    if not candidates:
        return None
    choose = max if study.objective.mode == "max" else min
    number, epochs = choose(candidates, key=lambda key: candidates[key][0])
    mean, verdict = candidates[number, epochs]
    pairs = [Pair(*pair) for pair in zip(verdict["seeds"], verdict["folds"], strict=False)]
    again = Plan([number], None, None, [], pairs, epochs).confirming(state)
    trainings = {
        pair: trial
        for (_, pair), trial in again.items()
        if trial.ending == "completed" and trial.reports
    }
    scores = {
        pair: cases
        for pair, trial in trainings.items()
        if (cases := _scores(study, trial, folder / "trials" / f"{trial.number:04d}"))
    }
    several = len({pair.fold for pair in pairs}) > 1
    return Confirmed(folder, study, state, number, mean, trainings, scores, several)


def _scores(study: StudyConfig, trial: TrialState, run_dir: Path) -> Cases | None:
    """Return a training's objective by case, from the ledger where that has all of it."""
    if by_case := trial.reports[-1].by_case:
        return by_case
    metric = case_metric(study.objective.metric, study.objective.mode)
    return case_values(read_cases(run_dir, trial.epoch), metric)
