"""The section `notify` of a study: who is told when it matters; its secrets, and how they are kept.

What follows the host in an address is a secret of its own, since whoever has it may post there, and
so is a user's name and password. So they are in no file that is written, nor in any line: there
`https://hooks.slack.com/services/T0/B0/x` is `https://hooks.slack.com/***`. What a study is to know
when it is continued comes from the environment: SEGTUNE_NOTIFY_WEBHOOK and the like, or `${NAME}`
in an address or a command, which is kept as it is.
"""

import os
import re
import shlex
import shutil
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer

from trainer.configfile import ConfigError, Section

Kind = Literal["end", "broken", "best", "budget"]
KINDS: tuple[Kind, ...] = ("end", "broken", "best", "budget")
Format = Literal["slack", "teams", "ntfy", "discord", "json"]

MASK = "***"
_NAME = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_ADDRESS = re.compile(r"(\w+://)(?:([^/\s?#@'\"]*)@)?([^/\s?#'\"]*)([/?#][^\s'\"]*)?")
_SECRET = re.compile(
    r"(authorization[\"']?\s*[:=]\s*(?:(?:bearer|basic|token)\s+)?"
    r"|\b(?:\w*token|passw\w*|\w*secret|(?:\w*[-_])?key)[\"']?\s*[:=]\s*"
    r"|(?<!\S)--?[\w-]*(?:token|password|passwd|secret|key)\s+"
    r"|(?<!\S)(?:-u|--user)\s+)([^\s\"']+)",
    re.I,
)
FORMATS: tuple[tuple[str, Format], ...] = (
    (r"hooks\.slack(-gov)?\.com", "slack"),
    (r".*\.webhook\.office\.com|.*\.logic\.azure\.(com|us)|.*\.powerplatform\.com", "teams"),
    (r"ntfy\..*", "ntfy"),
    (r"(.*\.)?discord(app)?\.com", "discord"),
)
"""What a webhook takes, by its host."""


def masked(text: str) -> str:
    """Return an address or a command without its secrets; names of variables stay."""
    text = _ADDRESS.sub(_masked_address, text)
    return _SECRET.sub(lambda found: found[1] + _unless_named(found[2]), text)


def _masked_address(found: re.Match[str]) -> str:
    scheme, user, host, rest = found.groups()
    user = f"{_unless_named(user)}@" if user else ""
    rest = rest if not rest or _is_plain(rest) else f"/{MASK}"
    return f"{scheme}{user}{host}{rest or ''}"


def _unless_named(secret: str) -> str:
    return secret if _is_plain(secret) else MASK


def _is_plain(text: str) -> bool:
    """Return whether a text holds nothing but names of variables."""
    return not re.sub(r"[/:?=&]", "", _NAME.sub("", text))


def _text(value: Any) -> Any:
    if value is not None and not (isinstance(value, str) and value.strip()):
        raise ValueError("must be text")  # what else it is may be a secret
    return value


def _address(value: str | None) -> str | None:
    if value is not None and not (_NAME.search(value) or MASK in value):
        _check_address(value)
    return value


def _check_address(value: str) -> None:
    rule = "must be an address, as https://HOST/…"
    try:
        parts = urlsplit(value)
        well = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        well = False
    if not well or not value.isascii() or any(c.isspace() or not c.isprintable() for c in value):
        raise ValueError(f"{masked(value) if '://' in value else MASK}: {rule}")


def _command(value: str | None) -> str | None:
    if value is not None:
        try:
            shlex.split(value)
        except ValueError as error:
            raise ValueError(f"{masked(value)}: {str(error).lower()}") from None
    return value


_MASKED = PlainSerializer(lambda text: text and masked(text), when_used="json")
Address = Annotated[
    str | None, BeforeValidator(_text), AfterValidator(_address), _MASKED, Field(repr=False)
]
Command = Annotated[
    str | None, BeforeValidator(_text), AfterValidator(_command), _MASKED, Field(repr=False)
]


class Notify(Section):
    """Who is told when it matters; secrets are masked wherever they are shown or kept."""

    webhook: Address = None
    """Address to which a message is posted: of Slack, Teams, ntfy, Discord, or one's own program.
    SEGTUNE_NOTIFY_WEBHOOK goes first; `${NAME}` is read from the environment."""
    format: Format | None = None
    """What the webhook takes; null goes by its host, and is json where that says nothing."""
    command: Command = None
    """Program that is run with a message as JSON on stdin and as SEGTUNE_… variables; not in a
    shell. SEGTUNE_NOTIFY_COMMAND goes first."""
    heartbeat: Address = None
    """Address that is asked for about once a minute while trials make progress, as healthchecks.io
    and others want it. SEGTUNE_NOTIFY_HEARTBEAT goes first."""
    on: tuple[Kind, ...] = KINDS
    """What is told: its end, that it is broken, a new best, the end of a budget."""


def a_section(value: Any) -> Any:
    """Return what may be a section; else its text may be a secret, and is not to be shown.

    Raises:
        ValueError: It is none.
    """
    if not isinstance(value, Mapping | Notify):
        raise ValueError(f"must be a section with {', '.join(Notify.model_fields)}")
    return value


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
            told.append(f"{masked(self.webhook)} ({self.format})")
        if self.command:
            told.append(f"`{masked(self.command)}`")
        parts = [f"{', '.join(self.on) or 'nothing'}: {' and '.join(told)}"] if told else []
        if self.heartbeat:
            parts.append(f"heartbeat: {masked(self.heartbeat)}")
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
            missing = [each for each in _NAME.findall(given) if not environment.get(each)]
            if missing or MASK in given:
                why = (
                    f"the environment has no {' and no '.join(missing)}"
                    if missing
                    else "the secret that was here is in no file of the study"
                )
                notes.append(f"{where}: {masked(given)}: {why}: not used; {variable} names another")
                continue
            text = _NAME.sub(lambda each: environment[each[1]], given)
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
            _check_address(text)
            return
        _command(text)
    except ValueError as error:
        raise ConfigError([f"{where}: {error}"]) from None
    program = shlex.split(text)[0]
    if shutil.which(program) is None:
        raise ConfigError([f"{where}: {masked(program)}: no such program, or it cannot be run"])
