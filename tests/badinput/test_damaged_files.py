"""A study's ledger and a store that are damaged, and what commands say of them."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from search.ledger.line import encode, seal
from tests.badinput.conftest import STUDIES
from tests.badinput.judge import judge, run

pytestmark = pytest.mark.timeout(240, func_only=True)


def sealed(**event: object) -> bytes:
    return seal(encode({"time": 1.0, "v": 1, "fence": 1, **event}))


def _flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]


LEDGERS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda data: b"", "has no settings"),
    "of zeros": (lambda data: bytes(len(data)), "has no settings|damaged"),
    "text": (lambda data: b"hello\n", "damaged"),
    "a picture": (lambda data: bytes(range(256)) * 9 + b"\n", "damaged"),
    "of an older segtune": (lambda data: b'{"event":"study"}\n', "pre-release"),
    "of a newer segtune": (lambda data: sealed(event="study", v=99), "newer segtune"),
    "with an event to come": (lambda data: data + sealed(event="dreamt"), "newer segtune"),
    "with a damaged byte": (lambda data: _flip(data, len(data) // 2), "damaged"),
    "with a damaged first byte": (lambda data: _flip(data, 0), "damaged"),
    "with a damaged line end": (lambda data: _flip(data, len(data) - 1), "damaged"),
    "without its beginning": (lambda data: data[100:], "damaged"),
    "without its first lines": (
        lambda data: b"".join(data.splitlines(True)[2:]), "has no settings"),
    "with a line twice": (lambda data: data + data.splitlines(True)[-1], "contradicts"),
    "with all lines twice": (lambda data: data + data, "contradicts"),
    "with lines in another order": (
        lambda data: b"".join(data.splitlines(True)[:2] + data.splitlines(True)[:1:-1]),
        "contradicts"),
    "with Windows' lines": (lambda data: data.replace(b"\n", b"\r\n"), "damaged"),
    "with a trial that was never proposed": (
        lambda data: data + sealed(event="started", trial=9), "contradicts"),
    "with half a report": (
        lambda data: data.partition(b'{"event":"reported"')[0] + sealed(event="reported", trial=0),
        "contradicts|'reported' has no epoch"),
    "with settings to come": (
        lambda data: data + sealed(event="study", config={"new": 1}, store_hash=""),
        "new: no such key|required"),
}  # fmt: skip


QUICK_STUDIES = ("status STUDY", "compare STUDY --json")
REST = (*(each for each in STUDIES if each not in QUICK_STUDIES), "launch study.yaml")


@pytest.mark.parametrize(
    "command", [*QUICK_STUDIES, *(pytest.param(each, marks=pytest.mark.slow) for each in REST)]
)
@pytest.mark.parametrize("how", LEDGERS)
def test_a_damaged_ledger(place, command, how):
    damage, says = LEDGERS[how]
    if command.startswith("launch") and how != "of a newer segtune" and says != "contradicts":
        pytest.skip("launch mends or refuses it as tests/search/ledger/test_journal.py says")
    path = place / "runs/demo/ledger.jsonl"
    data = damage(path.read_bytes())
    path.write_bytes(data)
    answer = run(*command.replace("STUDY", "demo").split())
    if command == "stop STUDY":  # asks who writes the ledger, and reads nothing of it
        assert answer.status == 0 and "is not running" in answer.out
        assert not (path.parent / "stop").exists()
        return
    assert judge("commands", answer, path, path.parent, "runs/demo")
    assert re.search(says, answer.lines[0]), answer.lines
    if not command.startswith(("launch", "resume", "retry", "confirm")):
        assert path.read_bytes() == data


def _remove(name: str) -> Callable[[Path], object]:
    return lambda store: (store / name).unlink()


def _write(name: str, data: bytes) -> Callable[[Path], object]:
    return lambda store: (store / name).write_bytes(data)


def _cut(name: str) -> Callable[[Path], object]:
    def cut(store: Path) -> None:
        path = next(store.glob(name))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return cut


def _empty(name: str) -> Callable[[Path], object]:
    return lambda store: next(store.glob(name)).write_bytes(b"")


def _manifest(change: Callable[[dict], object]) -> Callable[[Path], object]:
    def write(store: Path) -> None:
        manifest = json.loads((store / "manifest.json").read_text())
        change(manifest)
        (store / "manifest.json").write_text(json.dumps(manifest))

    return write


STORES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda store: shutil.rmtree(store), "not a prepared store"),
    "a file": (
        lambda store: (shutil.rmtree(store), store.touch()),
        "not a prepared store|Not a directory",
    ),
    "empty": (lambda store: (shutil.rmtree(store), store.mkdir()), "not a prepared store"),
    "without a manifest": (_remove("manifest.json"), "not a prepared store"),
    "without an index": (_remove("slices.arrow"), r"slices\.arrow is missing"),
    "without a case": (
        lambda store: next(store.glob("cases/*.arrow")).unlink(),
        r"sub-stroke\d+\.arrow is missing",
    ),
    "with an empty manifest": (_write("manifest.json", b""), "damaged store: Expecting value"),
    "with a manifest of zeros": (
        _write("manifest.json", bytes(1000)),
        "damaged store: Expecting value",
    ),
    "with a manifest cut short": (
        _cut("manifest.json"),
        "damaged store: (Expecting|Unterminated)",
    ),
    "with a manifest in UTF-16": (
        _write("manifest.json", "{}".encode("utf-16")),
        "damaged store: .*(codec|cases|format)",
    ),
    "with a list as manifest": (
        _write("manifest.json", b"[]"),
        "damaged store: (no JSON object|list)",
    ),
    "with a number as manifest": (
        _write("manifest.json", b"3"),
        "damaged store: (no JSON object|.int.)",
    ),
    "with null as manifest": (
        _write("manifest.json", b"null"),
        "damaged store: (no JSON object|.NoneType.)",
    ),
    "with a deep manifest": (
        _write("manifest.json", b"[" * 100_000),
        "damaged store: maximum recursion",
    ),
    "of another format": (
        _manifest(lambda m: m.update(format="segtune-store-99")),
        "is a segtune-store-99, but must be",
    ),
    "without a format": (_manifest(lambda m: m.pop("format")), "damaged store: 'format'"),
    "without cases": (
        _manifest(lambda m: m.update(cases=[])),
        "fold 0 leaves 0 training and 0 validation cases",
    ),
    "with cases that are none": (
        _manifest(lambda m: m.update(cases=[3])),
        "damaged store: 'int' object",
    ),
    "with cases null": (
        _manifest(lambda m: m.update(cases=None)),
        "damaged store: 'NoneType' object",
    ),
    "with a case without a box": (
        _manifest(lambda m: m["cases"][0].pop("box")),
        "damaged store: 'box'",
    ),
    "with a case of text": (
        _manifest(lambda m: m["cases"][0].update(num_slices="many")),
        "damaged store: unsupported operand",
    ),
    "with a case without slices": (
        _manifest(lambda m: m["cases"][0].update(num_slices=0)),
        "damaged store: range object",
    ),
    "with a case of more slices": (
        _manifest(lambda m: m["cases"][0].update(num_slices=999)),
        "damaged store: cannot reshape",
    ),
    "with a case outside": (
        _manifest(lambda m: m["cases"][0].update(case_id="../../x")),
        "is no file name",
    ),
    "with windows of text": (
        _manifest(lambda m: m["windows"].update(ncct="wide")),
        "damaged store: too many values",
    ),
    "with another image size": (
        _manifest(lambda m: m.update(image_size=64)),
        "damaged store: cannot reshape",
    ),
    "with an image size of text": (
        _manifest(lambda m: m.update(image_size="big")),
        "damaged store: .*(literal for int|as an integer)",
    ),
    "with another modality": (_manifest(lambda m: m["modalities"].append("t1")), "has no image:t1"),
    "with an index cut short": (_cut("slices.arrow"), "Not an Arrow file"),
    "with an empty index": (_empty("slices.arrow"), "File is too small"),
    "with an index of zeros": (_write("slices.arrow", bytes(5000)), "Not an Arrow file"),
    "with a case cut short": (_cut("cases/*.arrow"), "Not an Arrow file"),
    "with an empty case": (_empty("cases/*.arrow"), "File is too small"),
}


@pytest.mark.parametrize("command", ["launch study.yaml study=new", "trainer train config.yaml"])
@pytest.mark.parametrize("how", STORES)
def test_a_damaged_store(place, command, how):
    damage, says = STORES[how]
    damage(place / "store")
    program, *words = (
        command.split() if command.startswith("trainer") else ["segtune", *command.split()]
    )
    answer = run(*words, program=program)
    assert judge("commands", answer, place / "store", "store", "study.yaml: ", "config.yaml: ")
    assert any(re.search(says, line) for line in answer.lines), answer.lines
    assert not (place / "runs/new").exists()
