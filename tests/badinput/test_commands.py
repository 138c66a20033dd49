"""Commands that ask for what is not there, of studies, stores and runs that are damaged."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from search.ledger.journal import Ledger
from search.ledger.line import encode, seal
from search.study.config import StudyConfig
from search.study.frozen import birth
from tests.badinput import study_files
from tests.badinput.judge import Answer, judge, run
from tests.search import offline
from trainer.data.store import Store

pytestmark = pytest.mark.timeout(240, func_only=True)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, phantom_store: Path) -> Path:
    """A study file, a store, and in runs/ a study of three trials and a finished one."""
    place = tmp_path_factory.mktemp("template")
    shutil.copytree(phantom_store, place / "store")
    (place / "study.yaml").write_text(study_files.BASE.replace("STORE", "store"))
    (place / "config.yaml").write_text("data.store: store\nmodel.width: 8\nepochs: 1\n")
    write_study(place)
    offline.finished(place / "runs/toy", place / "store")
    (place / "empty").mkdir()
    (place / "data").symlink_to(phantom_store.parent / "dataset")
    (place / "runs" / "file").touch()
    return place


@pytest.fixture
def place(tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder again, as the working directory."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("SEGTUNE_RUNS", raising=False)
    shutil.copytree(template, tmp_path / "place", symlinks=True)
    monkeypatch.chdir(tmp_path / "place")
    return tmp_path / "place"


def write_study(place: Path) -> None:
    from search.study.load import load_study

    study: StudyConfig = load_study(place / "study.yaml", [f"data.store={place}/store"])
    params = {"optimizer.lr": 1e-3, "batch.effective": 2, "loss.weighting": "fixed"}
    with Ledger.open(place / "runs/demo/ledger.jsonl", writer=True) as ledger:
        ledger.append(
            {
                "event": "study",
                "uid": "0",
                "config": study.model_dump(mode="json"),
                "config_hash": study.config_hash(),
                **birth(study)._asdict(),
                "store_hash": Store.open(place / "store").content_hash,
                "commit": "",
                "versions": {},
                **birth(study)._asdict(),
            }
        )
        for number in range(3):
            about = {"trial": number}
            kind = "control" if number == 0 else "sampled"
            its = {"model.family": "unet"} if number == 0 else params
            ledger.append(
                {"event": "proposed", **about, "params": its, "kind": kind, "protected": not number}
            )
            ledger.append({"event": "started", **about, "attempt": 1, "host": "h", "pid": 1})
            metrics = {"val/dice": 0.1}
            ledger.append(
                {"event": "reported", **about, "epoch": 1, "value": 0.1, "metrics": metrics}
            )
            ledger.append(
                {"event": "ended", **about, "ending": "stopped", "epoch": 1, "reason": "why"}
            )


def single(answer: Answer) -> Answer:
    """Leave click's usage lines out, which come before its line about a wrong word."""
    if answer.lines and answer.lines[0].startswith("Usage: "):
        return replace(answer, lines=answer.lines[-1:])
    return answer


STUDIES = ("status STUDY", "status STUDY --json", "compare STUDY", "compare STUDY --json",
           "stop STUDY", "replay STUDY 1", "resume STUDY --top 1 --epochs 9",
           "retry STUDY", "retry STUDY --dry-run", "enqueue STUDY optimizer.lr=1e-3 --dry-run",
           "note STUDY:1 text", "stop STUDY:1",
           "confirm STUDY --dry-run", "explain STUDY:1")  # fmt: skip
"""Commands that read a study."""

