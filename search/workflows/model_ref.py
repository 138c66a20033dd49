"""The trial or the trained model that a person means: `STUDY:7`, STUDY, or a run by its path."""

import re
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from search.analysis.ranking import best_of
from search.ledger.state import StudyState
from search.ledger.trial_state import TrialState
from search.storage.archives.opened import facts_of, is_archived
from search.storage.archives.reader import is_archive
from search.storage.run_folders import WEIGHTS_FILES, trial_files, weights_of
from search.storage.studies import (
    display_path,
    find_study,
    read_study,
    writer_of,
)
from search.storage.trials.names import split_trial, trial_name, trial_of
from search.study.config import StudyConfig
from trainer.configfile import ConfigError

OWN_NAMES = ("ema", "best", "model")
"""Files that are named as every run or export names its weights, so that the folder says more."""


@dataclass(frozen=True)
class TrialOrigin:
    """Where a model comes from, as far as a ledger tells."""

    folder: Path
    """The study's."""
    study: StudyConfig
    state: StudyState
    trial: TrialState


@dataclass(frozen=True)
class ModelRef:
    """A model that is no longer trained."""

    path: Path
    """What `saved.model_io.load` takes: a run folder, a .pt file or an exported folder. For a
    trial in S3 only `on_this_machine` has it."""
    name: str
    """`isles24-0007`, or that of the run's folder: letters, digits and ._- only."""
    origin: TrialOrigin | None
    """None for a run outside any study."""


@contextmanager
def on_this_machine(model: ModelRef, names: Collection[str]) -> Iterator[ModelRef]:
    """Give a model whose files are here: from S3 in a folder that goes when this ends.

    Args:
        model: The model.
        names: Files of a run folder to bring.

    Raises:
        ConfigError: Its trial left no weights, or they are on another machine.
        OSError: S3 does not answer.
    """
    if (origin := model.origin) is None:
        yield model
        return
    with (
        _own_copy(model.path, {*WEIGHTS_FILES, *names})
        if is_archived(origin.folder)
        else trial_files(model.path, {*WEIGHTS_FILES, *names})
    ) as files:
        if weights_of(files) is None:
            where = trial_name(origin.folder, origin.trial.number)
            why = _why_gone(origin.folder, origin.trial)
            raise ConfigError([f"{where}: {origin.trial.status()}: {why}"])
        yield replace(model, path=files)


@contextmanager
def _own_copy(run_dir: Path, names: Collection[str]) -> Iterator[Path]:
    """Give a copy of files of an archived run, beside which may be written; it goes at the end."""
    with tempfile.TemporaryDirectory(prefix="segtune-") as temporary:
        for name in names:
            if (path := run_dir / name).is_file():
                shutil.copyfile(path, Path(temporary, name))
        yield Path(temporary)


def _why_gone(folder: Path, trial: TrialState) -> str:
    """Return why the weights of a trial are not at hand, and what to do."""
    if is_archived(folder):
        kept = ", ".join(map(str, facts_of(folder).get("weights") or [])) or "none"
        return f"its weights are not in the archive, which has those of {kept}"
    if trial.deleted:
        return f"{trial.deleted.in_words()}; segtune enqueue trains its settings again"
    return f"no {WEIGHTS_FILES[0]} of it is here"


def find_trial(words: str, trial: int | None, runs: Path) -> tuple[Path, int]:
    """Find a trial of a study, whether it has ended or not.

    Args:
        words: `STUDY:7`; or a study's name or folder, of which it is the best trial, or `trial`.
        trial: Number.
        runs: The folder of all studies.

    Returns:
        The study's folder, and the number of a trial that it has.

    Raises:
        ConfigError: There is no such study or trial.
        ValueError: The ledger is damaged, or has no settings.
        OSError: The ledger cannot be read.
    """
    name, number = split_trial(words, trial)
    folder = find_study(name, runs)
    study, state = read_study(folder)
    found = best_trial(folder, study, state) if number is None else trial_of(folder, state, number)
    return folder, found.number


def find_model(words: str, trial: int | None, runs: Path) -> ModelRef:
    """Find a trained model.

    Args:
        words: `STUDY:7`; a study's name or folder, of which it is the best trial by the
            leaderboard, or `trial`; or a run folder, a .pt file or an exported folder.
        trial: Number; also of a control, a reference or a confirming trial.
        runs: The folder of all studies.

    Raises:
        ConfigError: There is no such study or trial, or it has not ended.
        OSError: The ledger cannot be read.
    """
    path = Path(words)
    if not (runs / words / "ledger.jsonl").is_file() and _is_run(path):
        folder = path.resolve()
        if folder.parent.name == "trials" and (folder.parents[1] / "ledger.jsonl").is_file():
            if trial is not None:
                raise ConfigError([f"--trial {trial}: {words} is a trial already"])
            return of_study(folder.parents[1], int(folder.name))
        if trial is not None:
            raise ConfigError([f"--trial {trial}: {words} is no study"])
        stem = path.stem if path.is_file() and path.stem not in OWN_NAMES else ""
        folder = path.resolve().parent if path.is_file() else path.resolve()
        folder = folder.parent if folder.name == "checkpoints" else folder
        return ModelRef(
            path.resolve(), _plain(f"{folder.name}-{stem}" if stem else folder.name), None
        )
    name, number = split_trial(words, trial)
    return of_study(find_study(name, runs), number)


def _is_run(path: Path) -> bool:
    from trainer.saved.model_package import is_exported

    if path.is_dir():
        marks = weights_of(path) is not None, (path / "checkpoints").is_dir(), is_exported(path)
        return any(marks) and not (path / "ledger.jsonl").is_file()
    return path.is_file() and not is_archive(path)


def best_trial(folder: Path, study: StudyConfig, state: StudyState) -> TrialState:
    """Return the trial that the leaderboard has first.

    Raises:
        ConfigError: No trial has a result.
    """
    if best := best_of(study, state):
        return best
    raise ConfigError([f"{display_path(folder)}: no trial has a result"])


def of_study(folder: Path, number: int | None) -> ModelRef:
    """Return the model of a trial of the study in a folder, None for its best, as `find_model`."""
    study, state = read_study(folder)
    if study.trainer:
        rule = "only its own program knows its weights, which lie in its trials' folders"
        raise ConfigError([f"{display_path(folder)}: trained by {study.trainer.name}: {rule}"])
    if number is None:
        if driver := writer_of(folder / "ledger.jsonl"):
            ended = f"or name a trial that has ended, as in {trial_name(folder, 7)}"
            raise ConfigError(
                [f"{display_path(folder)}: is run by {driver}, its best may change: `segtune stop` "
                 f"it, {ended}"]
            )  # fmt: skip
        trial = best_trial(folder, study, state)
    else:
        trial = trial_of(folder, state, number)
    if trial.ending is None:
        where = trial_name(folder, trial.number)
        raise ConfigError([f"{where}: has not ended: `segtune launch` carries it on"])
    run_dir = folder.resolve() / "trials" / f"{trial.number:04d}"
    origin = TrialOrigin(folder, study, state, trial)
    return ModelRef(run_dir, f"{study.study}-{trial.number:04d}", origin)


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._") or "model"
