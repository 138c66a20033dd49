"""`segtune.launch`: what `segtune launch` does, from Python."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from search.storage.studies import begun_under, find_study
from search.study.config import StudyConfig
from search.study.load import load_study, study_from
from search.study.sampler_limits import warnings
from search.study.shipped import find_space
from search.workflows.preview.look_first import look_first
from segtune.places import runs_of
from segtune.studies import Study
from trainer.configfile import ConfigError

IN_PYTHON = "study"
"""How the lines name what is no file."""


def launch(
    study: str | Path | Mapping[str, Any] | StudyConfig,
    runs: str | Path | None = None,
    *,
    overrides: Iterable[str] = (),
    address: str | None = None,
    warm_start: Iterable[str] = (),
) -> Study:
    """Run a study to its end, or continue it where it was interrupted.

    Of a study that runs already, the driver there is asked for what may change.

    Args:
        study: Its YAML file or the name of one that ships, such as `quickstart`; or what such a
            file says, as a dict; or a StudyConfig. Relative paths are those of the current folder.
        runs: The folder of all studies, or s3://BUCKET/PREFIX; by default SEGTUNE_RUNS or `runs`.
        overrides: KEY=VALUE words that change its settings, as on the command line.
        address: A running Ray cluster (host:port); None starts Ray on this machine.
        warm_start: Earlier studies, from whose trials the sampler of a new one learns.

    Returns:
        The study, which has ended or says how it is continued.

    Raises:
        ValueError: The study is not sound, exists with other settings, or cannot run here: the
            lines that the command would print.
        RuntimeError: Its trials only fail, or nothing could be proposed; what was printed says why.
        OSError: The study's folder cannot be written.
    """
    place = runs_of(runs)
    config, where = _config(study, overrides, place)
    looked = look_first(config, where, place / config.study)
    if looked.problems:
        raise ConfigError(looked.problems)
    sources = [find_study(name, place) for name in warm_start]
    for line in warnings(config):
        print(f"{where}: {line}")
    for line in looked.notes:
        print(f"note: {line}")
    from search.workflows.launch import launch as run

    if run(config, place, address, warm_start=sources, weights=looked.weights):
        raise RuntimeError(f"{config.study}: no trial has a result: the lines above say why")
    return Study(place.resolve() / config.study)


def _config(
    study: str | Path | Mapping[str, Any] | StudyConfig, overrides: Iterable[str], runs: Path
) -> tuple[StudyConfig, str]:
    """Return a checked study, and how lines name it."""

    def begun(name: str) -> Any:
        return begun_under(runs / name)

    if isinstance(study, str | Path):
        file = find_space(os.fspath(study))
        return load_study(file, overrides, begun), str(file)
    values = study.model_dump(mode="json") if isinstance(study, StudyConfig) else study
    plain = json.loads(json.dumps(values, default=_plain))  # a copy, with lists for tuples
    return study_from(plain, IN_PYTHON, Path(), overrides, begun), IN_PYTHON


def _plain(value: Any) -> Any:
    """Return what a YAML file could say for a path or a number of NumPy's.

    Raises:
        ConfigError: It could say nothing for it.
    """
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise ConfigError([f"{IN_PYTHON}: {value!r}: must be what a YAML file can say"])
