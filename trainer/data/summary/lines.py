"""The lines that `segtune prepare` ends with."""

from collections.abc import Mapping, Sequence
from typing import Any

from trainer.data.store import MANIFEST, Store
from trainer.data.summary.notes import note_lines

MAX_NOTES = 20


def summary_lines(store: Store, manifest: Mapping[str, Any]) -> list[str]:
    """Return what a store holds, and everything about it that a person should know.

    Args:
        store: A prepared data set.
        manifest: Its manifest; one of an earlier version says less.
    """
    lesions = int(store.lesion_slice.sum())
    test, folds = manifest["splits"]["test"], manifest["splits"]["folds"]
    lines = [
        f"{store.path}: {len(store.cases)} cases, {store.num_slices} slices of {store.image_size}x"
        f"{store.image_size} ({lesions} with lesion), {', '.join(store.modalities)}",
        f"split: {len(test)} test, folds of {', '.join(str(len(fold)) for fold in folds)}",
        *manifest.get("said", []),
    ]
    by_kind = note_lines(manifest["cases"])
    lines += [f"note: {note}" for note in [*manifest["notes"], *by_kind[:MAX_NOTES]]]
    if len(by_kind) > MAX_NOTES:
        lines.append(f"note: and {len(by_kind) - MAX_NOTES} more in {store.path / MANIFEST}")
    return lines + [f"skipped: {line}" for line in manifest["skipped"]]


def scale_lines(factors: Mapping[str, Sequence[float]]) -> list[str]:
    """Return what `--scale` was given as, in a line; none where it was not."""
    read = [
        f"{name} is read times {factor:g}" + (f" plus {offset:g}" if offset else "")
        for name, (factor, offset) in factors.items()
    ]
    return [f"scale: {', '.join(read)}"] if read else []