WRONG: dict[str, str] = {
    **{command.replace("STUDY", "dmo"): "did you mean demo" for command in STUDIES},
    "status .": "no such study",
    "status ..": "no such study",
    "status /": "no such study",
    "status ''": "no such study",
    "status " + "x" * 300: "File name too long",
    "status größe": "no such study",
    "status demo --runs nowhere": "no such study",
    "status demo --runs study.yaml": "is a file",
    "status demo --runs study.yaml/x": "no such study",
    "compare demo --runs store": "no such study",
    "replay demo 99": "no such trial",
    "replay demo -- -1": "no such trial",
    "replay demo 99999999999999999999999": "no such trial",
    "replay demo one": "not a valid integer",
    "replay demo 1.5": "not a valid integer",
    "replay": "Missing argument",
    "replay demo:99": "^demo:99: no such trial; there are 0 to 2$",
    "replay demo:x": "^demo:x: after the colon comes a trial's number, as in demo:7$",
    "replay demo:": "^demo:: after the colon",
    "replay :1": "as in STUDY:7",
    "replay demo:1 2": "^demo:1: names a trial already: leave 2 out$",
    "replay demo:99999999999999999999999": "after the colon",
    "replay demo-1": "did you mean demo",
    "replay s3://:1": "s3://",
    "archive": "Missing argument",
    "archive dmo out.zip": "did you mean demo",
    "archive demo study.yaml": "^study.yaml: exists; name a file that does not$",
    "archive demo nowhere/out.zip": "^nowhere/out.zip: no such folder: nowhere$",
    "archive demo empty": "^empty: exists",
    "archive demo out.zip --with-images --pseudonyms": "give one of them$",
    "archive demo out.zip --key-file key": "^--key-file: goes with --pseudonyms$",
    "archive demo out.zip --pseudonyms --key-file study.yaml": "^--key-file study.yaml: is none",
    "archive demo out.zip --store empty": "^--store empty: not a prepared store",
    "delete": "Missing argument",
    "delete dmo --yes": "did you mean demo",
    "delete demo": "^runs/demo: 3 trials, .*: --yes deletes all of it",
    "delete demo --weights-but -1": "not in the range",
    "delete demo --weights-but two": "not a valid integer",
    "delete demo --weights-but 1 --yes": "give one of them$",
    "delete demo --dry-run": "^--dry-run: goes with --weights-but$",
    "list dmo": "did you mean demo",
    "replay demo 1 --store empty": "^empty: not a prepared store",
    "explain": "Missing argument",
    "explain dmo": "did you mean demo",
    "explain demo:99": "^demo:99: no such trial; there are 0 to 2$",
    "explain demo -1": "No such option|not in the range",
    "explain demo:1:1": "did you mean demo",
    "status demo:1": "no such study; did you mean demo",
    "compare demo:1": "no such study; did you mean demo",
    "evaluate nowhere": "no such study",
    "evaluate dmo:1": "did you mean demo",
    "evaluate demo:99": "^demo:99: no such trial; there are 0 to 2$",
    "evaluate demo:1": "^demo:1: stopped: no ema.pt of it is here$",
    "evaluate study.yaml": "not a segtune checkpoint",
    "evaluate store": "is a prepared store: give the masks first: evaluate MASKS STORE",
    "predict demo:1 data out.nii.gz": "^demo:1: stopped: no ema.pt of it is here$",
    "predict demo:x data out.nii.gz": "after the colon",
    "samples demo:1": "^demo:1: stopped: no ema.pt of it is here$",
    "samples empty": "no checkpoint",
    "export demo:1 out": "^demo:1: stopped: no ema.pt of it is here$",
    "export demo:1 out --trial 1": "names a trial already",
    "respace demo:99": "no such trial",
    "train nowhere.yaml": "No such file",
    "train config.yaml model.widht=8": "did you mean model.width",
    "overfit config.yaml data.store=nowhere": "not a prepared store",
    "list --runs study.yaml": "is a file",
    "replay demo 1 --epochs -1": "--epochs",
    "replay demo 1 --epochs 0": "no epoch",
    "enqueue": "Missing argument",
    "enqueue demo": r"needs KEY=VALUE or --like",
    "enqueue demo lr=1": "^command line: lr: not searched; did you mean optimizer.lr",
    "enqueue demo optimizer.lr=1e9": "^command line: optimizer.lr: 1000000000.0: outside space",
    "enqueue demo optimizer.lr": "expected KEY=VALUE",
    "enqueue demo --like demo:99": "^demo:99: no such trial; there are 0 to 2$",
    "enqueue demo --like demi:1": "demi: no such study; did you mean demo",
    "enqueue demo --reference a/b optimizer.lr=1": "letters, digits and ._- only",
    "enqueue demo optimizer.lr=1e-3 --submit http://127.0.0.1:1": "no Ray dashboard answers",
    "note demo:1": "Missing argument",
    "note demo text": "needs a trial, as in demo:7",
    "note demo:99 text": "^demo:99: no such trial; there are 0 to 2$",
    "note demo:x text": "after the colon comes a trial's number",
    "stop demo:99": "^demo:99: no such trial; there are 0 to 2$",
    "stop demo:1": r"^demo:1: has ended: stopped \(why\)$",
    "retry": "Missing argument",
    "retry demo": "no trial of it failed",
    "retry demo --dry-run": "no trial of it failed",
    "retry demo:99": "^demo:99: no such trial; there are 0 to 2$",
    "retry demo 1": r"^demo:1: stopped \(why\): only what failed",
    "retry demo:1 2 --dry-run": r"^demo:1: stopped \(why\): only what failed",
    "retry demo one": "not a valid integer",
    "retry demo -- -1": "not in the range",
    "retry demo:1 --address ray://host:1": "--submit|Ray Client",
    "retry demo --submit http://127.0.0.1:1 --address auto": "give one of them",
    "retry demo --submit http://127.0.0.1:1": "no Ray dashboard answers",
    "resume demo": "--epochs",
    "resume demo --epochs 9": "either --top K or a trial, as in demo:7",
    "resume demo --epochs 9 --top 1 --trial 1": "either --top K or a trial, as in demo:7",
    "resume demo --epochs 9 --top 0": "'--top': 0 is not in the range",
    "resume demo --epochs 9 --top -3": "'--top': -3 is not in the range",
    "resume demo --epochs 9 --top 99": "only 2 searched trials",
    "resume demo --epochs 9 --trial 99": "^demo:99: no such trial",
    "resume demo:99 --epochs 9": "^demo:99: no such trial",
    "resume demo:1 --epochs 9": "^demo:1: .*no checkpoint",
    "resume demo:1 --epochs 9 --top 1": "either --top K or a trial",
    "resume demo --epochs 9 --trial -1": "no such trial",
    "resume demo --epochs 9 --trial 1": "no checkpoint",
    "resume demo --epochs 0 --trial 1": "--epochs",
    "resume demo --epochs -5 --trial 1": "--epochs",
    "resume demo --epochs 1 --trial 1": "already",
    "resume demo --epochs many --trial 1": "--epochs",
    "resume demo --epochs 9 --trial 1 --address ray://host:1": "--submit|Ray Client",
    "confirm demo --top 0": "'--top': 0 is not in the range",
    "confirm demo --dry-run": "not finished",
    "confirm toy --top 99 --dry-run": "only 5 searched trials",
    "confirm demo --seeds 1 --dry-run": "at least 3",
    "confirm demo --seeds -1 --dry-run": "at least 3",
    "confirm toy --trial 99 --dry-run": "toy:99: no searched trial with a result",
    "confirm demo --margin 0": "--margin",
    "confirm demo --margin -1": "--margin",
    "confirm demo --margin nan": "--margin",
    "confirm demo --margin inf": "--margin",
    "launch": "Missing argument",
    "launch nowhere.yaml": "No such file",
    "launch nowhere": "^nowhere: no such file, and no study of this name ships$",
    "launch quikstart": "no study of this name ships; did you mean quickstart",
    "launch quickstart data.store=nowhere study=new": "not a prepared store",
    "launch store": "directory",
    "launch study.yaml --runs study.yaml": "is a file",
    "launch study.yaml --runs study.yaml/x": "Not a directory",
    "launch study.yaml --probe": "--probe",
    "launch study.yaml --address ray://host:1": "--submit|Ray Client",
    "launch study.yaml --warm-start nowhere": "no such study",
    "launch study.yaml --warm-start nowhere --dry-run": "no such study",
    "launch study.yaml data.store=nowhere": "not a prepared store",
    "launch study.yaml data.store=study.yaml": "not a prepared store",
    "launch study.yaml data.store=config.yaml/x": "not a prepared store",
    "launch study.yaml data.fold=4": "data.fold: 4: this study was begun with 0",
    "launch study.yaml seed=7": "begun with",
    "launch study.yaml trials.num_trials=1": "can only be raised",
    "launch study.yaml --dry": "No such option|Possible",
    "launch study.yaml study=file": "File exists",
    "launhc study.yaml": "No such command",
    "prepare": "Missing argument",
    "prepare store": "Missing argument",
    "prepare nowhere out": "no such folder",
    "prepare study.yaml out": "not a folder",
    "prepare runs out": "no cases found",
    "prepare empty out": "empty folder",
    "prepare '' out": "no cases found",
    "prepare store out": "no cases found",
    "prepare data store": "choose another folder",
    "prepare data runs": "not a prepared store",
    "prepare data study.yaml": "not a prepared store",
    "prepare data study.yaml/out": "Not a directory",
    "prepare data out --image-size 0": "image-size",
    "prepare data out --image-size -1": "image-size",
    "prepare data out --image-size big": "--image-size",
    "prepare data out --image-size 100000000": "image-size",
    "prepare data out --workers 0": "workers",
    "prepare data out --workers -1": "workers",
    "prepare data out --seed -1": "seed: -1: must be at least 0",
    "prepare data out --format dicom": "must be",
    "prepare data out --format isles22": "no cases found",
    "prepare data out --format iles24": "did you mean isles24",
    "prepare data " + "x" * 300: "File name too long",
    "phantom": "Missing argument",
    "phantom out --num-cases 0": "num-cases",
    "phantom out --num-cases -1": "num-cases",
    "phantom out --num-cases many": "--num-cases",
    "phantom out --seed -1": "seed: -1: must be at least 0",
    "phantom store": "something else",
    "phantom study.yaml": "something else",
    "phantom study.yaml/out": "Not a directory",
}
"""By the words, what the line about it must say."""

