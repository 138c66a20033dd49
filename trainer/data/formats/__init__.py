"""Readers: from a folder in one of the known layouts to a list of raw cases."""

from pathlib import Path

from trainer.configfile import ConfigError, did_you_mean
from trainer.data.formats import folder, isles22, isles24, msd
from trainer.data.formats.case import FoundCases

READERS = {"isles24": isles24.find, "isles22": isles22.find, "msd": msd.find, "folder": folder.find}
"""In the order in which they are tried."""


def find_cases(dataset: Path, format: str | None = None) -> tuple[str, FoundCases]:
    """Return the name of a data set's format and its cases.

    Args:
        dataset: Folder of a data set.
        format: One of READERS, or None to detect it.

    Raises:
        ConfigError: No such folder, an empty one, or not in the (or any known) format.
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
    for name in READERS if format is None else [format]:
        found = READERS[name](dataset)
        if found and found.cases:
            return name, found
    known = ", ".join(READERS) if format is None else format
    raise ConfigError([f"{dataset}: no cases found in the layout of {known}"])
