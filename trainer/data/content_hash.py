"""A store's content hash, from what it holds: whether a copy is a good one."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.store import MANIFEST, Store, map_batch

_CONTENT = ("format", "image_size", "modalities", "windows", "units")
_SAYS_NOTHING = {"fingerprint", "notes", "images_hash", "patient", "affine"}


def content_hash(manifest: Mapping[str, Any]) -> str:
    """Return what names a store's content for ever, from its manifest's other entries."""
    content = {key: manifest[key] for key in _CONTENT}
    cases = [
        {key: case[key] for key in sorted(case.keys() - _SAYS_NOTHING)}
        for case in manifest["cases"]
    ]
    return hashlib.sha256(json.dumps([content, cases], sort_keys=True).encode()).hexdigest()


def arrays_hash(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return the hash of a case's arrays: columns of slices, then the native masks."""
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def problem(path: Path, alive: Callable[[], object] = lambda: None) -> str:
    """Read a whole store; return what is not as its content hash says, empty if all is.

    Args:
        path: The store's folder.
        alive: Called before each case.

    Raises:
        OSError: It cannot be read.
    """
    where = ""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        if content_hash(manifest) != manifest["content_hash"]:
            return f"{MANIFEST}: not what its content hash says"
        store = Store.open(path)
        rows = map_batch(path / "slices.arrow")
        pixels = [count for case in manifest["cases"] for count in case["lesion_pixels"]]
        if rows.column("lesion_pixels").to_pylist() != pixels:
            return "slices.arrow: not what its content hash says"
        for number, case in enumerate(manifest["cases"]):
            alive()
            where = f"case {case['case_id']}: "
            if arrays_hash(_arrays(store, number)) != case["arrays_hash"]:
                return f"{where}not what its content hash says"
    except FileNotFoundError as error:
        return f"{error.filename}: missing"
    except OSError:
        raise
    except Exception as error:  # whatever json, Arrow, zipfile and zlib raise of what is damaged
        return f"{where}{type(error).__name__}: {error}"
    return ""


def _arrays(store: Store, number: int) -> dict[str, NDArray[Any]]:
    case = store.cases[number]
    masks = {"native mask": store.native_mask(case), "native brain": store.native_brain(case)}
    return store.columns(number) | masks
