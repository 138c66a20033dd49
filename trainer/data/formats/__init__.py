"""Readers: from a folder in one of the known layouts to a list of raw cases."""

import os
import unicodedata
from collections import Counter
from dataclasses import replace
from pathlib import Path

from trainer.configfile import ConfigError, did_you_mean
from trainer.data.formats import folder, isles22, isles24, msd, subject_folders
from trainer.data.formats.case import FoundCases, RawCase
from trainer.data.formats.nothing_found import left_out, what_there_is

READERS = {
    "isles24": isles24.find,
    "isles22": isles22.find,
    "msd": msd.find,
    "folder": folder.find,
    "subjects": subject_folders.find,
}
"""In the order in which they are tried."""

MAX_NAME = 220
"""Bytes of a case's name, to which a store's files add 27 while they are written."""


def find_cases(dataset: Path, format: str | None = None) -> tuple[str, FoundCases]:
    """Return the name of a data set's format and its cases.

    Args:
        dataset: Folder of a data set.
        format: One of READERS, or None to detect it.

    Raises:
        ConfigError: No such folder, an empty one, or not in the (or any known) format; or its
            names do not tell which file is what.
    """
    if not dataset.is_dir():
        raise ConfigError(
            [f"{dataset}: {'not a folder' if dataset.exists() else 'no such folder'}"]
        )
    if not any(dataset.iterdir()):
        raise ConfigError([f"{dataset}: empty folder"])
    if format is not None and format not in READERS:
        raise ConfigError(
            [f"command line: format: {format!r}: must be {', '.join(READERS)}"
             f"{did_you_mean(format, READERS)}"]
        )  # fmt: skip
    if found := _read(dataset, format):
        name, cases = found
        _refuse(dataset, cases.cases)
        return name, replace(cases, notes=cases.notes + left_out(dataset))
    if format is not None and (other := _read(dataset, None)):
        raise ConfigError(
            [f"{dataset}: no cases found in the layout of {format}: it has that of {other[0]}: "
             "leave --format out"]
        )  # fmt: skip
    there = what_there_is(dataset, lambda path: _read(path, None))
    raise ConfigError([f"{dataset}: no cases found: {there}"])


def _read(dataset: Path, format: str | None) -> tuple[str, FoundCases] | None:
    for name in READERS if format is None else [format]:
        found = READERS[name](dataset)
        if found and found.cases:
            return name, found
    return None


def _refuse(dataset: Path, cases: list[RawCase]) -> None:
    """Refuse names that no store can have, and files that are two things.

    Raises:
        ConfigError: One line a kind.
    """
    lines = []
    named = Counter(case.case_id for case in cases)
    if twice := [case_id for case_id, number in named.items() if number > 1]:
        lines.append(
            f"{dataset}: {len(twice)} names are of several cases, such as {twice[0]}: give each "
            "file a name of its own"
        )
    paths = [path for case in cases for path in _paths(case)]
    if foreign := [path for path in paths if not _is_text(str(path))]:
        name = ascii(foreign[0].name.encode("utf-8", "surrogateescape"))[1:]
        lines.append(
            f"{dataset}: {len(foreign)} file names are not UTF-8 or have control characters, such "
            f"as {name}: rename them, for example with convmv -r -f cp1252 -t utf-8 --notest FOLDER"
        )
    if long := [name for name in named if len(os.fsencode(name)) > MAX_NAME]:
        lines.append(
            f"{dataset}: {len(long)} names of cases are too long for a file system, such as "
            f"{long[0][:40]}…: at most {MAX_NAME} bytes"
        )
    for case in cases:
        for source in (case.mask, *case.more_masks):
            if any(_same(source.path, image.path) for image in case.images.values()):
                lines.append(f"{source.path}: is both image and mask of {case.case_id}")
    if lines:
        raise ConfigError(lines)


def _paths(case: RawCase) -> list[Path]:
    """Return the distinct files of a case, images first."""
    sources = (*case.images.values(), case.mask, *case.more_masks)
    return list(dict.fromkeys(source.path for source in sources))


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return not any(unicodedata.category(letter) == "Cc" for letter in name)


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
