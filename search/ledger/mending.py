"""Damage in a ledger, found line by line, and mended where the line's own checksum proves how.

A CRC-32 of a line that differs in one byte from what was written says which byte that is: the
difference of the checksums, run backwards over the bytes after it, fits into eight bits at its
place. Where more than one is wrong that may name a byte as well, seldom in a short line: what comes
out has to be an event too. What an editor does to a line (a byte-order mark, CRLF, blanks) is taken
off as well.
"""

import codecs
import zlib
from pathlib import Path
from typing import NamedTuple

from search.ledger.events import KINDS
from search.ledger.line import SEAL_SIZE, decode, sound

PROVED_BYTES = 64 << 10
"""Of a line, at most: in a longer one, a few wrong bytes too often look like another one."""

_TABLE = [zlib.crc32(bytes([byte])) ^ zlib.crc32(b"\0") for byte in range(256)]
"""What a byte does to the checksum of a line that ends with it."""
_BACK = {value >> 24: index for index, value in enumerate(_TABLE)}


class Damage(NamedTuple):
    """A line that is not as it was written."""

    number: int
    what: str
    mended: bytes | None
    """As it was, None where nothing proves how."""


def damage_in(content: bytes) -> list[Damage]:
    """Return the damaged lines of a ledger; a torn last append is none."""
    *lines, rest = content.split(b"\n")
    found = []
    for number, line in enumerate(lines, start=1):
        if not sound(line):
            mended = mended_line(line)
            shown = "cannot be read" if mended is None else "differs from what was written"
            found.append(Damage(number, f"{shown}: {line[:60]!r}", mended))
    if rest and sound(rest[:-1]):
        found.append(Damage(len(lines) + 1, f"its end is {rest[-1:]!r}", rest[:-1] + b"\n"))
    return found


def mended(path: Path) -> bytes | None:
    """Return a ledger as it was written; None where something in it cannot be proved."""
    content = path.read_bytes()
    *lines, rest = content.split(b"\n")
    for damage in damage_in(content):
        if damage.mended is None:
            return None
        if damage.number > len(lines):
            rest = damage.mended
        else:
            lines[damage.number - 1] = damage.mended
    kept = [line + b"\n" for line in lines if line]
    return b"".join(kept) + rest


def mended_line(line: bytes) -> bytes | None:
    """Return a damaged line as it was written, empty for one that an editor added, or None."""
    bare = line.removeprefix(codecs.BOM_UTF8).rstrip(b" \t\r")
    if not bare or sound(bare):
        return bare
    if joined := _parted(bare):
        return joined
    body, seal = bare[:-SEAL_SIZE], bare[-SEAL_SIZE:]
    written = b',"crc":"%08x"}' % zlib.crc32(body)
    if len(seal) == SEAL_SIZE and _differing(seal, written) == 1:  # the seal alone is damaged
        return body + written
    if len(body) > PROVED_BYTES or not (seal.startswith(b',"crc":"') and seal.endswith(b'"}')):
        return None
    try:
        off = int(seal[8:16], 16) ^ zlib.crc32(body)
    except ValueError:
        return None
    found = [body[:at] + bytes([body[at] ^ bits]) + body[at + 1 :] for at, bits in _byte(body, off)]
    whole = [each + seal for each in found if each.isascii() and _is_event(each + seal)]
    return whole[0] if len(whole) == 1 else None


def _is_event(line: bytes) -> bool:
    try:
        return decode(line)["event"] in KINDS
    except (ValueError, RecursionError, AttributeError):  # AttributeError: JSON, but no object
        return False


def _parted(line: bytes) -> bytes | None:
    """Return two lines whose line end became another byte; None where it is no such thing."""
    at = line.find(b',"crc":"')
    end = at + SEAL_SIZE
    if at < 0 or not (sound(line[:end]) and sound(line[end + 1 :])):
        return None
    return line[:end] + b"\n" + line[end + 1 :]


def _byte(body: bytes, off: int) -> list[tuple[int, int]]:
    """Return where one byte explains a difference of checksums, and which bits of it differ."""
    found = []
    state = off
    for at in range(len(body) - 1, -1, -1):
        index = _BACK[state >> 24]
        state = ((state ^ _TABLE[index]) << 8 | index) & 0xFFFFFFFF
        if state < 256:
            found.append((at, state))
    return found


def _differing(one: bytes, other: bytes) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))
