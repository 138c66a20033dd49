"""How masks that are a reference score, as a study's ledger keeps it: on every fold they cover."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from search.storage.dataset_cache import open_store
from search.study.reference import Reference


def scored(
    reference: Reference, store_path: str, fold: int, known: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Score a folder of masks on all validation folds; never on the test set.

    Args:
        reference: With `masks`.
        store_path: The study's store.
        fold: The study's.
        known: The last `masks` event of this name; None without one.

    Returns:
        What a `masks` event has; nothing where it would be the one that is known, or where the
        folder that is known is away.

    Raises:
        ConfigError: The folder has no case's masks, or one that cannot be used.
        OSError: The store or the folder cannot be read.
    """
    from trainer.evaluation.masks import (
        content_of,
        patient_of,
        read_masks,
        score_masks,
        seen_sentence,
        too_good,
        unseen_text,
    )
    from trainer.evaluation.validate import means

    assert reference.masks is not None
    folder = Path(reference.masks)
    if known is not None and known["folder"] == reference.masks and not folder.is_dir():
        return {}
    store = open_store(store_path)
    cases = [case for case in store.cases if case.fold is not None]
    splits = None if reference.splits is None else Path(reference.splits)
    about: dict[str, Any] = {
        "name": reference.name,
        "folder": reference.masks,
        "splits": reference.splits,
        "content_hash": content_of(folder, store, cases),
        "splits_hash": splits and hashlib.sha256(splits.read_bytes()).hexdigest(),
        "fold": fold,
    }
    if known is not None and all(known.get(key) == value for key, value in about.items()):
        return {}
    masks = read_masks(folder, store, cases, splits=splits)
    scores = score_masks(masks, store)
    fold_of = {case.case_id: case.fold for case in cases}
    on_fold = [score for score in scores if fold_of[score.case_id] == fold]
    here = [case for case, _ in masks.files if case.fold == fold]
    seen = None
    if masks.seen is not None:
        seen = len({patient_of(case) for case in masks.seen if case.fold == fold})
    covered = {
        str(number): [
            sum(fold_of[score.case_id] == number for score in scores),
            sum(case.fold == number for case in cases),
        ]
        for number in sorted({*fold_of.values()} - {None}, key=str)
    }
    return {
        **about,
        "covered": covered,
        "metrics": {f"val/{name}": value for name, value in means(on_fold).items()}
        if on_fold
        else {},
        "cases": [{**asdict(score), "fold": fold_of[score.case_id]} for score in scores],
        "missing": [case_id for case_id in masks.missing if fold_of[case_id] == fold],
        "unseen": seen_sentence(seen, len({patient_of(case) for case in here})),
        "unseen_anywhere": unseen_text(masks),
        "said": [*masks.said, *too_good(scores)],
        **({"again": True} if known is not None else {}),
    }
