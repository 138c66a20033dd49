"""The section `notify` of a study: who is told when it matters; its secrets, and how they are kept.

What follows the host in an address is a secret of its own, since whoever has it may post there, and
so is a user's name and password; in a command any word may be one. So they are in no file that is
written, nor in any line: there `https://hooks.slack.com/services/T0/B0/x` is
`https://hooks.slack.com/***`, and `tell --token x` is `tell --token ***`. What a study is to know
when it is continued comes from the environment: SEGTUNE_NOTIFY_WEBHOOK and the like, or `${NAME}`
in an address or a command, which is kept as it is.
"""

import shlex
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer

from search.study.notify.masks import MASK, NAME, masked_address, masked_command
from trainer.configfile import Section

Kind = Literal["end", "broken", "best", "budget"]
KINDS: tuple[Kind, ...] = ("end", "broken", "best", "budget")
Format = Literal["slack", "teams", "ntfy", "discord", "json"]


def _text(value: Any) -> Any:
    if value is not None and not (isinstance(value, str) and value.strip()):
        raise ValueError("must be text")  # what else it is may be a secret
    return value


def _address(value: str | None) -> str | None:
    if value is not None and not (NAME.search(value) or MASK in value):
        check_address(value)
    return value


def check_address(value: str) -> None:
    """Check that a text is an address.

    Raises:
        ValueError: It is none; the text has no secrets.
    """
    rule = "must be an address, as https://HOST/…"
    try:
        parts = urlsplit(value)
        well = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        well = False
    if not well or not value.isascii() or any(c.isspace() or not c.isprintable() for c in value):
        raise ValueError(f"{masked_address(value) if '://' in value else MASK}: {rule}")


def check_command(value: str | None) -> str | None:
    """Return a command whose words can be told apart.

    Raises:
        ValueError: They cannot; the text has no secrets.
    """
    if value is not None:
        try:
            shlex.split(value)
        except ValueError as error:
            raise ValueError(f"{masked_command(value)}: {str(error).lower()}") from None
    return value


Address = Annotated[
    str | None,
    BeforeValidator(_text),
    AfterValidator(_address),
    PlainSerializer(lambda text: text and masked_address(text), when_used="json"),
    Field(repr=False),
]
Command = Annotated[
    str | None,
    BeforeValidator(_text),
    AfterValidator(check_command),
    PlainSerializer(lambda text: text and masked_command(text), when_used="json"),
    Field(repr=False),
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
