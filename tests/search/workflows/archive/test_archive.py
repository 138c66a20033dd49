"""`segtune archive`: what a study is, in one file, and everything that looks takes it."""

import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import segtune as api
from search.cli.main import main
from search.ledger.journal import Ledger
from search.storage.archives.layout import max_bytes
from search.storage.archives.writer import ArchiveWriter
from search.storage.s3 import Remote, mirror_of
from search.storage.s3_run import S3Run
from search.storage.studies import open_as_driver
from search.study.config import StudyConfig
from search.study.frozen import birth
from tests.fixtures.copies import refused, segtune

PICTURE = "samples/epoch0001-sub-stroke0009.png"
LOOK = (("compare", "--json"), ("compare", "--csv"), ("status", "--json"))


def said(study: str) -> list[Any]:
    """What the commands that look say of a study, but where it lies, its logs and times."""
    found = []
    for command, form in LOOK:
        text = segtune(command, study, form)
        if form == "--csv":
            found.append(text)
            continue
        values = json.loads(text)
        for key in ("folder", "idle_s", "space", "launch", "runs", "archive"):
            values.pop(key, None)
        found.append(values)
    return found


def names(file: Path) -> set[str]:
    with zipfile.ZipFile(file) as content:
        return set(content.namelist())


def painted(work: Path) -> None:
    """Put the picture where trial 5's `painted` event says that it is."""
    (work / "runs/mine/trials/0005/samples").mkdir()
    Image.new("RGB", (8, 8), "red").save(work / "runs/mine/trials/0005" / PICTURE)


