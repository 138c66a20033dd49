"""Volumes from files: NIfTI and pictures, with canonical axes, or one clear line why not."""

import gzip
import io
import logging
import struct
import zlib
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO, cast

import nibabel
import numpy as np
from nibabel import orientations
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError, HeaderTypeError
from numpy.typing import NDArray
from scipy import ndimage

from trainer.data.files import (
    BadFile,
    Source,
    check_there,
    is_picture,
    read_pixels,
    why_not_read,
)
from trainer.files.atomic import write_atomically

SAME_GRID_MM = 0.1
"""Two grids are the same if no voxel lies further apart than this: affines carry noise of 1e-5."""
VOXEL_MM = (0.01, 100.0)
"""Smallest and largest voxel that a scan can have: beyond it the header is damaged."""
LARGEST_MM = 5000.0
"""No scan shows more, along any axis."""
LIKELY_MM = (0.05, 30.0)
"""What voxels of a scan measure, nearly always."""
MM_IN = {1: 1e3, 3: 1e-3}
"""Of the header's codes of a unit: metre and micron."""
MOST_DEFLATED = 1033
"""Bytes that gzip makes of one at most."""
GZIP = b"\x1f\x8b"
"""How a file begins that is packed."""
HEADER_BYTES = 544
"""Of NIfTI-2, with what says whether there are extensions; NIfTI-1 has 352."""
MAX_OFFSET = 1 << 26
"""Bytes before the first voxel: a header, and extensions."""
MAX_VOXELS = 1 << 29
"""Of a file: a CT of 2048 slices."""
MAX_BYTES = 1 << 31
"""Of an unpacked file."""
MAX_EXTRA = 1 << 20
"""Bytes that may follow the last voxel."""
MIN_COVERAGE = 0.5
"""A modality on another grid must show at least this share of the reference's brain."""
# What nibabel mends in a header it says on stderr, without the file's name.
logging.getLogger("nibabel.global").disabled = True
UNREADABLE = (
    EOFError, HeaderDataError, HeaderTypeError, ImageFileError, KeyError, MemoryError, OSError,
    OverflowError, TypeError, ValueError, struct.error, zlib.error,
)  # fmt: skip
WRITTEN_HERE = b"segtune"
"""In the description of every file that `write_like` writes."""
_GRID_FIELDS = (
    "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y",
    "qoffset_z", "srow_x", "srow_y", "srow_z", "xyzt_units",
)  # fmt: skip


@dataclass(frozen=True)
class Volume:
    """A volume with canonical axes: x to the patient's right, y to anterior, z to superior."""

    source: Source
    data: NDArray[np.float32]
    """(X, Y, Z), in the file's own units."""
    affine: NDArray[np.float64]
    """(4, 4), from voxel indices to mm."""
    missing: NDArray[np.bool_] | None = None
    """(X, Y, Z): the file has no number there (NaN or infinite); None where it has everywhere."""

    @property
    def path(self) -> Path:
        return self.source.path

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along x, y and z."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return x, y, z


def read_values(source: Source) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return a NIfTI file's or a picture's voxels (X, Y, Z), canonical axes, and their affine.

    A picture is one slice of 1 mm pixels, anterior at its top, values 0 (black) to 1 (white).

    Raises:
        BadFile: Missing, empty, truncated, not an image or not 3D.
    """
    check_there(source.path)
    if not is_picture(source.path):
        return _read_nifti(source)
    pixels = read_pixels(source.path)
    if source.channel is None or pixels.values.ndim == 2:
        values = pixels.grey
    else:
        values = pixels.values[..., source.channel].astype(np.float32)
    return picture_axes(values / np.float32(pixels.white)), np.eye(4)


def picture_axes(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn a picture's (H, W) into a volume's (X, Y, 1)."""
    return pixels[::-1, ::-1].T[:, :, None].copy()


