"""A store of noise, as `segtune prepare` writes one, made in a second and without NIfTI files."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from trainer.data.content_hash import arrays_hash, content_hash
from trainer.data.geometry import Box
from trainer.data.store import FORMAT
from trainer.data.windows import modality

WINDOWS = {"ncct": (0, 80), "cta": (0, 90), "cbf": (0, 35), "mtt": (0, 20), "tmax": (0, 7)}
SIDE_MM = 200.0


def write_store(
    folder: Path,
    *,
    image_size: int,
    num_cases: int = 5,
    num_slices: int = 8,
    native_size: int = 64,
) -> Path:
    """Write cases of five modalities, noise with a disc as lesion, one in each fold.

    Args:
        folder: To create.
        image_size: Rows and columns of a slice.
        native_size: Of the reference grid, on which predictions are scored.

    Returns:
        The folder.
    """
    (folder / "cases").mkdir(parents=True)
    random = np.random.default_rng(0)
    cases: list[dict[str, Any]] = []
    lesion_slices = slice(num_slices // 3, num_slices // 3 + max(2, num_slices // 6))
    for number in range(num_cases):
        name, radius = f"case{number:02d}", 0.06 + 0.02 * (number % 6)
        mask, brain = (np.zeros((num_slices, image_size, image_size), np.uint8) for _ in range(2))
        mask[lesion_slices], brain[:] = _disc(image_size, radius), _disc(image_size, 0.46, 0.5)
        columns: dict[str, Any] = {
            f"image:{modality}": (
                random.uniform(low, high, mask.shape) * 0.5 + mask * (high - low) * 0.4
            ).astype(np.float16)
            for modality, (low, high) in WINDOWS.items()
        }
        columns |= {"mask": mask, "brain": brain}
        _write_batch(
            folder / "cases" / f"{name}.arrow",
            {
                key: pa.FixedSizeListArray.from_arrays(pa.array(value.reshape(-1)), value[0].size)
                for key, value in columns.items()
            },
        )
        shape = (native_size, native_size, num_slices)
        native, head = np.zeros(shape, bool), np.zeros(shape, bool)
        native[..., lesion_slices] = _disc(native_size, radius)[..., None]
        head[:] = _disc(native_size, 0.46, 0.5)[..., None]
        np.savez_compressed(
            folder / "cases" / f"{name}.npz", mask=np.packbits(native), brain=np.packbits(head)
        )
        pixel_mm, native_mm = SIDE_MM / image_size, SIDE_MM / native_size
        lesion_pixels = mask.sum((1, 2)).tolist()
        cases.append(
            {
                "case_id": name,
                "split": "train",
                "fold": number % 5,
                "first": number * num_slices,
                "num_slices": num_slices,
                "spacing_mm": [pixel_mm, pixel_mm, 3.0],
                "native_shape": list(shape),
                "native_spacing_mm": [native_mm, native_mm, 3.0],
                "lesion_ml": float(native.sum() * native_mm**2 * 3 / 1000),
                "clinical": {},
                "box": asdict(Box(SIDE_MM, SIDE_MM, SIDE_MM, 0, num_slices)),
                "lesion_pixels": lesion_pixels,
                "arrays_hash": arrays_hash(columns | {"native mask": native, "native brain": head}),
            }
        )
    counts = [count for case in cases for count in case["lesion_pixels"]]
    _write_batch(folder / "slices.arrow", {"lesion_pixels": pa.array(counts, pa.int32())})
    manifest = {
        "format": FORMAT,
        "image_size": image_size,
        "modalities": list(WINDOWS),
        "windows": WINDOWS,
        "units": {name: modality(name).unit for name in WINDOWS},
        "cases": cases,
    }
    manifest["content_hash"] = content_hash(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def _disc(size: int, radius: float, x_center: float = 0.6) -> np.ndarray[Any, np.dtype[np.bool_]]:
    y, x = np.mgrid[:size, :size] / size
    return (y - 0.5) ** 2 + (x - x_center) ** 2 < radius**2


def _write_batch(path: Path, columns: dict[str, Any]) -> None:
    batch = pa.record_batch(columns)
    with path.open("wb") as file, pa.ipc.new_file(file, batch.schema) as writer:
        writer.write_batch(batch)
