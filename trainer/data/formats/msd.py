"""Medical Segmentation Decathlon and nnU-Net: `imagesTr`, `labelsTr`, `dataset.json`.

Channels are separate files with suffixes `_0000`, `_0001`, ... (nnU-Net), or one 4D file (MSD).
Their names come from `modality` or `channel_names` in `dataset.json`.
"""

import json
import re
from pathlib import Path
from typing import Any

from trainer.configfile import ConfigError
from trainer.data.formats.case import (
    TOGETHER,
    FoundCases,
    RawCase,
    image_files,
    modality_name,
    stem,
)
from trainer.data.nifti import Source, num_channels


def find(root: Path) -> FoundCases | None:
    """Return the cases, or None if there is neither `imagesTr` nor `labelsTr`.

    Raises:
        ConfigError: `dataset.json` is not JSON, or not what MSD or nnU-Net write.
    """
    images, labels = root / "imagesTr", root / "labelsTr"
    if not (images.is_dir() or labels.is_dir()):
        return None
    image_paths = {stem(path): path for path in image_files(images)}
    label_paths = {stem(path): path for path in image_files(labels)}
    channel_of = {name: re.sub(r"_\d{4}$", "", name) for name in image_paths}
    channels = _channels(root / "dataset.json") or _numbered(image_paths)

    cases = []
    for case_id in sorted({*label_paths, *channel_of.values()}):
        suffix = ".nii.gz"
        sources = {}
        for number, channel in enumerate(channels):
            separate = f"{case_id}_{number:04d}"
            if separate not in image_paths and case_id in image_paths:
                several = number if len(channels) > 1 else None
                sources[channel] = Source(image_paths[case_id], several)
            else:
                expected = images / f"{separate}{suffix}"
                sources[channel] = Source(image_paths.get(separate, expected))
        mask = label_paths.get(case_id, labels / f"{case_id}{suffix}")
        cases.append(RawCase(case_id, sources, Source(mask)))
    names, ignore = _labels(root / "dataset.json")
    return FoundCases(cases, label_names=names, ignore_label=ignore)


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
    name = stem(path)
    case_id, suffix = re.sub(r"_\d{4}$", "", name), path.name[len(name) :]
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


def _numbered(image_paths: dict[str, Path]) -> list[str]:
    numbers = {name[-4:] for name in image_paths if re.search(r"_\d{4}$", name)}
    return [f"channel_{int(number)}" for number in sorted(numbers)] or ["image"]
