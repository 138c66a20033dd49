"""One case of a store: from its raw files to its Arrow file. Runs in a worker process."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import ndimage

from trainer.data.brain import brain_mask
from trainer.data.content_hash import arrays_hash
from trainer.data.files import BadFile, Source
from trainer.data.formats.case import RawCase
from trainer.data.geometry import Box, fit_box, to_slices
from trainer.data.masks.reading import DEFAULT, Reading, read_mask
from trainer.data.nifti import MIN_COVERAGE, Volume, on_grid_of, read_volume
from trainer.data.store import FORMAT
from trainer.data.summary.notes import Note
from trainer.data.windows import Factors, scale, value_notes
from trainer.files.atomic import write_atomically

MUCH_LESION = 0.5
"""Share of the brain: no infarct is larger."""
MUCH_OUTSIDE = 0.01
"""Share of a lesion outside the brain mask; a voxel or two at its rim are no news."""
MANY_MISSING = 0.05
"""Share of the brain in which a modality has no numbers."""
_METADATA = b"segtune"


@dataclass(frozen=True)
class CaseSettings:
    """What a case's arrays depend on, beside its files."""

    image_size: int
    store_format: str = FORMAT
    reading: Reading = DEFAULT
    """Which values of the mask are lesion."""
    factors: Factors = field(default_factory=dict)

    def identity(self) -> dict[str, Any]:
        """Return what enters a fingerprint: of masks and factors, what is not as usual."""
        values: dict[str, Any] = {
            "image_size": self.image_size,
            "store_format": self.store_format,
        }
        if self.reading != DEFAULT:
            values["reading"] = asdict(self.reading)
        if self.factors:
            values["factors"] = dict(self.factors)
        return values