def read_volume(source: Source) -> Volume:
    """Read a NIfTI file or a picture. Voxels that are no number have the smallest value.

    Raises:
        BadFile: As `read_values`, or without a number.
    """
    data, affine = read_values(source)
    finite = np.isfinite(data)
    if finite.all():
        return Volume(source, data, affine)
    if not finite.any():
        raise BadFile(source.path, f"all {data.size} voxels are non-finite (NaN or infinite)")
    return Volume(source, np.where(finite, data, data[finite].min()), affine, ~finite)


def num_channels(path: Path) -> int:
    """Return how many volumes a NIfTI file holds: the last of 4 axes, 1 where there are 3.

    Raises:
        BadFile: Missing, empty, not NIfTI, or damaged at its beginning.
    """
    check_there(path)
    shape = _load(path).shape
    return int(shape[3]) if len(shape) == 4 else 1


def write_like(out: Path, values: NDArray[np.uint8 | np.float32], reference: Path) -> None:
    """Write a volume on the grid of a NIfTI file: its axes, affine and codes, to the last bit.

    Nothing else of its header is kept: neither its display range nor what it may say of a patient.

    Args:
        out: Path that ends in .nii or .nii.gz; replaced atomically.
        values: (X, Y, Z), canonical axes, as `read_volume(reference)` has them; uint8 or float32.
        reference: The file whose grid it is.
    """
    image = _load(reference)
    canonical = orientations.axcodes2ornt("RAS")
    own = orientations.io_orientation(image.affine)
    data = orientations.apply_orientation(values, orientations.ornt_transform(canonical, own))
    assert data.shape == image.shape[:3], (data.shape, image.shape)
    header = type(image.header)()
    header.set_data_dtype(data.dtype)
    for field in _GRID_FIELDS:
        header[field] = image.header[field]
    header["pixdim"][:4] = image.header["pixdim"][:4]
    header["descrip"] = WRITTEN_HERE
    # The same bytes each time: no time stamp in the compressed file.
    content = type(image)(data, image.affine, header).to_bytes()
    if out.name.endswith(".gz"):
        content = gzip.compress(content, compresslevel=3, mtime=0)
    write_atomically(out, lambda path: path.write_bytes(content))


def was_written_here(path: Path) -> bool:
    """Return whether a file is one that `write_like` wrote."""
    if not path.is_file():
        return False
    try:
        with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
            kind, begin, _ = _begin(path, cast(BinaryIO, file))
        header = kind.header_class(begin[: kind.header_class.sizeof_hdr])
    except UNREADABLE:
        return False
    return bool(header["descrip"] == WRITTEN_HERE)


def _load(path: Path) -> nibabel.Nifti1Image:
    """Read a NIfTI file's header; a compressed file's content too, and its checksum with it.

    nibabel by itself reads no further than the last voxel, and would take a damaged mask for
    another one; and it unpacks whatever a header asks for.
    """
    packed = path.name.lower().endswith(".gz")
    try:
        with path.open("rb") as raw:
            if packed and raw.read(2) != GZIP:
                raise BadFile(path, "is not a NIfTI file packed with gzip")
        with gzip.open(path) if packed else path.open("rb") as file:
            kind, _, size = _begin(path, cast(BinaryIO, file))
            if not packed:
                return kind.from_filename(path)
            file.seek(0)
            content = file.read(size + MAX_EXTRA)
            if file.read(1):
                raise BadFile(path, f"is damaged: its header asks for {size} bytes, but it goes on")
        return kind.from_bytes(content)
    except BadFile:
        raise
    except UNREADABLE as error:
        if isinstance(error, OSError) and error.errno:
            raise why_not_read(path, error) from error
        raise BadFile(path, f"is truncated or damaged ({_reason(error)})") from error


