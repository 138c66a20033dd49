"""`segtune delete`: room on the disk, and a ledger, page and MLflow that say what is gone.

A trial's files go after the event that says so. So whoever is killed between leaves files that
nothing uses, and the next `segtune delete` removes them. A whole study is moved aside in one step,
and is no study from then on; of one in S3 the ledger goes last.
"""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from search.analysis.first_weights import named
from search.analysis.kept import may_go_on, standing_by
from search.ledger.session import StudySession
from search.ledger.state import StudyState
from search.ledger.users import user_name
from search.report.text import in_bytes
from search.storage.archives.opened import check_not_archived
from search.storage.disk import PARTS, parts_there, remove_parts, study_sizes
from search.storage.studies import (
    display_path,
    open_as_driver,
    read_study,
    remove_from_s3,
    shared_place,
    study_folders,
)
from search.study.config import StudyConfig
from search.tracking.deletion import delete_experiment
from search.tracking.tracker import send_rest
from search.workflows.run_study import update_page
from trainer.configfile import ConfigError

ASIDE = ".segtune-deleted"
"""Beside the studies: what is being deleted, in folders that no command looks into."""


def delete_weights(folder: Path, best: int, *, dry_run: bool = False) -> Iterator[str]:
    """Delete weights and checkpoints of all trials that have ended but the best; yield lines.

    Those of the control, of the references and of what confirms any that is kept stay, and so do
    those with which another study begins, and those of trials that may be retried.

    Args:
        folder: The study's.
        best: How many of the searched trials keep theirs.
        dry_run: Only say it.

    Raises:
        ValueError: Somebody runs the study, it is an archive, or its ledger is damaged.
        OSError: The ledger cannot be written, or a file not be removed.
    """
    check_not_archived(folder)
    study, state = read_study(folder)
    if study.trainer:
        rule = "only its own program knows which of its files are weights"
        raise ConfigError([f"{display_path(folder)}: trained by {study.trainer.name}: {rule}"])
    others = begun_with(folder)
    if dry_run:
        yield from _plan(folder, study, state, best, others)[1]
        return
    with open_as_driver(folder) as ledger:
        session = StudySession(study, folder.resolve(), ledger)
        gone, lines = _plan(folder, study, session.state, best, others)
        yield from lines
        session.record(
            *(
                {"event": "deleted", "trial": number, "parts": [*parts], "by": user_name()}
                for number, parts in gone.items()
                if session.state.trials[number].deleted is None
            )
        )
        freed = sum(remove_parts(session.trial_dir(number), PARTS) for number in gone)
        said: list[str] = []
        if (folder / "mlflow.json").exists():
            send_rest(session, said.append)
    if gone and (folder / "report.html").exists():
        update_page(folder)
    yield from said
    yield f"{display_path(folder)}: {in_bytes(freed)} freed"


def _plan(
    folder: Path, study: StudyConfig, state: StudyState, best: int, others: dict[int, str]
) -> tuple[dict[int, dict[str, int]], list[str]]:
    """Return the parts that go of each trial, with their bytes, and what to say of it."""
    kept = standing_by(study, state, best)
    gone: dict[int, dict[str, int]] = {}
    for trial in state.trials.values():
        if trial.number in kept | others.keys() or may_go_on(trial):
            continue
        run_dir = folder.resolve() / "trials" / f"{trial.number:04d}"
        if parts := parts_there(run_dir, PARTS):
            gone[trial.number] = parts
    stays = ", ".join(map(str, sorted(kept))) or "none"
    lines = [f"kept       the weights of {stays}"]
    lines += [f"kept       {study.study}:{n}: {who} begins with it" for n, who in others.items()]
    size = sum(sum(parts.values()) for parts in gone.values())
    lines.append(f"delete     weights and checkpoints of {len(gone)} trials, {in_bytes(size)}")
    return gone, lines


def begun_with(folder: Path) -> dict[int, str]:
    """Return which trials' weights other studies beside it begin with, and the first such study.

    Args:
        folder: The study's.

    Raises:
        OSError: The folder cannot be read.
    """
    if shared_place(folder):
        return {}
    trials = folder.resolve() / "trials"
    found: dict[int, str] = {}
    for other in study_folders(folder.resolve().parent):
        if other.resolve() == folder.resolve():
            continue
        try:
            study, state = read_study(other)
        except (ValueError, OSError):  # of which no trial can begin
            continue
        paths = [path for _, path in named(study)]
        paths += [str(trial.params.get("init_from") or "") for trial in state.trials.values()]
        for path in filter(None, paths):
            place = Path(path).resolve()
            if place.is_relative_to(trials) and place != trials:
                number = place.relative_to(trials).parts[0]
                if number.isdecimal():
                    found.setdefault(int(number), study.study)
    return found


def delete_study(folder: Path, *, yes: bool) -> Iterator[str]:
    """Delete a whole study, and what MLflow has of it; yield lines.

    Args:
        folder: The study's.
        yes: Whether that is meant.

    Raises:
        ValueError: It is not, somebody runs the study, or another begins with its weights.
        OSError: It cannot be moved or removed, or S3 does not answer.
    """
    check_not_archived(folder)
    place = display_path(folder)
    if others := begun_with(folder):
        number, other = next(iter(others.items()))
        raise ConfigError([f"{place}: {other} begins with the weights of trial {number}: delete "
                           "that study first"])  # fmt: skip
    study, state = read_study(folder)
    size = sum(study_sizes(folder).values())
    what = f"{len(state.trials)} trials, {in_bytes(size)}"
    if not yes:
        rule = "--yes deletes all of it, --weights-but 3 most of its bytes"
        raise ConfigError([f"{place}: {what}: {rule}; segtune archive keeps it as a file"])
    folder = folder.resolve()
    aside = folder.parent / ASIDE / f"{folder.name}-{uuid.uuid4().hex[:8]}"
    assert state.study is not None
    with nullcontext() if shared_place(folder) else open_as_driver(folder):
        if shared_place(folder):  # what is here of it is a copy
            remove_from_s3(folder)
        aside.parent.mkdir(exist_ok=True)
        folder.rename(aside)
    line = ""
    if folder.name == study.study:  # else it is a copy, and MLflow has the study it is a copy of
        line = delete_experiment(aside, folder.parent, study.study, state.study["uid"])
        shutil.rmtree(folder.parent / "mlflow-artifacts" / study.study, ignore_errors=True)
    sweep(folder.parent)
    yield f"{place}: deleted: {what}"
    if line:
        yield line


def sweep(runs: Path) -> None:
    """Remove what studies that were deleted have left, if one that deleted them was killed.

    Raises:
        OSError: It cannot be removed.
    """
    if (runs / ASIDE).is_dir():
        shutil.rmtree(runs / ASIDE, onerror=_unless_gone)


def _unless_gone(function: object, path: str, problem: tuple[Any, Any, Any]) -> None:
    """Go on where another `segtune delete` has removed a file meanwhile."""
    if not isinstance(problem[1], FileNotFoundError):
        raise problem[1]