def test_an_archive_says_what_the_study_says(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = said("mine")
    out = segtune("archive", "mine", "mine.zip")
    assert "weights    of 0, 1, 3, 4, 5\n" in out
    assert "images     none: pictures of 1 trials show patients (--with-images)\n" in out
    # Elsewhere nothing of it is left, the store included.
    (work / "elsewhere").mkdir()
    (work / "mine.zip").rename(work / "elsewhere/mine.zip")
    shutil.rmtree(work / "runs")
    shutil.rmtree(work / "store")
    monkeypatch.chdir(work / "elsewhere")
    assert said("mine.zip") == before
    compared = json.loads(segtune("compare", "mine.zip", "--json"))
    assert compared["archive"] == str(work / "elsewhere/mine.zip") and compared["launch"] is None
    assert "; it goes on where its folder and data are" in segtune("compare", "mine.zip")
    segtune("compare", "mine.zip", "--html", "page.html")
    assert "sub-stroke0009" in Path("page.html").read_text()
    listed = json.loads(segtune("list", "mine.zip", "--sizes", "--json"))
    assert [study["study"] for study in listed["studies"]] == ["mine"]
    assert listed["bytes"]["weights"] == 5 * 82467 - (82467 - 14512)
    check = segtune("check", "mine.zip")
    assert "as it was archived\n\nnothing is wrong" in check

    study = api.study("mine.zip")
    assert study.best().number == 5 and study.best().name.endswith("mine.zip:5")
    assert len(study.cases()) == 14 and len(study.curves()) > 20
    assert study.best().model("cpu").predict is not None
    with pytest.raises(ValueError, match=r"mine.zip:2: completed: its weights are not in the arch"):
        study.trial(2).model("cpu")


def test_what_is_in_it(work: Path) -> None:
    painted(work)
    segtune("archive", "mine", "without.zip", "--without-images")
    out = segtune("archive", "mine", "with.zip", "--with-images")
    assert "images     1 pictures, which show patients\n" in out
    assert names(Path("with.zip")) - names(Path("without.zip")) == {f"mine/trials/0005/{PICTURE}"}
    assert not [name for name in names(Path("without.zip")) if name.endswith(".png")]
    assert not [n for n in names(Path("with.zip")) if max_bytes(n.partition("/")[2]) is None]
    with zipfile.ZipFile("without.zip") as content:
        assert content.testzip() is None
        ledger = content.read("mine/ledger.jsonl")
        facts = json.loads(content.read("mine/archive.json"))
    assert ledger == Path("runs/mine/ledger.jsonl").read_bytes()
    assert facts["versions"]["torch"] == torch.__version__ and facts["trials"] == 7
    assert facts["files"].keys() == {n.partition("/")[2] for n in names(Path("without.zip"))} - {
        "archive.json"
    }
    manifest = json.loads(Path("store/manifest.json").read_text())
    assert facts["store_hash"] == manifest["content_hash"]
    assert Path("without.zip").stat().st_mode & 0o777 == 0o600


def test_a_study_that_is_not_finished_may_be_archived(work: Path) -> None:
    segtune("archive", "interrupted", "i.zip")
    status = json.loads(segtune("status", "i.zip", "--json"))
    assert status["problem"] is None and not status["finished"]  # nothing can be done about it
    assert "problem" not in segtune("status", "i.zip")


def test_commands_that_would_write_say_how_to_go_on(work: Path) -> None:
    segtune("archive", "mine", "mine.zip")
    segtune("status", "mine.zip")
    archives = work.parent / "cache/archives"
    before = {p: p.read_bytes() for p in archives.rglob("*") if p.is_file()}
    for words in (
        ("launch", "mine.zip"),
        ("resume", "mine.zip:3", "--epochs", 9),
        ("retry", "mine.zip"),
        ("confirm", "mine.zip"),
        ("enqueue", "mine.zip", "optimizer.lr=1e-3"),
        ("note", "mine.zip:3", "text"),
        ("stop", "mine.zip:3"),
        ("stop", "mine.zip"),
        ("sync", "mine.zip"),
        ("delete", "mine.zip", "--yes"),
        ("delete", "mine.zip", "--weights-but", 1),
        ("check", "mine.zip", "--repair"),
    ):
        line = refused(*words)
        assert line.count("\n") == 1 and "mine.zip: is an archive, and read-only: " in line
        assert "segtune launch FILE.yaml data.store=PATH --warm-start" in line
    assert "is an archive, of which MLflow has nothing" in refused("ui", "mine.zip")
    assert "is an archive already" in refused("archive", "mine.zip", "again.zip")
    segtune("evaluate", "mine.zip:3", "store", "--device", "cpu")  # writes a threshold beside it
    assert "lies in an archive" in refused("evaluate", "mine.zip:3", "store", "--split", "test")
    assert {p: p.read_bytes() for p in archives.rglob("*") if p.is_file()} == before


@pytest.mark.slow
def test_a_trial_of_an_archive_is_trained_again_from_its_data_alone(work: Path) -> None:
    segtune("archive", "mine", "mine.zip", "--pseudonyms")
    shutil.rmtree(work / "runs")
    (work / "store").rename(work / "data")
    before = {p: p.stat().st_mtime_ns for p in work.rglob("*")}
    # Other processors, or threads, move the last bits of what the fixture's machine found.
    out = segtune_any("replay", "mine.zip:0", "--epochs", 1, "--store", "data")
    assert "epoch    1 " in out and "no such" not in out
    assert before.items() <= {p: p.stat().st_mtime_ns for p in work.rglob("*")}.items()
    manifest = json.loads((work / "data/manifest.json").read_text())
    other = manifest["content_hash"].replace("a", "b")
    (work / "data/manifest.json").write_text(json.dumps(manifest | {"content_hash": other}))
    line = refused("replay", "mine.zip:0", "--store", "data")
    assert line.startswith("--store data: has the content ") and "was begun with" in line


def segtune_any(*words: object) -> str:
    """Run a command that may find a difference; return what it wrote."""
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code in (0, 1), result.output
    return result.output


def test_what_an_archive_cannot_be(work: Path) -> None:
    segtune("archive", "mine", "mine.zip")
    for words, says in {
        ("mine", "mine.zip"): "mine.zip: exists; name a file that does not",
        ("mine", "nowhere/x.zip"): "nowhere/x.zip: no such folder",
        ("mien", "x.zip"): "did you mean mine",
        ("mine", "x.zip", "--with-images", "--pseudonyms"): "give one of them",
        ("mine", "x.zip", "--key-file", "key"): "--key-file: goes with --pseudonyms",
        ("mine", "x.zip", "--store", "runs"): "--store runs: not a prepared store",
    }.items():
        line = refused("archive", *words)
        assert says in line and line.count("\n") == 1
    shutil.rmtree(work / "store")
    assert "the study's store is not there: " in refused("archive", "mine", "x.zip", "--pseudonyms")
    assert "neither manifest nor splits" in segtune("archive", "mine", "y.zip")
    assert not (work / "x.zip").exists() and not [*work.glob(".*.tmp")]


def strings_in(file: Path) -> str:
    """All text of an archive: what is packed is unpacked, tables and weights as well."""
    found = []
    with zipfile.ZipFile(file) as content:
        for name in content.namelist():
            data = content.read(name)
            found.append(name)
            if name.endswith(".parquet"):
                found.append(str(pq.read_table(io.BytesIO(data)).to_pylist()))
                found.append(str(pq.read_schema(io.BytesIO(data)).metadata))
            found.append(data.decode("latin-1"))
            if name.endswith(".pt"):
                with zipfile.ZipFile(io.BytesIO(data)) as weights:
                    found += [weights.read(each).decode("latin-1") for each in weights.namelist()]
    return "\n".join(found)


def test_no_name_is_left_under_pseudonyms(work: Path) -> None:
    with Ledger.open("runs/mine/ledger.jsonl", writer=True) as ledger:
        text = "SUB-Stroke0009 and sub-stroke0002_ses-1 look odd"
        ledger.append({"event": "note", "trial": 3, "text": text})
        row = {"case_id": "sub-stroke0009", "dice": 0.5, "fold": 0}
        masks = {"event": "masks", "name": "nnunet", "folder": "/x/sub-stroke0002", "fold": 0}
        masks |= {"covered": {"0": [1, 2]}, "metrics": {"val/dice": 0.5}, "cases": [row]}
        masks |= {"missing": ["sub-stroke0002"], "unseen": "", "unseen_anywhere": "", "said": []}
        ledger.append(masks | {"content_hash": "x", "splits": None})
    moved_in_weights(work / "runs/mine/trials/0003/ema.pt", "/data/sub-stroke0007/x")
    for name in ("a.zip", "b.zip"):
        assert "10 names of cases and patients; their key is forgotten" in segtune(
            "archive", "mine", name, "--pseudonyms"
        )
    for name in ("a.zip", "b.zip"):
        text = strings_in(Path(name)).casefold()
        assert not [n for n in range(1, 11) if f"sub-stroke{n:04d}" in text]
    before, after = said("mine"), said("a.zip")
    for study in (before[0], after[0]):
        for row in (*study["trials"], *study["references"]):
            row.pop("pictures"), row.pop("notes")
    assert after[0] == before[0] and len(after[0]["masks"]) == len(before[0]["masks"])

    one, other, real = (api.study(name).cases() for name in ("a.zip", "b.zip", "mine"))
    pseudonyms = {*one.case_id}
    assert len(pseudonyms) == real.case_id.nunique() and not pseudonyms & {*other.case_id}
    by_case = [sorted(t.groupby("case_id").dice.sum().round(9)) for t in (one, real)]
    assert by_case[0] == by_case[1]  # the same name is the same pseudonym in all trials
    with zipfile.ZipFile("a.zip") as content:
        manifest = json.loads(content.read("mine/store/manifest.json"))
        notes = [
            line for line in content.read("mine/ledger.jsonl").splitlines() if b'"note"' in line
        ]
    ids = {case["case_id"] for case in manifest["cases"]}
    assert pseudonyms < ids and {c for f in manifest["splits"]["folds"] for c in f} < ids
    assert "clinical" not in manifest["cases"][0]
    first, second = (word for word in json.loads(notes[0])["text"].split() if "case-" in word)
    assert {first, second.removesuffix("_ses-1")} <= ids


def moved_in_weights(path: Path, store: str) -> None:
    state = torch.load(path, weights_only=True)
    state["config"]["data"]["store"] = store
    state["trained_on"] = {"marks": ["0123456789abcdef"], "is_all": True}
    torch.save(state, path)


def test_a_key_file_gives_the_same_pseudonyms_again(work: Path) -> None:
    assert "whoever has it can try names" in segtune(
        "archive", "mine", "a.zip", "--pseudonyms", "--key-file", "key"
    )
    assert (work / "key").stat().st_mode & 0o777 == 0o600
    assert "the same as in other archives" in segtune(
        "archive", "interrupted", "b.zip", "--pseudonyms", "--key-file", "key"
    )
    assert {*api.study("a.zip").cases().case_id} == {*api.study("b.zip").cases().case_id}
    assert (work / "key").read_text().strip() not in strings_in(Path("a.zip"))
    (work / "key").write_text("0123\n")
    assert "--key-file key: is none: has fewer than 32 bytes" in refused(
        "archive", "mine", "c.zip", "--pseudonyms", "--key-file", "key"
    )


def test_names_that_are_words_of_the_settings_are_refused(work: Path) -> None:
    path = work / "runs/mine/trials/0003/cases.parquet"
    table = pq.read_table(path).to_pandas()
    table.loc[0, "case_id"] = "optimizer"
    table.to_parquet(path)
    line = refused("archive", "mine", "x.zip", "--pseudonyms")
    assert "'optimizer': a case is called as a word of the study's settings" in line
    assert not (work / "x.zip").exists()


def test_what_fails_on_the_way_leaves_nothing(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "mine.zip")

    monkeypatch.setattr(ArchiveWriter, "finish", full)
    before = {*work.rglob("*")}
    line = refused_with(75, "archive", "mine", "mine.zip")
    assert "No space left on device" in line and {*work.rglob("*")} == before


def refused_with(status: int, *words: str) -> str:
    result = CliRunner().invoke(main, [*words])
    assert result.exit_code == status, result.output
    return result.stderr


def test_no_program_is_started_from_an_archive(work: Path) -> None:
    """A trainer of one's own is a program, and the file may come from anybody."""
    config = StudyConfig.model_validate(
        {
            "study": "own",
            "trainer": {"command": "touch {run_dir}/started", "folder": str(work)},
            "space": {"lr": {"type": "float", "low": 1e-5, "high": 1e-1}},
            "objective": {"metric": "score"},
            "scheduler": {"type": "none", "max_t": 1},
            "trials": {"num_trials": 1},
        }
    )
    with Ledger.open(work / "runs/own/ledger.jsonl", writer=True) as ledger:
        begun = {"config": config.model_dump(mode="json"), **birth(config)._asdict()}
        begun |= {"uid": "0", "store_hash": "", "commit": "", "versions": {}}
        about = {"trial": 0, "epoch": 1}
        proposed = {"params": {"lr": 1e-3}, "kind": "sampled", "protected": False}
        ledger.append(
            {"event": "study", **begun},
            {"event": "proposed", "trial": 0, **proposed},
            {"event": "started", "trial": 0, "attempt": 1, "host": "h", "pid": 1},
            {"event": "reported", **about, "value": 0.5, "metrics": {"score": 0.5}},
            {"event": "ended", **about, "ending": "completed", "reason": "why"},
        )
    out = segtune("archive", "own", "own.zip")
    assert "no weights go along" in out
    assert "started, which no archive may start: " in refused("replay", "own.zip:0")
    assert "score" in segtune("compare", "own.zip")


def test_a_study_in_s3_becomes_a_file(
    work: Path, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a machine that has seen nothing of the study."""
    local = said("mine")
    study = mirror_of(Remote.parse(s3)) / "mine"
    with open_as_driver(study) as ledger:
        kept = Ledger.open(work / "runs/mine/ledger.jsonl", writer=False).events
        ledger.append(*[event for event in kept if event["event"] != "driver"])
    for number in range(7):
        run_dir = tmp_path / f"{number}"
        with S3Run(Remote.parse(s3) / "mine", run_dir, number, (1, 1), {}) as run:
            shutil.copytree(work / f"runs/mine/trials/{number:04d}", run_dir, dirs_exist_ok=True)
            run.send()
    monkeypatch.setenv("SEGTUNE_CACHE", str(tmp_path / "elsewhere"))
    assert "weights    of 0, 1, 3, 4, 5\n" in segtune("archive", "mine", "s3.zip", "--runs", s3)
    values = [[row["value"] for row in found[0]["trials"]] for found in (local, said("s3.zip"))]
    assert values[0] == values[1] and len(values[0]) == 5
    assert {*api.study("s3.zip").cases().case_id} == {*api.study("mine").cases().case_id}