def _begin(path: Path, file: BinaryIO) -> tuple[type[nibabel.Nifti1Image], bytes, int]:
    """Read a file up to its voxels, and judge by its header whether to read these.

    Returns:
        Kind of NIfTI, what was read, and the size in bytes that the whole must have.

    Raises:
        BadFile: It is no NIfTI file, or its header asks for more than a scan has.
    """
    begin = file.read(HEADER_BYTES)
    kinds = (nibabel.Nifti1Image, nibabel.Nifti2Image)
    kind = next((each for each in kinds if each.header_class.may_contain_header(begin)), None)
    if kind is None:
        raise BadFile(path, "is not a NIfTI file")
    header = kind.header_class(begin[: kind.header_class.sizeof_hdr])
    shape = [int(side) for side in header.get_data_shape()]
    offset = int(header.get_data_offset())
    voxels = prod(shape)
    size = offset + voxels * header.get_data_dtype().itemsize
    if min(shape, default=0) < 0 or not 0 <= offset <= MAX_OFFSET:
        raise BadFile(path, f"is damaged: its header has shape {shape} from byte {offset} on")
    if voxels > MAX_VOXELS or size > MAX_BYTES:
        sides = "x".join(map(str, shape))
        raise BadFile(
            path, f"has {sides} voxels ({size / 2**30:.1f} GiB unpacked) by its header, but must "
            f"have at most {MAX_VOXELS >> 20} x 2^20 in {MAX_BYTES >> 30} GiB: no scan needs more"
        )  # fmt: skip
    most = path.stat().st_size * (MOST_DEFLATED if path.name.lower().endswith(".gz") else 1)
    if size > most:
        raise BadFile(path, f"is truncated or damaged (its header asks for {size} bytes)")
    begin += file.read(max(offset - len(begin), 0))
    # nibabel reads what an extension asks for: from here, not from the file.
    kind.header_class.from_fileobj(io.BytesIO(begin[: max(offset, kind.header_class.sizeof_hdr)]))
    return kind, begin, size


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def check_same_grid(volume: Volume, reference: Volume) -> None:
    """Refuse a volume that does not lie on the grid of `reference`, voxel for voxel."""
    if volume.data.shape != reference.data.shape:
        raise BadFile(
            volume.path,
            f"shape {_shape(volume)}, but must match {_shape(reference)} of {reference.path.name}",
        )
    distance_mm = _distance_mm(volume, reference)
    if distance_mm > SAME_GRID_MM:
        raise BadFile(
            volume.path,
            f"affine does not match {reference.path.name}: voxels lie up to {distance_mm:.3g} mm "
            f"apart, but at most {SAME_GRID_MM} mm is noise",
        )


def on_grid_of(
    volume: Volume, reference: Volume, brain: NDArray[np.bool_], outside: float
) -> tuple[NDArray[np.float32], bool]:
    """Return a volume's values on the grid of `reference`, and whether it had to be resampled.

    Resampling is linear, after a Gaussian where the reference is coarser (as scikit-image's
    resize); `outside` is the value beyond the volume's field of view.

    Raises:
        BadFile: It shows less than half of the reference's brain: the two do not belong together.
    """
    if volume.data.shape == reference.data.shape and _distance_mm(volume, reference) < SAME_GRID_MM:
        return volume.data, False
    to_volume = np.linalg.inv(volume.affine) @ reference.affine
    inside = np.argwhere(brain) @ to_volume[:3, :3].T + to_volume[:3, 3]
    shape = np.array(volume.data.shape)
    covered = (
        np.all((inside >= -0.5) & (inside <= shape - 0.5), axis=1).mean() if len(inside) else 1.0
    )
    if covered < MIN_COVERAGE:
        raise BadFile(
            volume.path,
            f"shape {_shape(volume)} and affine do not match {reference.path.name} "
            f"({_shape(reference)}): it shows {covered:.0%} of the brain there, but must show at "
            f"least {MIN_COVERAGE:.0%}",
        )
    ratio = np.array(reference.spacing_mm) / np.array(volume.spacing_mm)
    smooth: NDArray[np.float32] = ndimage.gaussian_filter(
        volume.data, np.maximum(0, (ratio - 1) / 2), mode="nearest"
    )
    resampled = ndimage.affine_transform(
        smooth, to_volume[:3, :3], to_volume[:3, 3], reference.data.shape,
        order=1, mode="constant", cval=outside,
    )  # fmt: skip
    return resampled, True


