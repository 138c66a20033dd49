"""What is shown of addresses and commands, in which there may be secrets."""

import re
import shlex

MASK = "***"
NAME = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_ADDRESS = re.compile(r"(\w+://)(?:([^/\s?#@'\"]*)@)?([^/\s?#'\"]*)([/?#][^\s'\"]*)?")
_OPTION = re.compile(r"-[A-Za-z]|--[a-z][a-z-]*")


def masked_address(text: str) -> str:
    """Return a text whose addresses have neither user nor path; names of variables stay."""
    return _ADDRESS.sub(_masked, text)


def masked_command(command: str) -> str:
    """Return of a command the program, names of options and words that name a variable.

    A secret can be any other word, and no rule tells which.
    """
    try:
        program, *words = shlex.split(command)
    except ValueError:  # a quotation without an end, or nothing at all
        program, *words = command.split() or [""]
    return " ".join(_quoted(word) for word in (program, *map(_masked_word, words)))


def without_words_of(command: str, said: str) -> str:
    """Return what a command said without the words of it that are not shown."""
    words = {word for word in shlex.split(command)[1:] if _masked_word(word) != word}
    for word in sorted(words, key=len, reverse=True):
        said = said.replace(word, MASK)
    return masked_address(said)


def _masked_word(word: str) -> str:
    is_shown = _OPTION.fullmatch(word) or NAME.search(word) or _ADDRESS.match(word)
    return masked_address(word) if is_shown else MASK


def _quoted(word: str) -> str:
    return shlex.quote(word) if re.search(r"[\s'\"\\]", word) else word


def _masked(found: re.Match[str]) -> str:
    scheme, user, host, rest = found.groups()
    if user:
        user = f"{user if _is_plain(user) else MASK}@"
    if rest and not _is_plain(rest):
        rest = f"/{MASK}"
    return f"{scheme}{user or ''}{host}{rest or ''}"


def _is_plain(text: str) -> bool:
    """Return whether a text holds nothing but names of variables."""
    return not re.sub(r"[/:?=&]", "", NAME.sub("", text))
