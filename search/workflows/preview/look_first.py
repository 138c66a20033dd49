"""What is looked at before a study is launched: its data, the weights it begins with, its masks."""

from pathlib import Path
from typing import NamedTuple

from search.study.config import StudyConfig
from search.workflows.preview.dry_run import store_problems
from search.workflows.preview.first_weights import FirstWeights, first_weights
from search.workflows.preview.mask_references import look_at_masks


class Looked(NamedTuple):
    """What was found."""

    problems: list[str]
    """Why the study cannot be launched, a line each."""
    weights: FirstWeights
    notes: list[str]
    """What a person should know before."""


def look_first(study: StudyConfig, where: str, folder: Path) -> Looked:
    """Look at what a study's file names.

    Args:
        study: The study.
        where: What its lines begin with: its file.
        folder: Its folder, if it exists.

    Raises:
        OSError: The store cannot be read.
        ValueError: It is damaged.
    """
    problems, notes = store_problems(study), list[str]()
    weights = FirstWeights([], {}) if problems else first_weights(study)
    problems += weights.problems
    if not problems:
        problems, notes = look_at_masks(study, folder)
    return Looked([f"{where}: {line}" for line in problems], weights, [*weights.notes, *notes])
