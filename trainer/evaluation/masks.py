"""Somebody's masks, scored as a model is: per case, on its native grid, inside its brain mask."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trainer.configfile import ConfigError
from trainer.data.splits_file import read_splits
from trainer.data.store import MANIFEST, Case, Store
from trainer.evaluation.certainty.case_certainty import certainty
from trainer.evaluation.certainty.report import Report, report
from trainer.evaluation.mask_folder import find_masks, fold_of, missing_text
from trainer.evaluation.mask_values import (
    CUT,
    Meaning,
    find_meaning,
    read_on_grid,
    resampled_text,
    values_on_grid,
)
from trainer.evaluation.metrics import CaseScore, score_case
from trainer.evaluation.sealed_readings import check_can_record, record_reading
from trainer.progress import tracked
from trainer.saved.seen import Overlap, sentence

WHOSE = "the weights behind these masks"


@dataclass(frozen=True)
class Masks:
    """The masks of some cases, found and understood, but not scored."""

    files: list[tuple[Case, Path]]
    """In the order of the store."""
    meaning: Meaning
    missing: list[str]
    """Cases without one."""
    said: list[str]
    """How they are read, and what a person should know."""
    content_hash: str
    seen: list[Case] | None
    """Cases on whose patients the model of their own mask was trained; None: nobody knows."""


@dataclass(frozen=True)
class MaskEvaluation:
    """The scores of masks on a part of a store."""

    split: Literal["val", "test"]
    label: str
    """What the numbers are worth."""
    masks: Masks
    scores: list[CaseScore]
    """Of the cases that have a mask."""
    certainty: Report | None
    """What the probabilities are worth, of the files that have some; None where none has."""


def evaluate_masks(
    folder: Path,
    store: Store,
    *,
    split: Literal["val", "test"] = "val",
    fold: int | None = 0,
    labels: str = "",
    splits: Path | None = None,
) -> MaskEvaluation:
    """Score the masks of a validation fold, of all folds, or of the sealed test set.

    A reading of the test set is recorded beside the store (sealed_readings.py) before it is read.

    Args:
        folder: Where they lie.
        store: Whose cases they are of.
        split: Which part.
        fold: Of `val`; None takes all folds, as a cross-validation covers them.
        labels: As for `read_masks`.
        splits: Likewise.

    Raises:
        ConfigError: As `read_masks`; there are no such cases, or the folder has none of them; or a
            reading of the test set cannot be recorded.
    """
    if split == "test":
        cases, part = store.test_cases(), "sealed test set"
        if not cases:
            raise ConfigError([f"{store.path}: has no test cases"])
        check_can_record(store.path)
    elif fold is None:
        cases, part = [case for case in store.cases if case.fold is not None], "all folds"
    else:
        cases, part = store.split(fold)[1], f"validation fold {fold}"
    found = read_masks(folder, store, cases, labels=labels, splits=splits)
    if not found.files:
        raise ConfigError([f"{folder}: {missing_text(found.missing, len(cases))}"])
    if split == "test":
        masks = str(folder.absolute())
        number = record_reading(store.path, store.content_hash, {"masks": masks})
        part += f", reading {number} of this store"
    scores = score_masks(found, store)
    label = "; ".join(filter(None, [part, unseen_text(found, split)]))
    found.said.extend(too_good(scores))
    return MaskEvaluation(split, label, found, scores, _certainty(found, store))


def read_masks(
    folder: Path,
    store: Store,
    cases: Sequence[Case],
    *,
    labels: str = "",
    splits: Path | None = None,
) -> Masks:
    """Find the masks of some cases, and decide how their values are read.

    Args:
        folder: Where they lie, one file a case (mask_folder.py).
        store: The prepared data.
        cases: Whose masks to look for.
        labels: Which labels are lesion; empty decides (mask_values.py).
        splits: Which cases the model of the masks was trained on, as `segtune prepare --splits`
            reads it: nnU-Net's splits_final.json, say. None: nobody knows.

    Raises:
        ConfigError: The folder has no case's, or one that cannot be used.
    """
    found = find_masks(folder, cases, store.cases)
    files = [(c, found.files[c.case_id]) for c in cases if c.case_id in found.files]
    manifest = json.loads((store.path / MANIFEST).read_text(encoding="utf-8"))
    store_labels = manifest.get("masks", {}).get("labels", [])
    meaning = find_meaning(files, store_labels, labels)
    resampled = [case.case_id for case in meaning.resampled]
    said = [*meaning.said, *found.notes]
    said += [resampled_text(resampled)] * bool(resampled)
    said += [missing_text(found.missing, len(cases))] * bool(found.missing and files)
    return Masks(
        files,
        meaning,
        found.missing,
        said,
        content_hash(files),
        None if splits is None else _seen(splits, store, folder, files),
    )


def score_masks(masks: Masks, store: Store) -> list[CaseScore]:
    """Score masks, one after another."""
    return [
        score_case(
            case.case_id,
            store.native_mask(case),
            read_on_grid(path, case, masks.meaning),
            store.native_brain(case),
            case.native_spacing_mm,
        )
        for case, path in tracked(masks.files, "scoring")
    ]


def _certainty(masks: Masks, store: Store) -> Report | None:
    """Judge the probabilities of the files that have some, or return None."""
    judged = [
        certainty(
            case.case_id,
            values_on_grid(path, case, masks.meaning),
            store.native_mask(case),
            store.native_brain(case),
            CUT,
        )
        for case, path in masks.files
        if path in masks.meaning.probabilities
    ]
    patients = {case.case_id: patient_of(case) for case, _ in masks.files}
    return report({1: judged}, patients) if judged else None


def too_good(scores: Sequence[CaseScore]) -> list[str]:
    """Return a line about masks that are the references themselves; none about others."""
    lesions = [score for score in scores if score.has_lesion]
    if len(lesions) < 2 or any(score.dice < 1 for score in lesions):
        return []
    return [f"all {len(lesions)} masks of lesions are the references: is it their folder?"]


def content_of(folder: Path, store: Store, cases: Sequence[Case]) -> str:
    """Return the content hash that `read_masks` would give, without a look at the values.

    Raises:
        ConfigError: The folder has no case's masks.
    """
    found = find_masks(folder, cases, store.cases)
    return content_hash([(c, found.files[c.case_id]) for c in cases if c.case_id in found.files])


def content_hash(files: Sequence[tuple[Case, Path]]) -> str:
    """Return what tells the masks of some cases from others."""
    digest = hashlib.sha256()
    for case, path in files:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{case.case_id} {content}\n".encode())
    return digest.hexdigest()


def _seen(
    splits: Path, store: Store, folder: Path, files: Sequence[tuple[Case, Path]]
) -> list[Case] | None:
    """Return the cases whose patients the model of their own mask was trained on.

    In a cross-validation that is the model of the fold that validates the case, unless the file
    lies in another's folder; what no fold names, no model was trained on. None where the file says
    of a case that it is no test case, and no more.

    Raises:
        ConfigError: The file is no splits.
    """
    places = read_splits(splits, [case.case_id for case in store.cases]).places
    if any(places[case.case_id] == "rest" for case, _ in files):
        return None
    trained: dict[str, set[Any]] = {}
    for case in store.cases:
        if (place := places[case.case_id]) != "test":
            trained.setdefault(patient_of(case), set()).add(place)
    seen = []
    for case, path in files:
        by_folder = fold_of(folder, path)
        held_out: Any = int(by_folder) if by_folder.isdecimal() else places[case.case_id]
        if by_folder == "all" or not isinstance(held_out, int):
            held_out = None  # no fold held it out: if it is not test, a model was trained on it
        if trained.get(patient_of(case), set()) - {held_out}:
            seen.append(case)
    return seen


def patient_of(case: Case) -> str:
    """Return whose a case is; a store of 0.1 does not say, and it is one by itself."""
    return case.patient or case.case_id


def unseen_text(masks: Masks, split: Literal["val", "test"] = "val") -> str:
    """Return in words that patients may not be new to the model of their masks; empty: they are."""
    seen = None if masks.seen is None else len({patient_of(case) for case in masks.seen})
    return seen_sentence(seen, len({patient_of(case) for case, _ in masks.files}), split)


def seen_sentence(seen: int | None, among: int, split: Literal["val", "test"] = "val") -> str:
    """Return in words that so many patients are not new to the model of masks; None: unknown."""
    counts = (seen or 0, among)
    val, test = (counts, (0, 0)) if split == "val" else ((0, 0), counts)
    return sentence(Overlap(*val, *test, is_all=seen is not None), WHOSE)
