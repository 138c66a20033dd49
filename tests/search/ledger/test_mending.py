"""A damaged line of a ledger is mended where its checksum proves how, and else is not."""

import random
import zlib
from pathlib import Path

import pytest

from search.ledger.journal import Ledger
from search.ledger.line import seal
from search.ledger.mending import damage_in, mended, mended_line

LONG = "x" * 5000


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.jsonl"
    with Ledger.open(path, writer=True) as file:
        file.append(*({"event": "note", "trial": 0, "text": text} for text in (LONG, "two")))
        scores = {"value": 0.5, "metrics": {"val/dice": 0.25}}
        file.append({"event": "reported", "trial": 0, "epoch": 1, **scores})
    return path


@pytest.mark.parametrize("seed", range(4))
def test_any_one_byte_is_proved_by_the_checksum(ledger: Path, seed: int) -> None:
    rng, whole = random.Random(seed), ledger.read_bytes()
    for _ in range(50):
        at = rng.randrange(len(whole) - 1)
        other = rng.choice([b for b in range(256) if b not in (whole[at], ord("\n"))])
        ledger.write_bytes(whole[:at] + bytes([other]) + whole[at + 1 :])
        with pytest.raises(ValueError, match="damaged"):
            Ledger.open(ledger, writer=False)
        assert len(damage_in(ledger.read_bytes())) == 1
        assert mended(ledger) == whole, (at, other)


def test_what_an_editor_left_is_taken_off(ledger: Path) -> None:
    whole = ledger.read_bytes()
    ledger.write_bytes(b"\xef\xbb\xbf" + whole.replace(b"\n", b"\r\n") + b"\n")
    assert mended(ledger) == whole


def test_what_is_zeroed_is_not_made_up(ledger: Path) -> None:
    whole = ledger.read_bytes()
    ledger.write_bytes(whole[:200] + bytes(64) + whole[264:])
    [damage] = damage_in(ledger.read_bytes())
    assert (damage.number, damage.mended) == (2, None) and mended(ledger) is None
    assert mended_line(bytes(300)) is None


@pytest.mark.parametrize(
    "text",
    [
        '{"event":"note","text":"two"',
        '{"event":"nonsense","text":"two"}',
        '{"event":"note","text":"%s"}' % ("x" * (64 << 10)),
    ],
)
def test_a_checksum_alone_proves_nothing(text: str) -> None:
    body = text.removesuffix("}").encode() + (b"" if text.endswith("}") else b',"x')
    line = body + b',"crc":"%08x"}' % zlib.crc32(body)
    assert mended_line(line) == line
    assert mended_line(line.replace(b"t", b"T", 1)) is None


def test_one_byte_of_an_event_is_proved() -> None:
    line = seal('{"event":"note","text":"two"}').rstrip()
    assert mended_line(line.replace(b"two", b"tWo")) == line
