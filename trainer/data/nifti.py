"""Volumes from files: NIfTI and pictures, with canonical axes, or one clear line why not."""

import gzip
import logging
import zlib
from dataclasses import dataclass
from math import prod
from pathlib import Path

import nibabel
import numpy as np
from nibabel import orientations
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError, HeaderTypeError
from numpy.typing import NDArray
from scipy import ndimage

from trainer.atomic import write_atomically
from trainer.data.files import BadFile, Source, check_there, is_picture, read_pixels

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
MAX_EXTRA = 1 << 20
"""Bytes that may follow the last voxel."""
MIN_COVERAGE = 0.5
"""A modality on another grid must show at least this share of the reference's brain."""
# What nibabel mends in a header it says on stderr, without the file's name.
logging.getLogger("nibabel.global").disabled = True
UNREADABLE = (
    EOFError, HeaderDataError, HeaderTypeError, OSError, OverflowError, TypeError, ValueError,
    zlib.error,
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
    try:
        header = nibabel.load(path).header
        return isinstance(header, nibabel.Nifti1Header) and header["descrip"] == WRITTEN_HERE
    except (ImageFileError, *UNREADABLE):
        return False


def _load(path: Path) -> nibabel.Nifti1Image:
    """Read a NIfTI file's header; a compressed file's content too, and its checksum with it."""
    try:
        image = nibabel.load(path)
        if isinstance(image, nibabel.Nifti1Image) and path.name.lower().endswith(".gz"):
            image = type(image).from_bytes(_unpacked(path, image.header))
    except ImageFileError as error:
        raise BadFile(path, _why_no_image(path)) from error
    except UNREADABLE as error:
        raise BadFile(path, f"is truncated or damaged ({' '.join(str(error).split())})") from error
    if not isinstance(image, nibabel.Nifti1Image):
        raise BadFile(path, "is not a NIfTI file")
    return image


def _unpacked(path: Path, header: nibabel.Nifti1Header) -> bytes:
    """Return a compressed file's content, after a look at its checksum: nibabel reads no further
    than the last voxel, and would take a damaged mask for another one.

    Raises:
        OSError: It is damaged, or not as long as its header says.
    """
    voxels = prod(int(side) for side in header.get_data_shape()) * header.get_data_dtype().itemsize
    size = int(header.get_data_offset()) + voxels
    if size > MOST_DEFLATED * path.stat().st_size:
        raise OSError(f"its header asks for {size} bytes")
    with gzip.open(path) as file:
        content = file.read(size + MAX_EXTRA)
        if file.read(1):
            raise OSError(f"its header asks for {size} bytes, but it goes on")
    return content


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
        raise BadFile(path, f"is truncated or damaged ({' '.join(str(error).split())})") from error
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


def _why_no_image(path: Path) -> str:
    """Tell a gzip file that breaks off near its beginning from one that is something else."""
    with path.open("rb") as file:
        is_gzip = file.read(2) == b"\x1f\x8b"
    try:
        if is_gzip:
            with gzip.open(path) as file:
                file.read(1 << 16)
    except (EOFError, OSError, zlib.error) as error:
        return f"is truncated or damaged ({error})"
    return "is not a NIfTI file"


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