def fingerprint(case: RawCase, root: Path, settings: CaseSettings) -> str:
    """Hash what the case is made from: its files' names, sizes and times, and the settings."""
    files = []
    for name, source in [
        *case.images.items(), *(("mask", mask) for mask in (case.mask, *case.more_masks)),
    ]:  # fmt: skip
        relative = os.path.relpath(source.path, root)
        stat = source.path.stat() if source.path.exists() else None
        files.append([name, relative, source.channel, stat and [stat.st_size, stat.st_mtime_ns]])
    text = json.dumps([settings.identity(), case.case_id, case.clinical, files], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def finished(folder: Path, case_id: str, expected: str) -> dict[str, Any] | None:
    """Return the record of a case that an earlier call finished from the same input, if any."""
    try:
        with pa.memory_map(str(folder / f"{case_id}.arrow")) as source:
            record = json.loads(pa.ipc.open_file(source).schema.metadata[_METADATA])
        (folder / f"{case_id}.npz").stat()
    except (OSError, pa.ArrowInvalid, KeyError, TypeError, ValueError):
        return None
    return record if record["fingerprint"] == expected else None


def prepare_case(
    case: RawCase, folder: Path, settings: CaseSettings, fingerprint: str
) -> dict[str, Any]:
    """Read one case, bring it to the store's pixels, and write it.

    Writes `<case_id>.npz`, then `<case_id>.arrow`, each by an atomic rename.

    Returns:
        The case's part of the manifest, also kept in the Arrow file's metadata.

    Raises:
        BadFile: One of the files cannot be used.
    """
    reference, brain = read_reference(case.images, settings.factors)
    mask, ignored = read_mask(case.mask, reference, settings.reading)
    for source in case.more_masks:
        another = read_mask(source, reference, settings.reading)
        mask |= another.lesion
        if another.ignored is not None:
            ignored = another.ignored if ignored is None else ignored | another.ignored
    if ignored is not None:
        mask &= ~ignored
    spacing_mm = reference.spacing_mm
    box = fit_box(brain | mask, spacing_mm)

    num_lesion, in_brain = int(mask.sum()), int((mask & brain).sum())
    notes = []
    if num_lesion - in_brain > MUCH_OUTSIDE * num_lesion:
        notes.append(
            Note(
                "lesion voxels lie outside the brain mask",
                f"{num_lesion - in_brain} of {num_lesion}",
            )
        )
    if in_brain > MUCH_LESION * (num_brain := int(brain.sum())):
        part = f"{in_brain / num_brain:.0%}"
        notes.append(Note(f"lesion is more than {MUCH_LESION:.0%} of the brain", part))
    if fit_box(brain, spacing_mm) != box:
        notes.append(Note("the box was grown beyond the brain to hold the lesion"))

    columns: dict[str, NDArray[np.float16 | np.uint8]] = {}
    factors, read = {}, ""
    for name, source in case.images.items():
        image = to_pixels(
            name, source, reference, brain, box, settings.image_size, settings.factors
        )
        columns[f"image:{name}"] = image.slices
        factors[name] = {"offset": image.offset, "divisor": image.divisor}
        notes += image.notes
        read += image.read
    scored = brain if ignored is None else brain & ~ignored
    for name, voxels in (("mask", mask), ("brain", scored)):
        share = to_slices(voxels, box, spacing_mm, settings.image_size, 0.0)
        columns[name] = (share >= 0.5).astype(np.uint8)
    lesion_pixels = columns["mask"].sum(axis=(1, 2), dtype=np.int64)
    if num_lesion and not lesion_pixels.any():
        notes.append(Note("the lesion is too small to be seen at this image size"))

    pixel_mm = box.side_mm / settings.image_size
    record = {
        "case_id": case.case_id,
        "num_slices": box.num_slices,
        "spacing_mm": [pixel_mm, pixel_mm, spacing_mm[2]],
        "native_shape": list(mask.shape),
        "native_spacing_mm": list(spacing_mm),
        "affine": reference.affine.tolist(),
        "lesion_ml": float(num_lesion * np.prod(spacing_mm) / 1000),
        "brain_ml": float(brain.sum() * np.prod(spacing_mm) / 1000),
        "clinical": case.clinical,
        "box": asdict(box),
        "scaling": factors,
        "lesion_pixels": lesion_pixels.tolist(),
        "notes": [note.record() for note in notes],
        "arrays_hash": arrays_hash({**columns, "native mask": mask, "native brain": scored}),
        "fingerprint": fingerprint,
        "images_hash": hashlib.sha256(read.encode()).hexdigest() if read else None,
    }
    _write(folder, case.case_id, columns, {"mask": mask, "brain": scored}, record)
    return record


def read_reference(
    images: Mapping[str, Source], factors: Factors
) -> tuple[Volume, NDArray[np.bool_]]:
    """Read a case's first image, on whose grid all else is brought, and derive its brain mask.

    Raises:
        BadFile: It cannot be used.
    """
    name, source = next(iter(images.items()))
    reference = _read(name, source, factors)
    return reference, brain_mask(reference.data, reference.spacing_mm, name)


def _read(name: str, source: Source, factors: Factors) -> Volume:
    volume = read_volume(source)
    if name not in factors:
        return volume
    factor, offset = map(np.float32, factors[name])
    return replace(volume, data=volume.data * factor + offset)


@dataclass(frozen=True)
class Stored:
    """One modality of a case as a store holds it."""

    slices: NDArray[np.float16]
    """(num_slices, H, W), physical units or scaled MRI."""
    offset: float
    divisor: float
    """slices = (value in the file - offset) / divisor."""
    notes: list[Note]
    read: str
    """Hash of the volume as it was read; empty where it is constant, and like any other."""


def to_pixels(
    name: str,
    source: Source,
    reference: Volume,
    brain: NDArray[np.bool_],
    box: Box,
    image_size: int,
    factors: Factors,
) -> Stored:
    """Read one modality and bring it to the store's units and pixels.

    Args:
        name: Modality.
        source: Its file; the reference's own is not read again.
        reference: The volume whose grid it is brought to.
        brain: Brain mask on the reference grid.
        box: Part of the reference to show.
        image_size: Rows and columns of a slice.
        factors: By modality; the reference's have been applied.

    Raises:
        BadFile: It cannot be used, does not show the reference's brain, or has voxels there that
            are no number.
    """
    volume = reference if source == reference.source else _read(name, source, factors)
    values, resampled = on_grid_of(volume, reference, brain, float(volume.data.min()))
    notes = []
    if resampled:
        was = "x".join(map(str, volume.data.shape))
        notes.append(Note(f"{name} was resampled from a grid of its own", was))
    notes += [*_missing(name, volume, reference, brain), *value_notes(values, name, brain)]
    stored, offset, divisor = scale(values, name, brain)
    slices = to_slices(stored, box, reference.spacing_mm, image_size, float(stored.min()))
    data = volume.data
    read = hashlib.blake2b(data.tobytes(), digest_size=16).hexdigest() if np.ptp(data) else ""
    factor, added = factors.get(name, (1.0, 0.0))
    offset, divisor = (offset - added) / factor, divisor / factor
    return Stored(slices.astype(np.float16), offset, divisor, notes, read)


def _missing(name: str, volume: Volume, reference: Volume, brain: NDArray[np.bool_]) -> list[Note]:
    """Refuse voxels without a number that lie inside the brain.

    Those that are connected to what lies outside it are background: a scanner's software has a
    brain mask of its own, and shows a slab.
    """
    if volume.missing is None:
        return []
    holes = replace(volume, data=volume.missing.astype(np.float32))
    gaps = on_grid_of(holes, reference, brain, 0.0)[0] > 0.5
    inside = gaps & brain
    labels, count = ndimage.label(gaps)
    is_outside = np.zeros(count + 1, bool)
    is_outside[labels[~brain]] = True
    # A gap that reaches the first or last slice is a slab's end; a lone slice is no end.
    for axis in range(3):
        if labels.shape[axis] > 1:
            for end in (0, -1):
                is_outside[labels.take(end, axis)] = True
    enclosed = int((inside & ~is_outside[labels]).sum())
    remedy = "give them a number (prepare --skip-bad leaves the case out)"
    if enclosed:
        raise BadFile(
            volume.path,
            f"{name} has {enclosed} non-finite voxels (NaN or infinite) inside the brain: {remedy}",
        )
    share = float(inside.sum()) / max(int(brain.sum()), 1)
    if share > 1 - MIN_COVERAGE:
        raise BadFile(
            volume.path, f"{name} is non-finite (NaN or infinite) in {share:.0%} of the brain: "
            f"{remedy}"
        )  # fmt: skip
    if share < MANY_MISSING:
        return []
    return [Note(f"{name} has no numbers in part of the brain: background", f"{share:.0%}")]


def _write(
    folder: Path,
    case_id: str,
    columns: dict[str, NDArray[np.float16 | np.uint8]],
    native: dict[str, NDArray[np.bool_]],
    record: dict[str, Any],
) -> None:
    arrays = {
        name: pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values[0].size)
        for name, values in columns.items()
    }
    batch = pa.RecordBatch.from_pydict(arrays)
    schema = batch.schema.with_metadata({_METADATA: json.dumps(record)})

    def write_native(path: Path) -> None:
        mask, brain = np.packbits(native["mask"]), np.packbits(native["brain"])
        with path.open("wb") as file:  # given a name, numpy would append a suffix to it
            np.savez_compressed(file, mask=mask, brain=brain)

    def write_slices(path: Path) -> None:
        with path.open("wb") as file, pa.ipc.new_file(file, schema) as writer:
            writer.write_batch(batch.replace_schema_metadata(schema.metadata))

    write_atomically(folder / f"{case_id}.npz", write_native)
    write_atomically(folder / f"{case_id}.arrow", write_slices)
