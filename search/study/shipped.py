"""The studies that ship with segtune: YAML files in spaces/, beside the packages."""

from pathlib import Path

import search
from trainer.configfile import ConfigError, did_you_mean

SPACES = Path(search.__file__).resolve().parents[1] / "spaces"
"""In a checkout and where a wheel is installed alike."""


def space_file(name: str) -> Path:
    """Return the path of a study that ships."""
    return SPACES / f"{name}.yaml"


def find_space(words: str) -> Path:
    """Return a study's file from its path, or from the name of one that ships.

    A file in the current folder goes first: for `quickstart` that is `quickstart`, or else
    `quickstart.yaml`, so that who copies a study and changes it gets the copy.

    Args:
        words: A path; or a name, which has neither a slash nor an ending.

    Raises:
        ConfigError: It is neither a file nor the name of a study that ships.
    """
    path = Path(words)
    if path.name != words or path.suffix:
        return path
    for file in (path, path.with_suffix(".yaml"), space_file(words)):
        if file.is_file():
            return file
    if path.exists():  # a folder: who reads it says so
        return path
    hint = did_you_mean(words, (file.stem for file in SPACES.glob("*.yaml")))
    raise ConfigError([f"{words}: no such file, and no study of this name ships{hint}"])
