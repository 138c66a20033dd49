"""What a model that is never wrong could score at an image size: the grid's own limit.

A mask of the store's pixels, brought back to the reference grid, is not the expert's any more: what
is smaller than a pixel is gone, and edges lie where pixels end. No model of that store can be
expected to score higher than the store's own masks do.
"""

import json
import multiprocessing
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from trainer.cpus import num_cpus
from trainer.data.geometry import bounding_box, to_mask, to_slices
from trainer.data.making.processes import begun
from trainer.data.store import Case, Store
from trainer.evaluation.metrics import dice, lesion_f1
from trainer.files.atomic import write_atomically
from trainer.files.documents import SCHEMA, from_json

SIZES = (32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Image sizes that a data set may be prepared at next."""

FILE = "ceiling.json"
"""In a store: what `ceilings` found, so that a second look costs nothing."""

FEW_CASES = 16
"""Up to which further processes take longer to start than the cases do."""


@dataclass(frozen=True)
class Ceiling:
    """Mean over the cases with lesion, on their native grid inside the brain."""

    dice: float
    lesion_f1: float


def ceiling(store: Store, cases: Iterable[Case], image_size: int | None = None) -> Ceiling | None:
    """Score masks of an image size's pixels against the experts'.

    Args:
        store: Has the experts' masks on their native grids.
        cases: Which; those without lesion are passed over.
        image_size: Rows and columns of a slice; None is the store's own.

    Returns:
        None where no case has a lesion.
    """
    size = image_size or store.image_size
    return _mean([_score(store, case, size) for case in cases if case.lesion_ml])


def ceilings(store: Store, workers: int | None = None) -> dict[int, Ceiling]:
    """Score the store's own image size and the next two on all cases, by image size.

    Kept in the store's folder where that can be written, and read from there the next time.

    Args:
        store: Where the masks are.
        workers: Processes; None takes as many as there are CPUs.

    Returns:
        Empty where no case has a lesion.
    """
    path = Path(store.path) / FILE
    if (kept := _read(path, store)) is not None:
        return kept
    sizes = [store.image_size, *[size for size in SIZES if size > store.image_size][:2]]
    cases = [case for case in store.cases if case.lesion_ml]
    workers = min(workers or num_cpus(), len(cases))
    if workers < 2 or len(cases) <= FEW_CASES:
        scored = [_score_at(store, sizes, case) for case in cases]
    else:
        context = multiprocessing.get_context("spawn")  # the caller may have threads
        with ProcessPoolExecutor(workers, context, _open, (store.path,)) as pool:
            try:
                futures = begun(pool, _score_there, [(sizes, case) for case in cases])
                scored = [future.result() for future in futures]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    by_size = [[of_case[place] for of_case in scored] for place in range(len(sizes))]
    means = zip(sizes, map(_mean, by_size), strict=True)
    found = {size: mean for size, mean in means if mean}
    content = {str(size): [mean.dice, mean.lesion_f1] for size, mean in found.items()}
    document = {"schema": SCHEMA, "content_hash": store.content_hash, "ceiling": content}
    with suppress(OSError):  # a store that may only be read
        write_atomically(path, lambda new: new.write_text(json.dumps(document), encoding="utf-8"))
    return found


def in_words(found: dict[int, Ceiling]) -> str:
    """Return one line for people: this image size, and the next."""
    parts = [f"Dice {mean.dice:.3f}, lesion F1 {mean.lesion_f1:.3f}" for mean in found.values()]
    (size, first), *others = zip(found, parts, strict=True)
    more = "".join(f"; at {next_size} {part}" for next_size, part in others)
    return f"ceiling: a perfect model scores {first} at {size} pixels{more}"


def _read(path: Path, store: Store) -> dict[int, Ceiling] | None:
    try:
        document = from_json(path.read_text(encoding="utf-8"))
        if document["content_hash"] != store.content_hash:
            return None
        return {int(size): Ceiling(*pair) for size, pair in document["ceiling"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


_opened: list[Store] = []
"""Of a process that `_open` began: opening maps every case, which takes longer than a score."""


def _open(path: Path) -> None:
    _opened.append(Store.open(path))


def _score_there(sizes: Sequence[int], case: Case) -> list[tuple[float, float]]:
    return _score_at(_opened[0], sizes, case)


def _score_at(store: Store, sizes: Sequence[int], case: Case) -> list[tuple[float, float]]:
    return [_score(store, case, size) for size in sizes]


def _score(store: Store, case: Case, image_size: int) -> tuple[float, float]:
    """Return Dice and lesion F1 of a case's mask that went to an image size's pixels and back."""
    truth, brain = store.native_mask(case), store.native_brain(case)
    share = to_slices(truth, case.box, case.native_spacing_mm, image_size, 0.0)
    pixels = (share >= 0.5).astype(np.float32)
    back = to_mask(pixels, 0.5, case.box, case.native_spacing_mm, case.native_shape)
    truth, back = truth & brain, back & brain
    box = bounding_box(truth | back)
    truth, back = (np.ascontiguousarray(mask[box]) for mask in (truth, back))
    return dice(truth, back), lesion_f1(truth, back)[0]


def _mean(scores: Sequence[tuple[float, float]]) -> Ceiling | None:
    if not scores:
        return None
    return Ceiling(*(fmean(column) for column in zip(*scores, strict=True)))
