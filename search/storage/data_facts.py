"""What a store says of itself, as a study's ledger keeps it: cases, splits, labels, the ceiling."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from search.storage.dataset_cache import open_store, read_manifest


def data_facts(path: str, fold: int) -> dict[str, Any]:
    """Return what page and MLflow show of a study's data.

    Args:
        path: Of the store.
        fold: For whose validation cases the ceiling is.

    Raises:
        StoreError: It is no store, or is damaged.
        OSError: It cannot be read.
    """
    from trainer.data.summary.notes import note_lines
    from trainer.evaluation.ceiling import ceiling

    manifest, store = json.loads(read_manifest(path)), open_store(path)
    best = ceiling(store, store.split(fold)[1])
    splits = manifest["splits"]
    return {
        "layout": manifest["layout"],
        "image_size": store.image_size,
        "modalities": list(store.modalities),
        "num_slices": store.num_slices,
        "num_cases": len(store.cases),
        "num_test": len(splits["test"]),
        "num_in_folds": [len(cases) for cases in splits["folds"]],
        "drawn_by": splits.get("drawn_by"),
        "said": manifest.get("said", []),
        "notes": [*manifest["notes"], *note_lines(manifest["cases"])],
        "skipped": len(manifest["skipped"]),
        "ceiling": best and asdict(best),
    }


def ceiling_of(data: Mapping[str, Any] | None) -> float | None:
    """Return the Dice of a perfect model, None where it is not known."""
    ceiling = data and data["ceiling"]
    return ceiling["dice"] if ceiling else None


def data_in_words(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return a name and a text for each fact, those that are known."""
    size, folds = data["image_size"], ", ".join(map(str, data["num_in_folds"]))
    drawn = f"; by {data['drawn_by']}" if data["drawn_by"] else ""
    ceiling = data["ceiling"]
    rows = [
        ("cases", f"{data['num_cases']}, {data['num_slices']} slices of {size}x{size}"),
        ("modalities", ", ".join(data["modalities"])),
        ("splits", f"{data['num_test']} test, folds of {folds}{drawn}"),
        ("read as", "; ".join(data["said"])),
        (
            "ceiling",
            ceiling and f"Dice {ceiling['dice']:.4f}, lesion F1 {ceiling['lesion_f1']:.4f}",
        ),
        ("left out", str(data["skipped"]) if data["skipped"] else ""),
        ("notes", "; ".join(data["notes"])),
    ]
    return [(name, text) for name, text in rows if text]
