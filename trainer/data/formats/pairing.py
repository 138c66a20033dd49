"""Which mask belongs to which image, by their names and folders: surely, or with a refusal.

An image and its mask lie in folders of the same name below `images/` and `masks/` (or in the same
one), and their names are the same but for words such as `_mask`. Where two images could own a
mask, or an image has two masks that are not numbered parts of one, no choice is made.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trainer.data.formats.listing import same_letters, stem
from trainer.data.formats.roles import Named, bare, has_number, part_of, without_end


@dataclass
class Pairs:
    """What belongs together, and what does not."""

    masks: list[tuple[Named, list[Named]]] = field(default_factory=list)
    """Each image with its masks: none, one, or the numbered parts of one."""
    alone: list[Named] = field(default_factory=list)
    """Masks without an image."""
    doubtful: list[str] = field(default_factory=list)
    """One line for each choice that is not made."""


def pair(images: Sequence[Named], masks: Sequence[Named], root: Path) -> Pairs:
    """Find each image's masks.

    Args:
        images: All images.
        masks: All masks; no file is in both.
        root: What lines name files relative to.
    """
    result = Pairs()
    owned: dict[Path, list[Named]] = {image.path: [] for image in images}
    left = list(masks)
    rules: list[tuple[Callable[[str], str], Callable[[str], str]]] = [
        (str, str),
        (str, lambda name: name if has_number(name) else without_end(name)),
        (str.casefold, lambda name: (name if has_number(name) else without_end(name)).casefold()),
    ]
    for of_image, of_mask in rules:
        left = _assign(images, left, of_image, of_mask, owned, result, root)
    # `x_mask_1` is the second mask of `x`, or the mask of `x_1`.
    free = [image for image in images if not owned[image.path]]
    numbered = [mask for mask in left if has_number(mask.stem)]
    by_part = _candidates(images, numbered, str.casefold, lambda n: without_end(n).casefold())
    by_words = _candidates(free, left, bare, bare)
    for mask in left:
        found = {each.path: each for each in by_part.get(mask.path, []) + by_words[mask.path]}
        _give(mask, list(found.values()), owned, result, root)
    for image in images:
        own = owned[image.path]
        if len(own) > 1 and not _are_parts(own):
            names = ", ".join(_relative(mask, root) for mask in own)
            result.doubtful.append(f"{_relative(image, root)} has several masks: {names}")
        result.masks.append((image, own))
    return result


def case_ids(images: Iterable[Named]) -> dict[Path, str]:
    """Return each image's case: its name, with its folders where another has the same name."""
    images = list(images)
    names = [image.stem.casefold() for image in images]
    if len(set(names)) == len(names):
        return {image.path: same_letters(stem(image.path)) for image in images}
    tells = {image.path: bool(bare(image.stem)) or not image.folders for image in images}
    return {
        image.path: same_letters(
            "_".join((*image.folders, *([stem(image.path)] if tells[image.path] else [])))
        )
        for image in images
    }


def _assign(
    images: Sequence[Named],
    masks: Sequence[Named],
    of_image: Callable[[str], str],
    of_mask: Callable[[str], str],
    owned: dict[Path, list[Named]],
    result: Pairs,
    root: Path,
) -> list[Named]:
    """Give the masks that a rule finds an image for, and return the others."""
    candidates = _candidates(images, masks, of_image, of_mask)
    left = []
    for mask in masks:
        if candidates[mask.path]:
            _give(mask, candidates[mask.path], owned, result, root)
        else:
            left.append(mask)
    return left


def _give(
    mask: Named, found: Sequence[Named], owned: dict[Path, list[Named]], result: Pairs, root: Path
) -> None:
    if not found:
        result.alone.append(mask)
    elif len(found) == 1:
        owned[found[0].path].append(mask)
    else:
        names = ", ".join(_relative(image, root) for image in found)
        result.doubtful.append(f"{_relative(mask, root)} may be the mask of each of {names}")


def _candidates(
    images: Sequence[Named],
    masks: Sequence[Named],
    of_image: Callable[[str], str],
    of_mask: Callable[[str], str],
) -> dict[Path, list[Named]]:
    """Return each mask's images of the same name: in a folder of the same name, or else in one
    that lies above or below.
    """
    by_name = defaultdict(list)
    for image in images:
        by_name[of_image(image.stem)].append(image)
    found = {}
    for mask in masks:
        same = by_name.get(of_mask(mask.stem), [])
        exact = [image for image in same if image.folders == mask.folders]
        found[mask.path] = exact or [
            image for image in same if _within(image.folders, mask.folders)
        ]
    return found


def _within(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Tell whether the shorter path's folders occur in the longer one, in order."""
    short, long = sorted((one, other), key=len)
    rest = iter(long)
    return all(part in rest for part in short)


def _are_parts(masks: Sequence[Named]) -> bool:
    """Tell whether masks are `x_mask`, `x_mask_1`, …, in one folder, each number once."""
    names = {mask.stem.casefold() for mask in masks}
    folders = {mask.path.parent for mask in masks}
    return (
        len(names) == len(masks)
        and len(folders) == 1
        and len({part_of(name) for name in names}) == 1
    )


def _relative(named: Named, root: Path) -> str:
    return str(named.path.relative_to(root))
