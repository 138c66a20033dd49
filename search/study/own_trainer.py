"""The section `trainer` of a study file: a trainer of one's own, in Python or any program."""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, model_validator

from trainer.config import absolute
from trainer.configfile import Section, did_you_mean, flatten, quoted

PLACEHOLDERS = {
    "python": "the Python that runs segtune",
    "config": "a YAML file of the trial's settings, nested at their dots, with epochs and seed",
    "overrides": "the settings as words, KEY=VALUE each, as Hydra reads them",
    "run_dir": "the trial's folder, absolute",
    "epochs": "to how many epochs it is to train",
    "seed": "of this training",
    "trial": "its number",
    "cpus": "that it may use",
    "gpus": "that it may use; which ones is in CUDA_VISIBLE_DEVICES",
    "store": "data.store, where it is on this node",
    "fold": "data.fold of this training",
}
"""What a command's words may have in braces; the last two only in a study with `data`."""
OF_DATA = ("store", "fold")

_BRACES = re.compile(r"\{\{|\}\}|\{(\w+)\}")
_NAME = r"[A-Za-z_]\w*"
_PLACE = re.compile(rf"{_NAME}(\.{_NAME})*:{_NAME}(\.{_NAME})*")


def _place(text: str) -> str:
    if not _PLACE.fullmatch(text):
        raise ValueError(f"{quoted(text)}: must be module:name, as in my_package.train:fit")
    return text


def _place_or_file(text: str) -> str:
    return text if text.endswith((".yaml", ".yml")) else _place(text)


def _command(text: str) -> str:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ValueError(f"{quoted(text)}: {str(error).lower()}") from error
    if not words:
        raise ValueError(f"{quoted(text)}: must be a program and its words")
    for word in words:
        for name in _BRACES.findall(word):
            if name and name not in PLACEHOLDERS:
                near = did_you_mean(name, PLACEHOLDERS).replace("mean ", "mean {").rstrip("?")
                near = f"{near}}}?" if near else ""
                known = ", ".join(f"{{{each}}}" for each in PLACEHOLDERS)
                raise ValueError(
                    f"{quoted('{' + name + '}')}: must be one of {known}; braces that are meant "
                    f"are written {{{{{name}}}}}{near}"
                )
        if "{overrides}" in word and word != "{overrides}":
            raise ValueError(f"{quoted(word)}: {{overrides}} is many words: it must stand alone")
    return text


class OwnTrainer(Section):
    """A trainer that is not segtune's: docs/own_trainer.md is the contract."""

    python: Annotated[str, AfterValidator(_place)] | None = None
    """`module:function`: a generator `fit(config, run_dir, received=…)` of validations."""
    command: Annotated[str, AfterValidator(_command)] | None = None
    """A program and its words, run without a shell; {python}, {config}, {overrides}, {run_dir},
    {epochs}, {seed}, {trial}, {cpus}, {gpus}, and with `data` {store} and {fold} are filled in."""
    settings: Annotated[str, AfterValidator(_place_or_file)] | None = None
    """What the study's settings are checked against, and their defaults: `module:Name` of a
    pydantic model, a dataclass or a dict, or a YAML file. By default what `config` of the Python
    function is annotated with; without any, `train` and `space` may name anything."""
    folder: Annotated[str, AfterValidator(absolute)] | None = None
    """Where the program runs, or Python finds the module; all nodes must see it. By default the
    study file's folder where what is named lies there, else the one in which `launch` is
    started."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.python is None) == (self.command is None):
            what = "both are" if self.python else "neither is"
            raise ValueError(f"needs either python or command, but {what} given")
        return self

    @property
    def name(self) -> str:
        """What it is called in lines: the function's place, or the program and its script."""
        if self.python:
            return self.python
        words = shlex.split((self.command or "").replace("{python}", "python"))
        return " ".join([words[0], *(word for word in words[1:2] if not word.startswith("-"))])

    def told(self, name: str) -> bool:
        """Return whether the trainer hears of one of PLACEHOLDERS."""
        given = set(_BRACES.findall(self.command or ""))
        return self.command is None or bool(given & {name, "config"})

    def located(self, beside: Path) -> Self:
        """Return it with its folder: as given, the study file's, or the current one.

        The former first, so that a study goes on with the same from wherever it is launched.

        Args:
            beside: The study file's folder.
        """
        if self.folder is not None:
            return self
        beside, here = beside.resolve(), Path.cwd()
        folder = beside if self._lies_in(beside) else here
        return self.model_copy(update={"folder": absolute(str(folder))})

    def _lies_in(self, folder: Path) -> bool:
        """Return whether a folder has a file or a package that is named."""
        if self.command:
            words = [w for w in shlex.split(self.command) if "{" not in w and not w.startswith("-")]
            return any((folder / word).is_file() for word in words)
        top = (self.python or "").partition(":")[0].partition(".")[0]
        return (folder / f"{top}.py").is_file() or (folder / top).is_dir()

    def missing(self) -> str:
        """Return what of the command is not there; empty where all is, as far as can be told."""
        if self.command is None:
            return ""
        folder = Path(self.folder or ".")
        if not folder.is_dir():
            return f"trainer.folder: {folder}: no such folder"
        program, *words = shlex.split(self.command.replace("{python}", sys.executable))
        there = folder / program if "/" in program else shutil.which(program)
        if not (there and os.access(there, os.X_OK)):
            return f"trainer.command: {program}: no such program, or not executable, in {folder}"
        script = words[0] if words and re.fullmatch(r"[\w./+-]+\.(py|sh|R|jl|pl)", words[0]) else ""
        if script and not (folder / script).is_file():
            return f"trainer.command: {script}: no such file in {folder} (trainer.folder)"
        return ""

    def words(self, values: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
        """Return the words of the command for a trial.

        Args:
            values: Of PLACEHOLDERS but overrides.
            settings: For `{overrides}`, nested or dotted.
        """
        found = []
        for word in shlex.split(self.command or ""):
            if word == "{overrides}":
                found += override_words(settings)
            else:
                found.append(_BRACES.sub(lambda brace: _filled(brace, values), word))
        return found


def _filled(brace: "re.Match[str]", values: Mapping[str, Any]) -> str:
    name = brace[1]
    return str(values[name]) if name else brace[0][0]


def override_words(settings: Mapping[str, Any]) -> list[str]:
    """Return settings as words in Hydra's grammar: `optimizer.lr=0.001`, `name='a b'`."""
    return [f"{name}={_hydra(value)}" for name, value in flatten(settings).items()]


_PLAIN = re.compile(r"[A-Za-z_/.~][\w/.:@%+~-]*")
_OTHER_TYPES = {"null", "true", "false", "nan", "inf"}


def _hydra(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case list() | tuple():
            return f"[{','.join(map(_hydra, value))}]"
        case Mapping():
            return f"{{{','.join(f'{key}:{_hydra(each)}' for key, each in value.items())}}}"
    text = str(value)
    if _PLAIN.fullmatch(text) and text.lower() not in _OTHER_TYPES and not _is_number(text):
        return text
    # Backslashes count only before a quote, where they are doubled.
    escaped = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), text)
    return f"'{escaped}'"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