def _read_nifti(source: Source) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    path = source.path
    image = _load(path)
    try:
        if source.channel is not None and len(image.shape) == 4:
            image = image.slicer[..., source.channel]
        shape = image.shape
        while len(shape) > 3 and shape[-1] == 1:
            shape = shape[:-1]
        if len(shape) != 3:
            raise BadFile(path, f"is {len(shape)}D {'x'.join(map(str, shape))}, but must be 3D")
        if 0 in shape:
            raise BadFile(path, f"is {'x'.join(map(str, shape))}, without a voxel")
        if image.get_data_dtype().kind not in "biuf":
            raise BadFile(path, f"has voxels of type {image.get_data_dtype()}, not real numbers")
        with np.errstate(all="ignore"):  # what overflows is not finite, and refused
            data = image.get_fdata(dtype=np.float32, caching="unchanged").reshape(shape)
    except UNREADABLE as error:
        if isinstance(error, BadFile):
            raise
        if isinstance(error, OSError) and error.errno:
            raise why_not_read(path, error) from error
        raise BadFile(path, f"is truncated or damaged ({_reason(error)})") from error
    affine = _in_mm(path, image)
    canonical = nibabel.as_closest_canonical(nibabel.Nifti1Image(data, affine))
    return np.asarray(canonical.dataobj), canonical.affine


def _in_mm(path: Path, image: nibabel.Nifti1Image) -> NDArray[np.float64]:
    """Return an image's affine in mm: where its header says microns or metres, and its voxels are
    of a scan's size only then, they are converted.

    Raises:
        BadFile: No scan can have this grid.
    """
    affine: NDArray[np.float64] = image.affine
    if not (np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) > 1e-12):
        raise BadFile(path, "has an affine that no voxel grid can have (zero or non-finite)")
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    unit = int(image.header["xyzt_units"]) % 8
    if unit in MM_IN and _is_likely(spacing_mm * MM_IN[unit]) and not _is_likely(spacing_mm):
        affine = np.diag([*[MM_IN[unit]] * 3, 1.0]) @ affine
        spacing_mm = spacing_mm * MM_IN[unit]
    voxel = " x ".join(f"{each:.3g}" for each in spacing_mm)
    if not (VOXEL_MM[0] <= spacing_mm.min() and spacing_mm.max() <= VOXEL_MM[1]):
        raise BadFile(
            path, f"has voxels of {voxel} mm: must be {VOXEL_MM[0]} to {VOXEL_MM[1]:g}; if they "
            "are in microns or metres, its header must say so (xyzt_units)"
        )  # fmt: skip
    if (extent_mm := float((spacing_mm * image.shape[:3]).max())) > LARGEST_MM:
        raise BadFile(
            path, f"is {extent_mm / 1000:.3g} m long with voxels of {voxel} mm: no scan is longer "
            f"than {LARGEST_MM / 1000:g} m; are they in another unit?"
        )  # fmt: skip
    return affine


def _is_likely(spacing_mm: NDArray[np.float64]) -> bool:
    return bool(LIKELY_MM[0] <= spacing_mm.min() and spacing_mm.max() <= LIKELY_MM[1])


def _distance_mm(volume: Volume, reference: Volume) -> float:
    """Return how far apart the same voxel lies at most: affine maps differ most at a corner."""
    corners = np.array(np.meshgrid(*[(0, size - 1) for size in reference.data.shape])).reshape(
        3, -1
    )
    difference = volume.affine - reference.affine
    shifts = difference[:3, :3] @ corners + difference[:3, 3:]
    return float(np.linalg.norm(shifts, axis=0).max())


def _shape(volume: Volume) -> str:
    return "x".join(str(size) for size in volume.data.shape)
