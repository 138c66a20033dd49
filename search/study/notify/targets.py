"""Who is told of a study, with all secrets: by the environment, else by the study."""

import os
import re
import shlex
import shutil
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from search.study.notify.masks import MASK, NAME, masked_address, masked_command
from search.study.notify.section import (
    KINDS,
    Format,
    Kind,
    Notify,
    check_address,
    check_command,
)
from trainer.configfile import ConfigError

FORMATS: tuple[tuple[str, Format], ...] = (
    (r"hooks\.slack(-gov)?\.com", "slack"),
    (r".*\.webhook\.office\.com|.*\.logic\.azure\.(com|us)|.*\.powerplatform\.com", "teams"),
    (r"ntfy\..*", "ntfy"),
    (r"(.*\.)?discord(app)?\.com", "discord"),
)
"""What a webhook takes, by its host."""


class Targets(NamedTuple):
    """Who is told, with all secrets."""

    webhook: str = ""
    format: Format = "json"
    command: str = ""
    heartbeat: str = ""
    on: tuple[Kind, ...] = KINDS
    notes: tuple[str, ...] = ()
    """Who is not, and why."""

    def __bool__(self) -> bool:
        return bool(self.webhook or self.command or self.heartbeat)

    def __repr__(self) -> str:
        return f"Targets({self.in_words()})"

    def in_words(self) -> str:
        """Return who is told what, without secrets."""
        told = []
        if self.webhook:
            told.append(f"{masked_address(self.webhook)} ({self.format})")
        if self.command:
            told.append(f"`{masked_command(self.command)}`")
        parts = [f"{', '.join(self.on) or 'nothing'}: {' and '.join(told)}"] if told else []
        if self.heartbeat:
            parts.append(f"heartbeat: {masked_address(self.heartbeat)}")
        return "; ".join(parts)


def targets(notify: Notify, environment: Mapping[str, str] = os.environ) -> Targets:
    """Return who is told, by the environment, and where that is silent, by the study.

    Raises:
        ConfigError: An address is none, or there is no such program.
    """
    found: dict[str, str] = {}
    notes = []
    for name in ("webhook", "command", "heartbeat"):
        variable = f"SEGTUNE_NOTIFY_{name.upper()}"
        where, text = variable, environment.get(variable, "").strip()
        if not text and (given := getattr(notify, name)):
            where = f"notify.{name}"
            missing = [each for each in NAME.findall(given) if not environment.get(each)]
            if missing or MASK in given:
                why = (
                    f"the environment has no {' and no '.join(missing)}"
                    if missing
                    else "the secret that was here is in no file of the study"
                )
                shown = masked_command(given) if name == "command" else masked_address(given)
                notes.append(f"{where}: {shown}: {why}: not used; {variable} names another")
                continue
            text = NAME.sub(lambda each: environment[each[1]], given)
        if text:
            _check(name, text, where)
            found[name] = text
    host = urlsplit(found.get("webhook", "")).hostname or ""
    by_host: list[Format] = [form for hosts, form in FORMATS if re.fullmatch(hosts, host)]
    form = notify.format or (by_host[0] if by_host else "json")
    return Targets(**found, format=form, on=notify.on, notes=tuple(notes))


def _check(name: str, text: str, where: str) -> None:
    try:
        if name != "command":
            check_address(text)
            return
        check_command(text)
    except ValueError as error:
        raise ConfigError([f"{where}: {error}"]) from None
    program = shlex.split(text)[0]
    if shutil.which(program) is None:
        shown = masked_command(program)
        raise ConfigError([f"{where}: {shown}: no such program, or it cannot be run"])
