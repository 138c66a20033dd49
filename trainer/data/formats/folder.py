"""Plain folders: `images/` and `masks/` with files of the same name, PNG, JPEG or NIfTI.

Both may have folders in them, or lie in each patient's folder. Or `NAME.png` and `NAME_mask.png`
lie beside each other; further lesions are in `NAME_mask_1.png`. Pictures carry no spacing: 1 mm is
assumed. Grey pictures are one modality; colour ones are three.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from trainer.configfile import ConfigError
from trainer.data.files import BadFile, Source, is_picture, read_pixels
from trainer.data.formats.case import FoundCases, RawCase, Tally
from trainer.data.formats.listing import image_files, same_letters, stem
from trainer.data.formats.pairing import case_ids, pair
from trainer.data.formats.roles import (
    Named,
    Place,
    aside,
    is_mask_name,
    named,
    place_of,
    rivals,
    without_end,
)

MAX_DOUBTS = 5
PICTURE_NOTE = "pictures do not tell their spacing: 1 mm is assumed"


def find(root: Path) -> FoundCases | None:
    """Return the cases, or None if no image has a mask.

    Raises:
        ConfigError: Names do not tell which mask is whose.
    """
    by_folder, images, masks, others = _images_and_masks(root)
    if not masks or not images:
        return None
    pairs = pair(images, masks, root)
    _refuse(pairs.doubtful, root)
    if not any(own for _, own in pairs.masks):
        return None
    notes = Tally()
    for image, own in pairs.masks:
        if len(own) > 1:
            names = ", ".join(mask.path.name for mask in own)
            notes.add("several masks of an image are joined", f"{image.path.name} ({names})")
    for path in others:
        where = "images and masks lie in other folders, and these files are left out"
        notes.add(where, str(path.relative_to(root)))
    first = images[0].path
    sources = _sources(first)
    ids = case_ids(images)
    is_qualified = any(ids[image.path] != same_letters(stem(image.path)) for image in images)
    end = "" if by_folder else "_mask"
    cases = []
    for image, own in pairs.masks:
        suffix = image.path.name[len(stem(image.path)) :]
        expected = _expected(image, masks, root, "mask", f"{stem(image.path)}{end}{suffix}")
        found = [Source(mask.path) for mask in own] or [Source(expected)]
        case_id, more = ids[image.path], tuple(found[1:])
        folders = "_".join(image.folders)
        cases.append(
            RawCase(case_id, sources(image.path), found[0], more_masks=more, folders=folders)
        )
    for lone in pairs.alone:
        name = without_end(same_letters(stem(lone.path)))
        suffix = first.name[len(stem(first)) :]
        expected = _expected(lone, images, root, "image", f"{name}{suffix}")
        if is_qualified or name in ids.values():
            name = same_letters("_".join((*lone.folders, stem(lone.path))))
        cases.append(RawCase(name, sources(expected), Source(lone.path)))
    cases.sort(key=lambda case: case.case_id)
    return FoundCases(cases, ([PICTURE_NOTE] if is_picture(first) else []) + notes.lines())


def _refuse(doubts: Sequence[str], root: Path) -> None:
    lines = [f"{root}: {doubt}: keep one, or name them apart" for doubt in doubts[:MAX_DOUBTS]]
    if len(doubts) > MAX_DOUBTS:
        lines.append(f"{root}: and {len(doubts) - MAX_DOUBTS} more of these")
    if lines:
        raise ConfigError(lines)


def _images_and_masks(root: Path) -> tuple[bool, list[Named], list[Named], list[Path]]:
    """Tell images from masks, by folders or else by names.

    Where `images/` and `masks/`, or files of both names, lie in the root, only these are taken.

    Returns:
        Whether it was by folders; the images, the masks, and what is neither.
    """
    files = [(path, path.relative_to(root).parent.parts) for path in image_files(root)]
    for at_top, by_folder in ((True, True), (True, False), (False, True), (False, False)):
        found: dict[str, list[Place]] = {"image": [], "mask": [], "": []}
        for path, parts in files:
            if by_folder:
                place = place_of(path, parts, 1 if at_top else len(parts))
            else:
                role = "" if at_top and parts else "mask" if is_mask_name(stem(path)) else "image"
                place = Place(path, role, parts, "", ())
            found[place.role].append(place)
        for role in ("image", "mask"):
            if at_top and (others := {*aside(found[role])}):
                found[role] = [place for place in found[role] if place not in others]
                found[""] += others
        if found["image"] and found["mask"]:
            if several := rivals(found["image"], found["mask"]):
                where = " and in ".join(several)
                raise ConfigError([f"{root}: masks lie in {where}: leave those that are meant"])
            images, masks = named(found["image"], found["mask"])
            return by_folder, images, masks, [place.path for place in found[""]]
    return False, [], [], []


def _sources(first: Path) -> Callable[[Path], dict[str, Source]]:
    """Return what an image file holds, judged by the first of them: colours, or one modality."""
    if not is_picture(first):
        return lambda path: {"image": Source(path)}
    if not _is_colour(first):
        return lambda path: {"picture": Source(path)}
    colours = ("picture_red", "picture_green", "picture_blue")
    return lambda path: {name: Source(path, channel) for channel, name in enumerate(colours)}


def _expected(named: Named, others: Sequence[Named], root: Path, what: str, name: str) -> Path:
    """Return where a file's counterpart would lie that was not found."""
    beside = next((other for other in others if other.folders == named.folders), None)
    if beside and not (path := beside.path.with_name(name)).exists():
        return path
    return root / f"{what} of {named.path.relative_to(root)}"


def _is_colour(path: Path) -> bool:
    """Tell whether the first image is a colour picture; a damaged one is found when it is read."""
    try:
        return read_pixels(path).values.ndim == 3
    except BadFile:
        return False
