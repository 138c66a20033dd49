"""Whether a file is an image or a mask, by the words in its name or in its folders' names."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.data.formats.listing import same_letters, stem

IMAGE_FOLDERS = frozenset(("images", "image", "imgs", "img", "input", "inputs", "data"))
MASK_FOLDERS = frozenset(
    ("masks", "mask", "labels", "label", "segmentations", "segmentation", "annotations",
     "groundtruth", "truth", "gt", "manual")
)  # fmt: skip
PARTS = frozenset(("train", "training", "test", "testing", "val", "validation"))
IMAGE_WORDS = frozenset(
    (*IMAGE_FOLDERS, *PARTS, "volume", "volumes", "vol", "scan", "scans", "imaging", "original",
     "picture", "ct", "mr", "mri")
)  # fmt: skip
MASK_WORDS = frozenset((*MASK_FOLDERS, "msk", "seg", "manual1", "annotation", "roi"))
_MASK_END = re.compile(
    r"[_-](mask|msk|label|seg|segmentation|gt|groundtruth|annotation|roi|manual)([_-]?\d+)?$",
    re.IGNORECASE,
)
_MASK_BEGIN = re.compile(
    r"^(mask|msk|label|seg|segmentation|gt|groundtruth|annotation)([_-]|$)", re.IGNORECASE
)


@dataclass(frozen=True)
class Named:
    """A file, by what its name and folders say apart from whether it is an image or a mask."""

    path: Path
    folders: tuple[str, ...]
    """Below the data set, without words such as `images`."""

    @property
    def stem(self) -> str:
        return same_letters(stem(self.path))


@dataclass(frozen=True)
class Place:
    """Where a file lies, and what it is by that."""

    path: Path
    role: str
    """image, mask or neither ("")."""
    above: tuple[str, ...]
    beside: str
    """What else is in the name of the folder that tells the role: `train` of `train_masks`."""
    below: tuple[str, ...]
    folder: str = ""
    """The folder that tells the role, below the data set."""


def place_of(path: Path, folders: Sequence[str], depth: int) -> Place:
    """Tell a file's role by the last of its first `depth` folders that has one."""
    for number in reversed(range(min(depth, len(folders)))):
        *rest, last = re.split(r"[_\-. ]+", folders[number].casefold())
        role = "image" if last in IMAGE_FOLDERS else "mask" if last in MASK_FOLDERS else ""
        if role:
            above, below = tuple(folders[:number]), tuple(folders[number + 1 :])
            folder = "/".join((*above, folders[number]))
            return Place(path, role, above, "_".join(rest), below, folder)
    return Place(path, "", tuple(folders), "", ())


def aside(places: Sequence[Place]) -> list[Place]:
    """Return what lies in `test_images` where there is `images`, which alone is the data set."""
    if all(place.beside for place in places):
        return []
    return [place for place in places if not PARTS.isdisjoint(place.beside.split("_"))]


def rivals(images: Sequence[Place], masks: Sequence[Place]) -> list[str]:
    """Return the first folders of masks that stand beside the same folder of images."""
    of_images = {(place.above, place.beside) for place in images}
    sets: dict[tuple[tuple[str, ...], str], set[str]] = {}
    for place in masks:
        own = place.beside if (place.above, place.beside) in of_images else ""
        sets.setdefault((place.above, own), set()).add(place.folder)
    return next((sorted(folders) for folders in sets.values() if len(folders) > 1), [])


def named(images: Sequence[Place], masks: Sequence[Place]) -> tuple[list[Named], list[Named]]:
    """Return files by their folders' names, as far as these tell one file from another.

    `Training_Input` and `Training_GroundTruth` have the same name without those words; where there
    is one folder of each and they differ in more, that tells nothing either.
    """
    of_images, of_masks = ({place.beside for place in places} for places in (images, masks))
    in_parts = [
        {word for name in names for word in name.split("_") if word in PARTS}
        for names in (of_images, of_masks)
    ]
    tells = max(len(of_images), len(of_masks)) > 1 or in_parts[0] != in_parts[1]

    def name(place: Place) -> Named:
        folders = (*place.above, place.beside if tells else "", *place.below)
        return Named(place.path, tuple(same_letters(each) for each in folders if each))

    return [name(place) for place in images], [name(place) for place in masks]


def is_mask_name(name: str) -> bool:
    """Tell whether a file's name without its suffix says that it is a mask."""
    return bool(_MASK_END.search(name) or _MASK_BEGIN.search(name))


def without_end(name: str) -> str:
    """Return a mask's name without `_mask`, and without the number of a part."""
    return _MASK_END.sub("", name)


def has_number(name: str) -> bool:
    """Tell whether a mask's name numbers it as a part: `x_mask_1`."""
    return bool((found := _MASK_END.search(name)) and found.group(2))


def part_of(name: str) -> str:
    """Return a mask's name without its number: `x_mask_1` is a part of `x_mask`."""
    found = _MASK_END.search(name)
    return name[: found.end(1)] if found else name


def bare(name: str) -> str:
    """Return a name without all words that say image or mask: `volume-1` -> `1`."""
    words = re.split(r"[_\-. ]+", name.casefold())
    return "_".join(word for word in words if word not in IMAGE_WORDS | MASK_WORDS)
