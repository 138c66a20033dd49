"""A study's results as JSON values: the searched trials ranked, and what they are compared with."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from search.analysis.case_scores import CASE_METRICS
from search.analysis.first_weights import label, named
from search.analysis.importance import importance
from search.analysis.mask_references import mask_rows
from search.analysis.ranking import (
    equal_epoch,
    pareto,
    ranked,
    rung_correlation,
)
from search.analysis.rivals import rivals
from search.analysis.trial_results import TrialRows
from search.analysis.validation_noise import noise_of, samples
from search.analysis.verdicts.between_studies import between_studies
from search.ledger.budget import cost_key, overspent
from search.ledger.journal import Event
from search.ledger.state import StudyState
from search.storage.archives.opened import archive_file
from search.storage.run_folders import fetch_cases
from search.storage.sealed_readings import num_readings
from search.storage.studies import display_path, is_driven, launch_command, read_study
from search.study.config import StudyConfig
from trainer.files.documents import strict

logger = logging.getLogger(__name__)


def compare(folder: Path, read: tuple[StudyConfig, StudyState] | None = None) -> dict[str, Any]:
    """Return a study's results as JSON values.

    A trial's numbers are those of its last epoch reported, whether it completed or was stopped
    there; `epochs` says which. It is ranked by its `value`, the mean over `value_epochs`. Trials
    that failed, diverged or have no finite value come last, without a rank.

    Args:
        folder: The study's.
        read: What `read_study` returns of it, if anyone has just asked.

    Returns:
        `launch`, the command that continues it, and `runs`, the folder of studies, as commands
        take it; `archive`, the file that it was read from, None for a study's folder; `trainer`,
        what one's own is called, None for segtune's; `trials` (ranked), `references` (the control
        and the others, in no order of merit, each with its `name`), `masks`, those that are a
        reference (search/analysis/mask_references.py), and `threshold`, each with Dice; `rivals`,
        which trials are not told from the best (search/analysis/rivals.py);
        `test_readings`, how often the store's test set was read; `equal_epoch`
        (analysis/ranking.py), at which `value_at_equal` and `rank_at_equal` of each trial are;
        `pareto`, the trials that no other beats in all objectives; `verdicts`, what `confirm`
        found, on validation folds and on the test set; `confirmation`, what the study's section
        `confirm` came to, None before that or without it; `noise`
        (search/analysis/validation_noise.py); `weights_of`, which weights stand for a trial;
        `over`, whether the search has ended, by its `plan` or by its `budget`, None if neither;
        `confirmable` and `respaceable`, whether `confirm` can judge the best trial and `respace`
        make it faster; `exhausted`, why no further trial is proposed, and how many combinations
        were `refused`, which are no trials; `epochs_saved`, the share that pruning spared; `spent`,
        and which of it is shown as the `cost`; `rung_correlation` (search/analysis/ranking.py);
        `importance` (search/analysis/importance.py); `subgroups`, the Dice by lesion volume of
        the best trial, the control and the references, with the `intervals` of their metrics. What
        a trial has is in search/analysis/trial_results.py.
    """
    try:
        fetch_cases(folder)
    except OSError as error:
        logger.warning("%s: the newest cases are not here: %s", display_path(folder), error)
    study, state = read or read_study(folder)
    searched, best = state.searched(), ranked(study, state.searched())
    with_rank = {trial.number for trial in best}
    rest = [trial for trial in searched if trial.number not in with_rank]
    epoch = equal_epoch(study, state)
    driven = any(trial.running for trial in state.trials.values()) and is_driven(folder)
    about = TrialRows(study, state, folder, epoch, best[0] if best else None, driven=driven)
    rows = [about.row(trial) for trial in [*best, *rest]]
    for rank, row in enumerate(rows, start=1):
        row["rank"] = rank if rank <= len(best) else None
    sign = -1.0 if study.objective.mode == "max" else 1.0
    at_equal = [row for row in rows if row["rank"] and row["value_at_equal"] is not None]
    at_equal.sort(key=lambda row: sign * row["value_at_equal"])
    for rank, row in enumerate(at_equal, start=1):
        row["rank_at_equal"] = rank
    beside = [state.control(), *state.references()]
    masks = mask_rows(study, state, folder, best[0] if best else None)
    shown_apart = [("best", best[0] if best else None), ("control", state.control())]
    shown_apart += [("reference", trial) for trial in state.references()]
    archived = archive_file(folder)
    return {
        "study": study.study,
        "folder": display_path(folder),
        "launch": launch_command(folder) if archived is None else None,
        "archive": archived and str(archived),
        "runs": display_path(folder.parent if archived is None else archived.parent),
        "trainer": study.trainer.name if study.trainer else None,
        "store": study.data.store or None,
        "store_hash": (state.study or {}).get("store_hash"),
        "fold": study.data.fold if study.has_data else None,
        "label": label(study, state),
        "objective": study.objective.model_dump(),
        "further_objectives": [objective.model_dump() for objective in study.further_objectives],
        "max_t": study.scheduler.max_t,
        "smoothing": study.scheduler.smoothing,
        "weights_of": _weights_of(study),
        "pruned_by": _pruned_by(study),
        "searched": list(study.space),
        "trials": rows,
        "rivals": rivals(study, best),
        "equal_epoch": epoch,
        "pareto": [t.number for t in pareto(study, searched)] if study.further_objectives else [],
        "references": [
            about.row(trial) | {"name": state.reference_name(study, trial) or "control"}
            for trial in beside
            if trial
        ],
        "masks": masks,
        "threshold": state.threshold and _of_event(state.threshold),
        "data": state.data and _of_event(state.data),
        "noise": noise_of(study, state),
        "test_readings": (
            num_readings(study.data.store, state.test_readings) if study.has_data else 0
        ),
        "verdicts": _newest_verdicts(state),
        "confirmation": state.confirmed and _of_event(state.confirmed),
        "epochs_saved": epochs_saved(study, state),
        "over": _over(study, state),
        "confirmable": _confirmable(study),
        "respaceable": bool(best) and samples(study, best[0]) and study.trains,
        "exhausted": state.exhausted or None,
        "refused": len(state.refused),
        "spent": state.meter.spent(study.trials),
        "cost": cost_key(study.trials),
        "rung_correlation": rung_correlation(study, searched),
        "importance": importance(study, searched),
        "subgroups": [
            group | {"name": state.reference_name(study, trial) or role}
            for role, trial in shown_apart
            if trial and (group := about.subgroups(trial, role))
        ]
        + [
            {"trial": None, "role": "masks", "epoch": None, "name": row["name"]}
            | {"groups": row["groups"], "intervals": row["intervals"]}
            for row in masks
            if row["groups"]
        ],
    }


def compare_studies(folders: Iterable[Path]) -> dict[str, Any]:
    """Return the results of several studies.

    Returns:
        `studies`; `incomparable`, what keeps them apart; and, if nothing does, `between`, what
        their confirmed best have more than each other (analysis/verdicts/between_studies.py).
    """
    folders = [*folders]
    studies = [compare(folder) for folder in folders]
    return {"studies": studies, **compared(studies, folders)}


def compared(studies: Sequence[Mapping[str, Any]], folders: Sequence[Path]) -> dict[str, Any]:
    """Return `incomparable` and `between` of some studies, as `compare_studies` does.

    Args:
        studies: What `compare` returns of each.
        folders: Theirs.
    """
    differing = incomparable(studies)
    return {"incomparable": differing, "between": [] if differing else between_studies(folders)}


def incomparable(studies: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what differs between studies, so that their numbers cannot be compared."""
    facts: dict[str, Callable[[Mapping[str, Any]], object]] = {
        "stores": lambda study: study["store_hash"] or study["store"],
        "trainers": lambda study: study["trainer"],
        "validation folds": lambda study: study["fold"],
        "objectives": lambda study: (study["objective"]["metric"], study["objective"]["mode"]),
    }
    return [what for what, of in facts.items() if len({of(study) for study in studies}) > 1]


