"""What there is in a folder in which no reader finds a case, and what to do about it."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from trainer.configfile import ConfigError
from trainer.data.formats.case import Tally
from trainer.data.formats.listing import IMAGE_SUFFIXES, folders, stem, walk
from trainer.data.formats.roles import is_mask_name, place_of

LOOKED_FOR = (
    "looked for: sub-X folders in rawdata/ (or raw_data/, or right here) with derivatives/ beside "
    "them (ISLES); imagesTr/, labelsTr/ and dataset.json (MSD, nnU-Net); images/ and masks/ with "
    "files of the same names; NAME.png beside NAME_mask.png; or a folder a subject with "
    "SUBJECT_t1.nii.gz, … and SUBJECT_seg.nii.gz (.nii.gz, .nii, .png, .tif, .bmp or .jpg)"
)
CONVERTED = {
    ".mha": "SimpleITK", ".mhd": "SimpleITK", ".nrrd": "SimpleITK", ".nhdr": "SimpleITK",
    ".hdr": "SimpleITK", ".mgz": "nibabel", ".mgh": "nibabel", ".mnc": "nibabel",
    ".gif": "Pillow", ".webp": "Pillow", ".ppm": "Pillow", ".pgm": "Pillow", ".jp2": "Pillow",
}  # fmt: skip
"""What reads files of other kinds, by their suffix."""
HOW = {
    "SimpleITK": (
        "python -c \"import SimpleITK as s; s.WriteImage(s.ReadImage('x{0}'), 'x.nii.gz')\""
    ),
    "nibabel": "python -c \"import nibabel as n; n.save(n.load('x{0}'), 'x.nii.gz')\"",
    "Pillow": "python -c \"from PIL import Image; Image.open('x{0}').save('x.png')\"",
}
PACKED = (".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar")
ARRAYS = (".npy", ".npz", ".h5", ".hdf5", ".mat")
MAX_FOLDERS = 50
INNER = ("imagesTr", "labelsTr", "imagesTs", "rawdata", "raw_data", "derivatives", "images",
         "masks", "labels")  # fmt: skip
"""Folders that are a part of a data set: it is the one above."""


def left_out(root: Path) -> list[str]:
    """Return the note on images that lie among a data set's cases in formats that are not read."""
    kinds = (*CONVERTED, ".dcm", ".ima")
    notes = Tally()
    for path in sorted(path for path in walk(root) if path.suffix.lower() in kinds):
        notes.add("files in formats that are not read are left out", str(path.relative_to(root)))
    return notes.lines()


def what_there_is(root: Path, read: Callable[[Path], object]) -> str:
    """Return what was found instead of cases, with its remedy, and what is looked for.

    Args:
        root: Folder in which no reader finds a case.
        read: Returns something true for a folder in which one does.
    """
    files = sorted(walk(root))
    parts = _elsewhere(root, read) or [*_of_other_kinds(root, files), *_images(root, files)]
    return "; ".join([*(parts or ["there is no image in it"]), LOOKED_FOR])


def _elsewhere(root: Path, read: Callable[[Path], object]) -> list[str]:
    """Return the folders above or below in which there are cases."""
    below = folders(root)
    if not any(_reads(path, read) for path in below[:MAX_FOLDERS]):
        below = [inner for path in below[:MAX_FOLDERS] for inner in folders(path)]
    below = [path for path in below[:MAX_FOLDERS] if _reads(path, read)]
    if below:
        names = ", ".join(str(path) for path in below[:3])
        which = "give this one" if len(below) == 1 else "give one of them"
        return [f"there are cases in {names}{' …' if len(below) > 3 else ''}: {which}"]
    here = root.absolute()
    above = here.parent.parent if here.parent.name in INNER else here.parent
    is_part = here.name.startswith("sub-") or here.name in INNER or here.parent.name in INNER
    if is_part and _reads(above, read):
        return [f"it is a part of {above}: give that"]
    return []


def _reads(path: Path, read: Callable[[Path], object]) -> bool:
    try:
        return bool(read(path))
    except ConfigError:
        return True  # cases are there, and something is wrong with them


def _of_other_kinds(root: Path, files: list[Path]) -> list[str]:
    """Return what there is in other formats, and what makes images of it."""
    kinds = Counter(path.suffix.lower() for path in files)
    first = {path.suffix.lower(): path.relative_to(root) for path in reversed(files)}
    lines = []
    if dicom := [path for path in files if _is_dicom(path)]:
        lines.append(
            f"there are DICOM files ({len(dicom)}, such as {dicom[0].relative_to(root)}): convert "
            "each series with dcm2niix -z y -f %i_%p -o OUT FOLDER"
        )
    for suffix, reader in CONVERTED.items():
        if kinds[suffix] and not (suffix == ".hdr" and not kinds[".img"]):
            lines.append(
                f"there are {suffix} files ({kinds[suffix]}, such as {first[suffix]}): convert "
                f"them, with {reader} for example: {HOW[reader].format(suffix)}"
            )
    for suffix in ARRAYS:
        if kinds[suffix]:
            lines.append(
                f"there are {suffix} files ({kinds[suffix]}, such as {first[suffix]}), which have "
                "no voxel size: write them as .nii.gz with nibabel, or as .png"
            )
    packed = [path for path in files if path.name.lower().endswith(PACKED)]
    if packed:
        name = packed[0].relative_to(root)
        lines.append(f"there are archives ({len(packed)}, such as {name}): unpack them")
    return lines


def _is_dicom(path: Path) -> bool:
    """Tell a DICOM file by its suffix, or without one by the word behind its preamble."""
    suffix = path.suffix.lower()
    if suffix in (".dcm", ".ima"):
        return True
    if path.name == "DICOMDIR":
        return True
    if (suffix and not suffix[1:].isdigit()) or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _images(root: Path, files: list[Path]) -> list[str]:
    """Return what is missing beside the images that there are."""
    images = [path for path in files if path.name.lower().endswith(IMAGE_SUFFIXES)]
    masks = [path for path in images if _is_mask(path, root)]
    if not images:
        return []
    name = images[0].relative_to(root)
    if not masks:
        return [f"there are {len(images)} images, such as {name}, and no mask by name or folder"]
    others = [path for path in images if path not in set(masks)]
    if not others:
        return [f"there are {len(masks)} masks, such as {name}, and no image"]
    return [
        f"there are {len(others)} images, such as {others[0].relative_to(root)}, and {len(masks)} "
        f"masks, such as {masks[0].relative_to(root)}, and no two are a pair by name and folder"
    ]


def _is_mask(path: Path, root: Path) -> bool:
    folders = path.relative_to(root).parent.parts
    return is_mask_name(stem(path)) or place_of(path, folders, len(folders)).role == "mask"
