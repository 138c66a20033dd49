"""Secrets in addresses and commands, and what is shown in their place."""

import re

MASK = "***"
NAME = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_ADDRESS = re.compile(r"(\w+://)(?:([^/\s?#@'\"]*)@)?([^/\s?#'\"]*)([/?#][^\s'\"]*)?")
_SECRET = re.compile(
    r"(authorization[\"']?\s*[:=]\s*(?:(?:bearer|basic|token)\s+)?"
    r"|\b(?:\w*token|passw\w*|\w*secret|(?:\w*[-_])?key)[\"']?\s*[:=]\s*"
    r"|(?<!\S)--?[\w-]*(?:token|password|passwd|secret|key)\s+"
    r"|(?<!\S)(?:-u|--user)\s+)([^\s\"']+)",
    re.I,
)


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
    return not re.sub(r"[/:?=&]", "", NAME.sub("", text))
