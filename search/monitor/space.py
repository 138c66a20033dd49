"""Whether a study's disk has room for what is left of it: said before the room is needed."""

import shutil
import time
from pathlib import Path
from typing import NamedTuple

from search.ledger.state import StudyState
from search.ledger.trial_state import TrialState
from search.report.text import duration, in_bytes
from search.storage.disk import folder_bytes
from search.storage.studies import display_path, read_study, shared_place
from search.study.config import StudyConfig

SAMPLE = 30
"""Trials whose folders are measured, evenly over the study: of thousands, all would take long."""
RESERVE_BYTES = 1 << 30
"""That are to be left: for logs, pictures and MLflow."""
LOOK_S = 60.0
"""Between two looks of a screen or a driver."""


class Space(NamedTuple):
    """The room on a study's disk."""

    free: int
    """Bytes."""
    needed: int
    """About so many the rest of its trials take, if they are as those that it has."""
    hours: float | None
    """Until it is full at this study's own rate; None before that is known."""

    @property
    def is_short(self) -> bool:
        """Whether the rest does not fit."""
        return self.needed + RESERVE_BYTES > self.free

    def in_words(self, folder: Path) -> str:
        """Return the line for people, without `note:`."""
        place, study = display_path(folder.parent), folder.name
        soon = "" if self.hours is None else f": full in about {duration(3600 * self.hours)}"
        return (
            f"{place} has {in_bytes(self.free)} free, and the rest of {study} needs about "
            f"{in_bytes(self.needed)}{soon}{' at this rate' * bool(soon)}; segtune list --sizes "
            f"says what takes it, segtune delete STUDY --weights-but 3 frees it"
        )


def space_of(study: StudyConfig, state: StudyState, folder: Path) -> Space | None:
    """Return the room for a study; None where it lies in S3, or nothing of it was trained.

    Args:
        study: The study.
        state: Its ledger.
        folder: Its folder.
    """
    begun = [trial for trial in state.trials.values() if trial.reports]
    if not begun or shared_place(folder):
        return None
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return None
    each = _mean_bytes(begun, folder)
    to_come = state.num_searched_to_come(study) + state.num_protected_to_come(study)
    waiting = sum(not trial.reports for trial in state.live())
    wall_hours = state.meter.spent(study.trials)["wall_hours"]
    hours = free * wall_hours / (each * len(begun)) if each and wall_hours else None
    return Space(free, round(each * (to_come + waiting)), hours)


def _mean_bytes(trials: list[TrialState], folder: Path) -> float:
    """Return what a trial's folder takes on average."""
    step = max(1, len(trials) // SAMPLE)
    sample = trials[::step]
    sizes = [folder_bytes(folder / "trials" / f"{trial.number:04d}") for trial in sample]
    return sum(sizes) / len(sizes)


class SpaceWatch:
    """Looks at a study's disk now and then.

    Args:
        folder: The study's.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._next_s = 0.0
        self._said_hours: float | None = None
        self.note = ""
        """What is to be said; empty where there is room."""

    def look(self, study: StudyConfig, state: StudyState) -> bool:
        """Look, if it is time; return whether there is something new to say.

        That is when the room gets short, and again when half of the hours are gone.
        """
        if time.monotonic() < self._next_s:
            return False
        self._next_s = time.monotonic() + LOOK_S
        found = space_of(study, state, self._folder)
        self.note = found.in_words(self._folder) if found and found.is_short else ""
        if not found or not self.note:
            self._said_hours = None
            return False
        hours = found.hours or 0.0
        new = self._said_hours is None or hours <= self._said_hours / 2
        if new:
            self._said_hours = hours
        return new


def note_of(folder: Path) -> str:
    """Return a note, with its line end, where a study's disk is short; else nothing.

    Raises:
        ValueError: Its ledger is damaged.
        OSError: It cannot be read.
    """
    study, state = read_study(folder)
    found = space_of(study, state, folder)
    return f"note: {found.in_words(folder)}\n" if found and found.is_short else ""


def free_on(folder: Path) -> str:
    """Return in words how much is free where a folder is, or is to be."""
    if shared_place(folder):
        return "S3 has no end"
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return in_bytes(shutil.disk_usage(there).free)