TRAINER: dict[str, str] = {
    "train": "Missing argument",
    "train nowhere.yaml": "No such file",
    "train store": "directory",
    "train study.yaml": "no such key",
    "train config.yaml nonsense": "KEY=VALUE",
    "train config.yaml model.widht=8": "did you mean model.width",
    "train config.yaml model.width=-8": "model.width",
    "train config.yaml model.width=true": "must be a number",
    "train config.yaml epochs=-1": "epochs: -1: must be greater than",
    "train config.yaml data.store=nowhere": "not a prepared store",
    "train config.yaml data.store=study.yaml": "not a prepared store|damaged store",
    "train config.yaml data.store_hash=abc": "not the data that was asked for",
    "train config.yaml data.fold=9": "data.fold",
    "train config.yaml data.modalities=[tmx]": "did you mean",
    "train config.yaml init_from=nowhere": "no such file",
    "train config.yaml --out study.yaml": "study.yaml: File exists",
    "train config.yaml --out study.yaml/x": "Not a directory",
    "train config.yaml device=gpu": "must be 'auto', 'cpu', 'cuda' or 'mps'",
    "overfit nowhere.yaml": "No such file",
    "overfit config.yaml data.store=nowhere": "not a prepared store",
    "overfit config.yaml --max-images many": "--max-images",
    "evaluate nowhere": "no such file",
    "evaluate store": "is a prepared store: give the masks first: evaluate MASKS STORE",
    "evaluate study.yaml": "not a segtune checkpoint",
    "evaluate store/manifest.json": "not a segtune checkpoint",
    "evaluate runs --split all": "--split",
    "evaluate runs --ensemble many": "--ensemble",
    "predict nowhere data out.nii.gz": "no such file",
    "predict store data out.nii.gz": "no checkpoint",
    "predict study.yaml data out.nii.gz": "not a segtune checkpoint",
    "predict store": "Missing argument",
    "tran config.yaml": "No such command",
}


