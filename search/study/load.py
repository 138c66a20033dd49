"""A study read from its file, with the command line's overrides and every problem in one line."""

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from search.study.checks import OWNED, check, no_dimension, setting_problem
from search.study.config import StudyConfig
from search.study.init_from import inherited
from search.study.old_keys import HANG_TIMEOUT, origins, renamed
from search.study.own_settings import own_settings
from search.study.reference import dotted
from search.study.semantics import Frozen
from search.study.space import Dimension
from trainer.config import TrainConfig
from trainer.configfile import (
    ConfigError,
    build,
    did_you_mean,
    field_names,
    nest,
    parse_overrides,
    read_yaml,
)
from trainer.old_names import note_old_names


def load_study(
    path: str | Path,
    overrides: Iterable[str] = (),
    begun: Callable[[str], Frozen | None] = lambda name: None,
    *,
    runs_here: bool = True,
) -> StudyConfig:
    """Read and check a study's file.

    Arguments are those of `study_from`.

    Raises:
        ConfigError: One line for every problem.
    """
    beside = Path(path).parent
    return study_from(read_yaml(path), str(path), beside, overrides, begun, runs_here=runs_here)


def study_from(
    values: dict[str, Any],
    path: str,
    beside: Path,
    overrides: Iterable[str] = (),
    begun: Callable[[str], Frozen | None] = lambda name: None,
    *,
    runs_here: bool = True,
) -> StudyConfig:
    """Check a study as its file has it; an old key is a note on stderr.

    One that trains nothing has the settings that it does not name of the run whose weights it
    validates (search/study/init_from.py).

    Args:
        values: What the file says; changed by the overrides.
        path: The YAML file, to name it by.
        beside: The folder in which a trainer of its own may lie.
        overrides: `KEY=VALUE` words for any key, e.g. `scheduler.max_t=9`, `train.model.width=16`,
            `space.optimizer.lr.low=1e-5`; `space.optimizer.lr=null` takes a dimension out.
        begun: Returns what the study of a name was begun under, None where there is none.
        runs_here: Whether a trainer of its own is to be found here; else its cluster checks it.

    Raises:
        ConfigError: One line for every problem.
    """
    values, given = _rename_hang_timeout(values, parse_overrides(overrides), path)
    problems = _override(values, given)
    own = bool(values.get("trainer"))
    for section in () if own else ("train", "control"):
        if isinstance(settings := values.get(section), Mapping):
            note_old_names(settings, f"{path}: {section}.")
    if not own:
        values, unfit = inherited(values, path)
        problems += unfit
    study, broken = _build(values, path)
    if "study" not in broken:
        study = study.under(begun(study.study))
    if study.trainer and "trainer" not in broken and not runs_here:
        if study.trainer.folder is None:
            rule = "required with --submit: where it lies, as the cluster sees it"
            problems.append(f"{path}: trainer.folder: {rule}")
    elif study.trainer and "trainer" not in broken:
        try:
            study = with_its_trainer(study, beside)
        except ConfigError as error:
            problems += [f"{path}: {line}" for line in error.lines]
    problems += "\n".join(broken.values()).splitlines() + check(study, path, broken)
    if problems:
        for key, old in origins(values).items():
            problems = [line.replace(f"{path}: {key}", f"{path}: {old}", 1) for line in problems]
        raise ConfigError(_blame(problems, path, given))
    return study


def with_its_trainer(study: StudyConfig, beside: Path) -> StudyConfig:
    """Return a study with a trainer of its own, which is found and imported; another as it is.

    Args:
        study: From its file, or from its ledger.
        beside: The folder of its file.

    Raises:
        ConfigError: What it names is not there, or has no more what the study froze.
    """
    if study.trainer is None:
        return study
    trainer = study.trainer.located(beside)
    if problem := trainer.missing():
        raise ConfigError([problem])
    schema = own_settings(trainer)
    if study.frozen and (gone := [n for n in study.frozen.settings if schema.problem(n)]):
        raise ConfigError(
            [f"trainer.settings: has no {gone[0]} any more, with which this study was begun"]
        )
    return study.model_copy(update={"trainer": trainer}).checked_by(schema)


