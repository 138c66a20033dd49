"""The trained model that a person means: a trial of a study, or a run by its path."""

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from search.analysis.ranking import ranked
from search.ledger.state import StudyState, TrialState
from search.storage.run_folders import trial_files
from search.storage.studies import (
    display_path,
    find_study,
    read_study,
    writer_of,
)
from search.storage.trial_images import BEST
from search.study.config import StudyConfig
from trainer.configfile import ConfigError


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
    with trial_files(model.path, {BEST, *names}) as files:
        if not (files / BEST).is_file():
            where = f"{display_path(origin.folder)}: trial {origin.trial.number}"
            raise ConfigError([f"{where}: {origin.trial.ending}: no {BEST} of it is here"])
        yield replace(model, path=files)


def find_model(words: str, trial: int | None, runs: Path) -> ModelRef:
    """Find a trained model.

    Args:
        words: A study's name or folder, of which it is the best trial by the leaderboard, or
            `trial`; or a run folder, a .pt file or an exported folder.
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
            return _of_study(folder.parents[1], int(folder.name))
        if trial is not None:
            raise ConfigError([f"--trial {trial}: {words} is no study"])
        stem = path.stem if path.is_file() and path.stem not in ("best", "model") else ""
        folder = path.resolve().parent if path.is_file() else path.resolve()
        folder = folder.parent if folder.name == "checkpoints" else folder
        return ModelRef(
            path.resolve(), _plain(f"{folder.name}-{stem}" if stem else folder.name), None
        )
    return _of_study(find_study(words, runs), trial)


def _is_run(path: Path) -> bool:
    from trainer.saved.model_package import is_exported

    if path.is_dir():
        marks = (path / BEST).is_file(), (path / "checkpoints").is_dir(), is_exported(path)
        return any(marks) and not (path / "ledger.jsonl").is_file()
    return path.is_file()


def _of_study(folder: Path, number: int | None) -> ModelRef:
    study, state = read_study(folder)
    where = display_path(folder)
    if number is None:
        if driver := writer_of(folder / "ledger.jsonl"):
            rule = "`segtune stop` it, or name a trial that has ended with --trial"
            raise ConfigError([f"{where}: is run by {driver}, its best may change: {rule}"])
        best = ranked(study, state.searched())
        if not best:
            raise ConfigError([f"{where}: no trial has a result"])
        trial = best[0]
    elif number in state.trials:
        trial = state.trials[number]
    else:
        numbers = f"there are 0 to {max(state.trials)}" if state.trials else "there is none yet"
        raise ConfigError([f"{where}: trial {number}: no such trial; {numbers}"])
    if trial.ending is None:
        rule = "has not ended: `segtune launch` carries it on"
        raise ConfigError([f"{where}: trial {trial.number}: {rule}"])
    run_dir = folder.resolve() / "trials" / f"{trial.number:04d}"
    origin = TrialOrigin(folder, study, state, trial)
    return ModelRef(run_dir, f"{study.study}-{trial.number:04d}", origin)


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._") or "model"
