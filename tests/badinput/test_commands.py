"""Commands that ask for what is not there."""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.badinput.conftest import STUDIES
from tests.badinput.judge import Answer, judge, run

pytestmark = pytest.mark.timeout(240, func_only=True)

ROOT = Path(__file__).resolve().parents[2]


def single(answer: Answer) -> Answer:
    """Leave click's usage lines out, which come before its line about a wrong word."""
    if answer.lines and answer.lines[0].startswith("Usage: "):
        return replace(answer, lines=answer.lines[-1:])
    return answer


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