def check(place: Path, words: str, says: str, program: str) -> None:
    before = tree(place)
    answer = single(run(*shlex.split(words), program=program))
    assert judge("commands", answer, "")
    assert any(re.search(says, line) for line in answer.lines), answer.lines
    assert tree(place) == before, "something was written"


def tree(place: Path) -> dict[str, bytes]:
    """Return all files but those that every driver leaves: the folder and the ledger's lease."""
    return {
        str(path.relative_to(place)): path.read_bytes()
        for path in place.rglob("*")
        if path.is_file()
        and not {"store", "single"} & {*path.parts}
        and "lease." not in path.name
        and path.name != "ledger.jsonl"
    }


@pytest.mark.parametrize("words", WRONG, ids=lambda words: f"{words:.60}")
def test_a_wrong_command(place, words):
    check(place, words, WRONG[words], "segtune")


@pytest.mark.parametrize("words", TRAINER)
def test_a_wrong_command_of_the_trainer(place, words):
    check(place, words, TRAINER[words], "trainer")


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


@pytest.mark.parametrize(
    "words",
    ["segtune launch nowhere.yaml", "segtune prepare nowhere out",
     "trainer train config.yaml data.store=nowhere"],
)  # fmt: skip
def test_one_mistake_is_one_line(place, words):
    program, *rest = words.split()
    answer = run(*rest, program=program)
    assert judge("commands", answer, "")
    assert len(answer.lines) == 1


@pytest.mark.parametrize("words", ["segtune status dmo", "trainer evaluate nowhere"])
def test_a_process_writes_one_line_and_has_status_2(place, words):
    program, *rest = words.split()
    module = {"segtune": "search.cli.main", "trainer": "trainer"}[program]
    result = subprocess.run(
        [sys.executable, "-m", module, *rest],
        capture_output=True, text=True, timeout=240, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert judge("commands", Answer(result.returncode, result.stderr.splitlines(), ""), "")
    assert len(result.stderr.splitlines()) == 1
