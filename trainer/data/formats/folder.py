"""Plain folders: `images/` and `masks/` with files of the same name, PNG, JPEG or NIfTI.

Or one folder with `NAME.png` and `NAME_mask.png`. Pictures carry no spacing: 1 mm is assumed.
Grey pictures are one modality; colour ones are three.
"""

from pathlib import Path

from PIL import Image as Picture

from trainer.data.formats.case import FoundCases, RawCase, image_files, stem
from trainer.data.nifti import PICTURE_SUFFIXES, Source

IMAGE_FOLDERS = ("images", "image", "imgs", "img")
MASK_FOLDERS = ("masks", "mask", "labels", "label", "segmentations", "annotations")
MASK_ENDINGS = ("_mask", "_msk", "_label", "_seg", "_segmentation", "-mask", "-msk", "-seg")
PICTURE_NOTE = "pictures do not tell their spacing: 1 mm is assumed"


def find(root: Path) -> FoundCases | None:
    """Return the cases, or None if no image has a mask."""
    image_folder = next((root / name for name in IMAGE_FOLDERS if (root / name).is_dir()), None)
    mask_folder = next((root / name for name in MASK_FOLDERS if (root / name).is_dir()), None)
    if image_folder and mask_folder:
        images = {stem(path): path for path in image_files(image_folder)}
        masks = {_without_ending(stem(path)): path for path in image_files(mask_folder)}
    else:
        mask_folder = root
        files = [path for path in image_files(root) if path.parent == root]
        masks = {_without_ending(stem(path)): path for path in files if _is_mask(path)}
        images = {stem(path): path for path in files if not _is_mask(path)}
    if not masks or not images:
        return None

    first = next(iter(images.values()))
    is_picture = first.name.lower().endswith(PICTURE_SUFFIXES)
    colours = ("picture_red", "picture_green", "picture_blue") if _is_colour(first) else None
    cases = []
    for name in sorted({*images, *masks}):
        image = images.get(name, first.with_name(name + first.name[len(stem(first)) :]))
        mask = masks.get(name, mask_folder / f"{name}{first.name[len(stem(first)) :]}")
        if colours:
            sources = {colour: Source(image, channel) for channel, colour in enumerate(colours)}
        else:
            sources = {"picture" if is_picture else "image": Source(image)}
        cases.append(RawCase(name, sources, Source(mask)))
    return FoundCases(cases, [PICTURE_NOTE] if is_picture else [])


def _is_mask(path: Path) -> bool:
    return stem(path).lower().endswith(MASK_ENDINGS)


def _without_ending(name: str) -> str:
    for end in MASK_ENDINGS:
        if name.lower().endswith(end):
            return name[: -len(end)]
    return name


def _is_colour(path: Path) -> bool:
    """Tell whether the first image is a colour picture; a damaged one is found when it is read."""
    if not path.name.lower().endswith(PICTURE_SUFFIXES):
        return False
    try:
        with Picture.open(path) as picture:
            if picture.mode not in ("RGB", "RGBA", "P"):
                return False
            red, green, blue = picture.convert("RGB").split()
            return not red.tobytes() == green.tobytes() == blue.tobytes()
    except (OSError, ValueError, SyntaxError):
        return False
