"""Medical Segmentation Decathlon and nnU-Net: `imagesTr`, `labelsTr`, `dataset.json`.

Channels are separate files with suffixes `_0000`, `_0001`, ... (nnU-Net), or one 4D file (MSD).
Their names come from `modality` or `channel_names` in `dataset.json`.
"""

import json
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from trainer.configfile import ConfigError
from trainer.data.files import Source
from trainer.data.formats.case import TOGETHER, FoundCases, RawCase, Tally
from trainer.data.formats.listing import image_files, modality_name, same_letters, stem
from trainer.data.nifti import num_channels


def find(root: Path) -> FoundCases | None:
    """Return the cases, or None if there is neither `imagesTr` nor `labelsTr`.

    Raises:
        ConfigError: `dataset.json` is not JSON, or not what MSD or nnU-Net write; or two files
            are of one name.
    """
    images, labels = root / "imagesTr", root / "labelsTr"
    if not (images.is_dir() or labels.is_dir()):
        return None
    scans, masks = image_files(images), image_files(labels)
    nested = any(path.parent != images for path in scans) and any(
        path.parent != labels for path in masks
    )
    image_paths = _by_name(images, scans, nested)
    label_paths = _by_name(labels, masks, nested)
    named = _channels(root / "dataset.json")
    numbered = _numbered(image_paths, label_paths, len(named))
    channels = named or [f"channel_{n}" for n in sorted({n for _, n in numbered.values()})]
    channels = channels or ["image"]
    case_of = {name: numbered[name][0] if name in numbered else name for name in image_paths}
    notes = Tally()
    for name, (_, number) in numbered.items():
        if named and number >= len(named):
            notes.add("channels that dataset.json does not name are left out", name)

    keys = sorted({*label_paths, *case_of.values()})
    is_unique = len({Path(key).name for key in keys}) == len(keys)
    cases = []
    for key in keys:
        sources = {}
        for number, channel in enumerate(channels):
            separate = f"{key}_{number:04d}"
            if separate not in image_paths and key in image_paths:
                several = number if len(channels) > 1 else None
                sources[channel] = Source(image_paths[key], several)
            else:
                expected = images / f"{separate}.nii.gz"
                sources[channel] = Source(image_paths.get(separate, expected))
        mask = label_paths.get(key, labels / f"{key}.nii.gz")
        case_id = same_letters(stem(mask) if is_unique else key.replace("/", "_"))
        cases.append(RawCase(case_id, sources, Source(mask)))
    cases.sort(key=lambda case: case.case_id)
    names, ignore = _labels(root / "dataset.json")
    return FoundCases(cases, notes.lines(), label_names=names, ignore_label=ignore)


def find_image(path: Path) -> tuple[str, dict[str, Source]] | None:
    """Return the case that an image of such a data set belongs to, and its channels.

    Args:
        path: A file in `imagesTr` or `imagesTs` beside `dataset.json`, of nnU-Net's the first.

    Returns:
        None where there is no `dataset.json` that names channels.

    Raises:
        ConfigError: The file has another number of channels.
        BadFile: It is not readable.
    """
    channels = _channels(path.absolute().parent.parent / "dataset.json")
    if not channels:
        return None
    name, root = stem(path), path.absolute().parent.parent
    siblings = [stem(each) for part in {path.absolute().parent, root / "imagesTr"}
                for each in image_files(part)]  # fmt: skip
    labelled = {stem(each) for each in image_files(root / "labelsTr")}
    numbered = _numbered(siblings, labelled, len(channels))
    case_id, suffix = numbered.get(name, (name, 0))[0], path.name[len(name) :]
    if case_id == name:
        several = len(channels) > 1
        if (count := num_channels(path)) != len(channels):
            raise ConfigError(
                [f"{path}: channels: {count}: dataset.json names {', '.join(channels)}"]
            )
        return case_id, {
            channel: Source(path, number if several else None)
            for number, channel in enumerate(channels)
        }
    return case_id, {
        channel: Source(path.with_name(f"{case_id}_{number:04d}{suffix}"))
        for number, channel in enumerate(channels)
    }


def _labels(path: Path) -> tuple[dict[int, str], int | None]:
    """Return the names of the labels but 0, and the label that says "not annotated".

    MSD writes number -> name, nnU-Net name -> number or, of a region, several numbers.
    """
    described = _described(path).get("labels")
    names: dict[int, list[str]] = {}
    try:
        for key, value in described.items() if isinstance(described, dict) else ():
            is_number = key.strip().isdecimal()
            numbers = [key] if is_number else value if isinstance(value, list) else [value]
            for number in map(int, numbers):
                names.setdefault(number, []).append(str(value if is_number else key).lower())
    except (ValueError, TypeError) as error:
        raise ConfigError([f"{path}: labels: not numbers and names: {error}"]) from error
    for number, named in names.items():
        if "background" in named and number:
            raise ConfigError([f"{path}: labels: background is {number}, but must be 0"])
    ignore = next((number for number, named in names.items() if named == ["ignore"]), None)
    return {n: TOGETHER.join(named) for n, named in sorted(names.items()) if n}, ignore


def _channels(path: Path) -> list[str]:
    """Return the channels' names in order, or none if there is no `dataset.json`."""
    content = _described(path)
    try:
        named = content.get("channel_names") or content.get("modality") or {}
        names = [modality_name(str(named[key])) for key in sorted(named, key=int)]
    except (ValueError, AttributeError, TypeError) as error:
        raise ConfigError([f"{path}: not an MSD or nnU-Net description: {error}"]) from error
    return [
        f"{name}_{number}" if names.count(name) > 1 else name for number, name in enumerate(names)
    ]


def _described(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ConfigError([f"{path}: not an MSD or nnU-Net description: {error}"]) from error
    if not isinstance(content, dict):
        raise ConfigError([f"{path}: not an MSD or nnU-Net description: not an object"])
    return content


def _by_name(folder: Path, paths: Sequence[Path], nested: bool) -> dict[str, Path]:
    """Return files by their names, with their folders where images and labels are in some.

    Raises:
        ConfigError: Two files have one name, which is a case's in this layout.
    """
    by_name: dict[str, Path] = {}
    for path in paths:
        if (other := by_name.setdefault(same_letters(stem(path)), path)) is not path:
            names = " and ".join(str(each.relative_to(folder)) for each in (other, path))
            raise ConfigError(
                [f"{folder}: {names} have one name, which is a case's in this layout: keep one, or "
                 "give each case a name of its own"]
            )  # fmt: skip
    if not nested:
        return by_name
    return {
        (path.parent.relative_to(folder) / name).as_posix(): path for name, path in by_name.items()
    }


def _numbered(
    images: Iterable[str], labels: Collection[str], num_channels: int
) -> dict[str, tuple[str, int]]:
    """Return the case and the channel that names such as `CASE_0001` stand for.

    `_0001` may as well be a case's number: then there is a label of that very name, or a number
    beyond the channels that there are.
    """
    numbered = {}
    numbers_are_cases = False
    for name in images:
        if found := re.fullmatch(r"(.+)_(\d{4})", name):
            if name in labels:
                numbers_are_cases = True
            else:
                numbered[name] = (found.group(1), int(found.group(2)))
    if not any(case in labels for case, _ in numbered.values()):
        beyond = any(number >= num_channels > 0 for _, number in numbered.values())
        return {} if numbers_are_cases or beyond else numbered
    return numbered