def epochs_saved(study: StudyConfig, state: StudyState) -> float | None:
    """Return the share of epochs that pruning saved, None before a searched trial has ended.

    Of all the epochs that the ended searched trials would have taken, each to max_t, those after
    the epoch at which its rungs or the stall rule ended a trial. What a diverged or failed trial
    left out is no saving, nor what a person stopped.
    """
    ended = [trial for trial in state.searched() if trial.ending]
    max_t = study.scheduler.max_t
    if not ended or not study.trains:
        return None
    pruned = [t for t in ended if t.ending in ("stopped", "stalled") and not t.stopped_by_hand]
    spared = sum(max(0, max_t - trial.epoch) for trial in pruned)
    return spared / (max_t * len(ended))


def _over(study: StudyConfig, state: StudyState) -> str | None:
    """Return what ended the search: the plan, a budget, or nothing yet."""
    if state.planned(study) and all(trial.ending for trial in state.searched()):
        return "plan"
    return "budget" if overspent(study, state.meter) else None


def _confirmable(study: StudyConfig) -> bool:
    """Return whether trainings with other seeds on other folds can judge what was found."""
    if study.trainer:
        return study.hears_of_seeds
    retrained = [key for key, _ in named(study) if not key.startswith("enqueue")]
    unseen = not study.trains or not retrained
    return study.objective.metric in CASE_METRICS and unseen


def _newest_verdicts(state: StudyState) -> list[dict[str, Any]]:
    """Return the newest verdict on the validation folds, and the newest on the test set."""
    newest = {event["on"]: event for event in state.verdicts}
    return [_of_event(newest[on]) for on in ("validation", "test") if on in newest]


def _weights_of(study: StudyConfig) -> str:
    """Return in words which weights stand for a trial."""
    if study.frozen and study.frozen.semantics < 2:
        return "the best single validation, which version 0.1 kept,"
    return "the last validation"


def _pruned_by(study: StudyConfig) -> str:
    """Return in words what ends trials early; empty if nothing does."""
    rungs = ["ASHA"] if study.scheduler.type == "asha" else []
    return " and ".join(rungs + ["the stall rule"] * (study.stall is not None))


def _of_event(event: Event) -> dict[str, Any]:
    """Return what an event says, without what the ledger needs to know of its line."""
    own = {"event", "v", "fence", "more"}
    return {key: strict(value) for key, value in event.items() if key not in own}
