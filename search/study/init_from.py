"""What a study that trains nothing has of the run whose weights it validates: its settings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.config import absolute
from trainer.configfile import ConfigError, flatten, read_yaml
from trainer.files.documents import from_json

OWN = {"data.store", "data.store_hash", "data.fold", "epochs", "seed", "device", "init_from"}
"""Settings of a run that its weights do not depend on, or that a study has elsewhere."""


def inherited(values: Mapping[str, Any], where: str) -> tuple[dict[str, Any], list[str]]:
    """Return the raw values of a study with what it has from the run that `init_from` names.

    That is for scheduler.max_t of 0 every setting of its config.yaml that the study does not name
    in `train` or `space`. Where there is nothing to inherit the values come back as they were.

    Args:
        values: Of a study's file, overrides included.
        where: The file.

    Returns:
        The values, init_from absolute, and problems, one line each.
    """
    train, scheduler = values.get("train"), values.get("scheduler")
    train = flatten(train) if isinstance(train, Mapping) else {}
    if not isinstance(train.get("init_from"), str):
        return dict(values), []
    try:
        path = Path(absolute(train["init_from"]))
    except ValueError:
        return dict(values), []  # said when the study is built
    train = {**train, "init_from": str(path)}
    if not isinstance(scheduler, Mapping) or scheduler.get("max_t") != 0:
        missing = f"{where}: train.init_from: {path}: no such file or folder"
        return {**values, "train": train}, [] if path.exists() else [missing]
    try:
        run = flatten(read_yaml(_config_of(path)))
    except ConfigError as error:
        return {**values, "train": train}, [f"{where}: train.init_from: {error.lines[0]}"]
    space = values.get("space")
    named = {*train, *(space if isinstance(space, Mapping) else ())}
    train |= {key: run[key] for key in run.keys() - OWN if not _is_named(key, named)}
    data = values.get("data")
    fold = data.get("fold", 0) if isinstance(data, Mapping) else 0
    problems = []
    if run.get("data.fold", 0) != fold and not _is_of_another_program(path):
        problems.append(
            f"{where}: data.fold: {fold}: {path} was trained with fold {run['data.fold']} held "
            "out, and so on the cases of this one"
        )
    return {**values, "train": train}, problems


def _is_of_another_program(path: Path) -> bool:
    """Return whether a folder has exported weights that were trained on no fold of ours."""
    try:
        return bool(from_json((path / "provenance.json").read_bytes()).get("layout"))
    except (OSError, ValueError):
        return False


def _is_named(key: str, named: set[str]) -> bool:
    return any(f"{key}.".startswith(f"{name}.") for name in named)


def _config_of(path: Path) -> Path:
    """Return the config.yaml of a run folder, or of the one that a checkpoint lies in.

    Raises:
        ConfigError: There is none.
    """
    if not path.exists():
        raise ConfigError([f"{path}: no such file or folder"])
    folders = [path] if path.is_dir() else path.parents[:2]
    for folder in folders:
        if (folder / "config.yaml").is_file():
            return folder / "config.yaml"
    raise ConfigError([f"{path}: not of a run: there is no config.yaml"])
