"""Pseudonyms of cases and patients: the same for the same name everywhere, by a key nobody has.

A pseudonym is an HMAC-SHA256 of the name under a random key of 32 bytes. Unless it is written to a
file (`--key-file`), the key is forgotten, and nobody can go back or try names.

How a name is found in text depends on how much of a name it is:

- distinctive (`sub-stroke0001`): six characters or more with letters and digits, found anywhere,
  within longer words too, whatever its case
- a word (`P01`, `mueller`, `1000345`): found where no letter or digit stands beside it
- common (`7`, `2024`, `ct`): found only as the whole of a text that stands for a case, and as a
  word in what people wrote (`text` of notes), since elsewhere it is any number or word
"""

import hmac
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

CASE_KEYS = frozenset({
    "case_id", "case", "cases", "patient", "patients", "missing", "dice", "test", "folds", "val",
    "elsewhere", "skipped", "images", "names",
})  # fmt: skip
"""Keys of JSON below which texts, and the keys of mappings, stand for cases."""
TEXT_KEYS = frozenset({"text", "notes", "said", "skipped"})
"""Below which people, or `prepare`, wrote sentences."""
DIGITS = 12
"""Hexadecimal, of a pseudonym: 48 bits."""


class Pseudonyms:
    """A pseudonym for each name.

    Args:
        names: Of cases and patients.
        key: Under which they are made.
    """

    def __init__(self, names: Iterable[str], key: bytes):
        self._of = {
            name: f"case-{hmac.new(key, name.encode(), 'sha256').hexdigest()[:DIGITS]}"
            for name in sorted(set(names))
        }
        self._folded = {name.casefold(): pseudonym for name, pseudonym in self._of.items()}
        for name in self._of:  # a patient is called as its only case is, in small letters
            if name == name.casefold():
                continue
            if name.casefold() in self._of:
                self._of[name.casefold()] = self._of[name]
                self._folded[name.casefold()] = self._of[name]
        for name, pseudonym in [*self._of.items()]:  # as file systems and addresses write it
            for form in (
                *(unicodedata.normalize(kind, name) for kind in ("NFC", "NFD")),
                quote(name),
            ):
                self._of.setdefault(form, pseudonym)
                self._folded.setdefault(form.casefold(), pseudonym)
        distinctive = [name for name in self._of if _is_distinctive(name)]
        words = [name for name in self._of if not _is_distinctive(name) and not is_common(name)]
        self.common = [name for name in self._of if is_common(name)]
        """Names that are not looked for in all texts."""
        self._anywhere = _pattern(distinctive, "{}")
        self._words = _pattern(words, _WORD)
        self._in_prose = _pattern(self.common, _WORD)

    def of(self, name: str) -> str:
        """Return the pseudonym of a name, whatever its case."""
        if found := self._of.get(name) or self._folded.get(name.casefold()):
            return found
        alike = (each for each in self._of if re.fullmatch(re.escape(each), name, re.IGNORECASE))
        return self._of[next(alike)]  # letters that a pattern takes for one, and casefold does not

    def text(self, text: str, *, key: str = "", prose: bool = False) -> str:
        """Return a text with pseudonyms instead of names.

        Args:
            text: Anything.
            key: One of CASE_KEYS where the text stands for a case.
            prose: Whether a person wrote it.
        """
        if key in CASE_KEYS and (text in self._of or text.casefold() in self._folded):
            return self.of(text)
        for pattern in (self._anywhere, self._words, self._in_prose if prose else None):
            if pattern:
                text = pattern.sub(lambda found: self.of(found[0]), text)
        return text

    def value(self, value: Any, key: str = "", *, prose: bool = False) -> Any:
        """Return a JSON value with pseudonyms in its texts and keys; lists by case are sorted anew.

        Args:
            value: What `json` reads.
            key: The nearest key of CASE_KEYS above it.
            prose: Whether one of TEXT_KEYS is above it.
        """
        if isinstance(value, str):
            return self.text(value, key=key, prose=prose)
        if isinstance(value, Mapping):
            new = {
                self.text(str(name), key=key): self.value(
                    each,
                    str(name) if name in CASE_KEYS else key,
                    prose=prose or name in TEXT_KEYS,
                )
                for name, each in value.items()
            }
            changed = new.keys() != {str(name) for name in value}
            return dict(sorted(new.items())) if changed else new
        if isinstance(value, list | tuple):
            items = [self.value(each, key, prose=prose) for each in value]
            if all(isinstance(each, Mapping) and "case_id" in each for each in items):
                return sorted(items, key=lambda each: str(each["case_id"]))
            if all(isinstance(each, str) for each in items) and items != list(value):
                return sorted(items)
            return items
        return value

    def left_in(self, value: Any, key: str = "", *, prose: bool = False) -> Iterator[str]:
        """Yield the names that are left in a JSON value, each where `value` would replace it."""
        for text, at, in_prose in _texts(value, key, prose):
            if at in CASE_KEYS and text in self._of:
                yield text
            for pattern in (self._anywhere, self._words, self._in_prose if in_prose else None):
                if pattern and (found := pattern.search(text)):
                    yield found[0]


def alike_but_for_case(names: Iterable[str]) -> list[str]:
    """Return the names of cases that would have one pseudonym: they differ in capitals alone."""
    names = sorted(set(names))
    counts = Counter(name.casefold() for name in names)
    return [name for name in names if counts[name.casefold()] > 1]


_WORD = r"(?<![^\W_]){}(?![^\W_])"


def _is_distinctive(name: str) -> bool:
    """Return whether a name is hardly anything else, wherever it stands."""
    return len(name) >= 6 and bool(re.search(r"\d", name) and re.search(r"[^\W\d_]", name))


def is_common(name: str) -> bool:
    """Return whether a name may be any number or word."""
    return len(name) < 3 or (name.isdecimal() and len(name) < 6)


def _pattern(names: list[str], form: str) -> re.Pattern[str] | None:
    """Return what finds the longest of names that begin at a place; None for no names."""
    if not names:
        return None
    longest = sorted(names, key=len, reverse=True)
    return re.compile(form.format(f"(?:{'|'.join(map(re.escape, longest))})"), re.IGNORECASE)


def _texts(value: Any, key: str, prose: bool) -> Iterator[tuple[str, str, bool]]:
    """Yield the texts of a JSON value, keys included, with where they stand as for `value`."""
    if isinstance(value, str):
        yield value, key, prose
    elif isinstance(value, Mapping):
        for name, each in value.items():
            yield str(name), key, False
            at = str(name) if name in CASE_KEYS else key
            yield from _texts(each, at, prose or name in TEXT_KEYS)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each, key, prose)
