"""Masks that a study names as a reference, looked at before anything is spent."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from search.storage.dataset_cache import read_manifest
from search.storage.studies import read_study
from search.study.config import StudyConfig
from trainer.configfile import ConfigError
from trainer.data.splits_file import read_splits

if TYPE_CHECKING:
    from trainer.data.store import Case


def look_at_masks(study: StudyConfig, folder: Path) -> tuple[list[str], list[str]]:
    """Return what is wrong with a study's masks, and what a person should know of them.

    Their names are looked at, and the values of the first; all are read when they are scored. What
    was scored by an earlier launch may be away.

    Args:
        study: The study, whose store is there.
        folder: Its folder, if it exists.
    """
    if not study.mask_references:
        return [], []
    from trainer.data.store import cases_of

    manifest = json.loads(read_manifest(study.data.store))
    cases, problems, notes = cases_of(manifest), list[str](), list[str]()
    for index, reference in enumerate(study.references):
        if reference.masks is None:
            continue
        key = f"references.{index}.masks"
        if (
            not Path(reference.masks).is_dir()
            and _scored(folder).get(reference.name) == reference.masks
        ):
            notes.append(f"{key}: {reference.masks}: is away: as it was scored before")
            continue
        try:
            notes += [f"{key}: {line}" for line in _look(study, cases, Path(reference.masks))]
            if reference.splits is not None:
                key = f"references.{index}.splits"
                read_splits(Path(reference.splits), [case.case_id for case in cases])
        except (ConfigError, OSError) as error:
            problems.append(f"{key}: {error}")
    return problems, notes


def _look(study: StudyConfig, everyone: "tuple[Case, ...]", folder: Path) -> list[str]:
    from trainer.evaluation.mask_folder import find_masks, missing_text
    from trainer.evaluation.mask_values import find_meaning

    in_folds = [case for case in everyone if case.fold is not None]
    found = find_masks(folder, in_folds, everyone)
    first = [(case, found.files[case.case_id]) for case in in_folds if case.case_id in found.files]
    find_meaning(first[:1], [])
    if not first:
        raise ConfigError([f"{folder}: {missing_text(found.missing, len(in_folds))}"])
    mine = [case.case_id for case in in_folds if case.fold == study.data.fold]
    there = [case_id for case_id in mine if case_id in found.files]
    folds = sorted({str(case.fold) for case, _ in first})
    return [
        f"{len(there)} of {len(mine)} cases of fold {study.data.fold}; of folds {', '.join(folds)}"
        f" {len(first)} of {len(in_folds)}",
        *found.notes,
    ]


def _scored(folder: Path) -> dict[str, str]:
    """Return by name the folders of masks whose scores a study's ledger has."""
    try:
        masks = read_study(folder)[1].masks
    except (ValueError, OSError):
        return {}
    return {name: event["folder"] for name, event in masks.items()}