def _rename_hang_timeout(
    values: dict[str, Any], given: dict[str, Any], path: str | Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a file's values and the overrides without `trials.silence_s`, noting where it was."""
    old, new = HANG_TIMEOUT
    trials = values.get("trials")
    for where, section in ((path, trials), ("command line", nest(given).get("trials"))):
        if isinstance(section, Mapping) and old in section:
            rule = f"{where}: trials.{old}: is trials.{new} now"
            if new in section:
                raise ConfigError([f"{rule}, which is given too; give it alone"])
            print(f"note: {rule}", file=sys.stderr)
    if isinstance(trials, Mapping):
        values = {**values, "trials": renamed(trials, old, new)}
    return values, renamed(given, f"trials.{old}", f"trials.{new}")


def _override(values: dict[str, Any], given: Mapping[str, Any]) -> list[str]:
    """Apply overrides to raw values; `train` and `space` have dotted keys of their own."""
    problems = []
    for key, value in given.items():
        head, _, rest = key.partition(".")
        section = values.get(head)
        if head not in StudyConfig.model_fields:
            hint = did_you_mean(key, [*field_names(StudyConfig), *_IN_TRAIN])
            problems.append(f"command line: {key}: no such key{hint}")
        elif not rest:
            values[head] = value
        elif head in ("train", "control"):
            values[head] = {**(dotted(section) or {}), rest: value}
        elif head == "space" and isinstance(section, dict):
            problems += _override_dimension(section, rest, value)
        else:
            values[head] = nest({rest: value}, section if isinstance(section, dict) else None)
    return problems


def _override_dimension(space: dict[str, Any], key: str, value: Any) -> list[str]:
    """Set, add or (null) take out a dimension, or set one of its attributes."""
    name = next((name for name in space if key == name or key.startswith(f"{name}.")), None)
    if value is None and name == key:
        del space[name]
    elif name == key or (name is None and isinstance(value, dict)):
        space[key] = value
    elif name is None or not isinstance(space[name], dict):
        hint = did_you_mean(key.rpartition(".")[0], space)
        return [f"command line: space.{key}: no such dimension{hint}"]
    else:
        attribute, _, condition = key.removeprefix(f"{name}.").partition(".")
        if condition:
            below = space[name].get(attribute)
            value = {**(below if isinstance(below, Mapping) else {}), condition: value}
        space[name] = {**space[name], attribute: value}
    return []


_IN_TRAIN = [f"train.{name}" for name in field_names(TrainConfig) if name not in OWNED]

_STAND_INS = {
    "study": "study",
    "space": {},
    "trials": {"num_trials": 1},
}


def _build(values: Mapping[str, Any], where: str) -> tuple[StudyConfig, dict[str, str]]:
    """Validate raw values.

    Returns:
        The study, with defaults or stand-ins for the parts that are broken so that the others can
        still be checked, and the problem of each broken part, by its key.
    """
    broken: dict[str, str] = {}
    own = bool(values.get("trainer"))
    space = values.get("space")
    if isinstance(space, Mapping):
        dimensions = {}
        for name, dimension in space.items():
            # Each dimension apart, so that an error names it as a whole.
            key = f"{where}: space.{name}"
            try:
                if not isinstance(dimension, Mapping):
                    raise ConfigError([f"{key}: {no_dimension(str(name), dimension, own=own)}"])
                dimensions[str(name)] = build(Dimension, dimension, key)
            except ConfigError as error:
                broken[f"space.{name}"] = "\n".join(
                    _about(str(name), dimension, error, key, own=own)
                )
        values = {**values, "space": dimensions}
    try:
        return build(StudyConfig, values, where, _IN_TRAIN), broken
    except ConfigError as error:
        for line in error.lines:
            head = line.removeprefix(f"{where}: ").split(": ")[0].split(".")[0]
            broken[head] = f"{broken[head]}\n{line}" if head in broken else line
        names = StudyConfig.model_fields.keys() - broken.keys()
        sound = {key: value for key, value in values.items() if key in names}
        return StudyConfig.model_validate({**_STAND_INS, **sound}), broken


def _about(name: str, dimension: Any, error: ConfigError, where: str, *, own: bool) -> list[str]:
    """Return the lines about a broken dimension; of one that is a section, what is below it."""
    below = dimension if isinstance(dimension, Mapping) else {}
    inner = [key for key, value in below.items() if isinstance(value, Mapping) and "type" in value]
    if inner:
        return [f"{where}: must be dotted, a line each: {name}.{inner[0]}: {{type: …}}"]
    wrong_name = setting_problem(name) if below and not own else ""
    log = " with log: true" if "log" in str(below.get("type")).lower() else ""
    lines = [
        line.replace("did you mean float?", f"did you mean float{log}?") for line in error.lines
    ]
    return [*lines, *([f"{where}: {wrong_name}"] if wrong_name else ())]


def _blame(lines: Iterable[str], path: str, given: Mapping[str, Any]) -> list[str]:
    """Name the command line where a problem's key came from there; each line once."""
    blamed = []
    for line in lines:
        key = line.removeprefix(f"{path}: ").split(": ")[0]
        if line.startswith(f"{path}: ") and any(
            f"{key}.".startswith(f"{word}.") or word.startswith(f"{key}.") for word in given
        ):
            line = f"command line: {line.removeprefix(f'{path}: ')}"
        blamed.append(line)
    return list(dict.fromkeys(blamed))
