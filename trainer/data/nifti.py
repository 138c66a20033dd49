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
from PIL import Image as Picture
from scipy import ndimage

from trainer.atomic import write_atomically

SAME_GRID_MM = 0.1
"""Two grids are the same if no voxel lies further apart than this: affines carry noise of 1e-5."""
VOXEL_MM = (0.01, 1000.0)
"""Smallest and largest voxel that a scan can have: beyond it the header is damaged."""
MOST_DEFLATED = 1033
"""Bytes that gzip makes of one at most."""
MAX_EXTRA = 1 << 20
"""Bytes that may follow the last voxel."""
WHOLE = 1e-3
"""Labels coded with a slope read 0.99999999977 for 1."""
MIN_COVERAGE = 0.5
"""A modality on another grid must show at least this share of the reference's brain."""
LOSSLESS_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")
PICTURE_SUFFIXES = (*LOSSLESS_SUFFIXES, ".jpg", ".jpeg")
NIFTI_SUFFIXES = (".nii.gz", ".nii")
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


class BadFile(ValueError):
    """A file that cannot be used; the message is one line that begins with its path."""

    def __init__(self, path: Path, rule: str):
        super().__init__(f"{path}: {rule}")


@dataclass(frozen=True)
class Source:
    """Where a volume comes from: a file, or one channel of a file."""

    path: Path
    channel: int | None = None


@dataclass(frozen=True)
class Volume:
    """A volume with canonical axes: x to the patient's right, y to anterior, z to superior."""

    source: Source
    data: NDArray[np.float32]
    """(X, Y, Z), in the file's own units."""
    affine: NDArray[np.float64]
    """(4, 4), from voxel indices to mm."""

    @property
    def path(self) -> Path:
        return self.source.path

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along x, y and z."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return x, y, z


def read_volume(source: Source) -> Volume:
    """Read a NIfTI file or a picture.

    Raises:
        BadFile: Missing, empty, truncated, not an image, not 3D, or with non-finite voxels.
    """
    path = source.path
    _check_there(path)
    is_picture = path.name.lower().endswith(PICTURE_SUFFIXES)
    data, affine = _read_picture(source) if is_picture else _read_nifti(source)
    bad = data.size - int(np.isfinite(data).sum())
    if bad:
        raise BadFile(path, f"has {bad} non-finite voxels (NaN or infinite)")
    return Volume(source, data, affine)


def num_channels(path: Path) -> int:
    """Return how many volumes a NIfTI file holds: the last of 4 axes, 1 where there are 3.

    Raises:
        BadFile: Missing, empty, not NIfTI, or damaged at its beginning.
    """
    _check_there(path)
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


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise BadFile(path, "is missing")
    if path.stat().st_size == 0:
        raise BadFile(path, "is empty (0 bytes)")


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


def read_mask(source: Source, reference: Volume) -> NDArray[np.bool_]:
    """Read a lesion mask on the grid of `reference`; every label but 0 is lesion.

    Returns:
        bool (X, Y, Z). In NIfTI files whole numbers are labels, and shares of a voxel count from
        0.5 on; in lossless pictures every colour but black, in JPEG from mid-grey on.

    Raises:
        BadFile: As `read_volume`, its grid is not the reference's, or its values are no mask's.
    """
    mask = read_volume(source)
    if mask.data.shape != reference.data.shape:
        raise BadFile(
            source.path,
            f"shape {_shape(mask)}, but must match {_shape(reference)} of {reference.path.name}",
        )
    distance_mm = _distance_mm(mask, reference)
    if distance_mm > SAME_GRID_MM:
        raise BadFile(
            source.path,
            f"affine does not match {reference.path.name}: voxels lie up to {distance_mm:.3g} mm "
            f"apart, but at most {SAME_GRID_MM} mm is noise",
        )
    above = 0 if source.path.name.lower().endswith(LOSSLESS_SUFFIXES) else 0.5
    _check_labels(mask, above)
    return mask.data > above


def _check_labels(mask: Volume, above: float) -> None:
    """Refuse another image in the place of a mask, and labels that none would be left of."""
    values = mask.data
    low, high = float(values.min()), float(values.max())
    is_whole = bool((np.abs(values - np.rint(values)) < WHOLE).all())
    if low < -WHOLE or not (is_whole or high <= 1):
        raise BadFile(
            mask.path,
            f"has values from {low:g} to {high:g}, but a mask has labels (0, 1, 2, ...) or shares "
            "of a voxel (0 to 1)",
        )
    if WHOLE < high <= above:
        raise BadFile(mask.path, f"its largest value is {high:g}, but lesion begins above {above}")


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
    affine = image.affine
    if not (np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) > 1e-12):
        raise BadFile(path, "has an affine that no voxel grid can have (zero or non-finite)")
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    if not (VOXEL_MM[0] <= spacing_mm.min() and spacing_mm.max() <= VOXEL_MM[1]):
        voxel = " x ".join(f"{each:.3g}" for each in spacing_mm)
        raise BadFile(path, f"has voxels of {voxel} mm: must be {VOXEL_MM[0]} to {VOXEL_MM[1]:g}")
    canonical = nibabel.as_closest_canonical(nibabel.Nifti1Image(data, affine))
    return np.asarray(canonical.dataobj), canonical.affine


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


def _read_picture(source: Source) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Read a picture as one slice of 1 mm pixels, anterior at its top, values 0..1."""
    try:
        with Picture.open(source.path) as picture:
            pixels = np.asarray(
                picture.convert("RGB") if picture.mode in ("P", "RGBA") else picture
            )
    except (OSError, ValueError, SyntaxError) as error:
        raise BadFile(source.path, f"is not a readable picture ({error})") from error
    if pixels.ndim == 3:
        pixels = pixels.max(axis=2) if source.channel is None else pixels[..., source.channel]
    white = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else max(float(pixels.max()), 1)
    values = pixels.astype(np.float32) / np.float32(white)
    return values[::-1, ::-1].T[:, :, None].copy(), np.eye(4)


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
