"""A run folder in S3: fetched, sent, and out of reach of attempts that were thought dead."""

import os
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from search.execution.trainable import Trainable
from search.storage import s3_run
from search.storage.run_folders import (
    LOG,
    checkpoints_of,
    fetch_cases,
    hold_run_folder,
    log_of,
    read_log,
    sent_validations,
)
from search.storage.s3 import Remote, mirror_of
from search.storage.s3_run import S3Run, Superseded
from tests.search.execution.test_trainable import spec
from tests.search.s3 import Gate, Moto
from tests.search.toy import Validation, dice

TRAIN: dict[str, Any] = {"epochs": 9, "optimizer": {"lr": 1e-3}, "data": {"store": "/a"}}
Attempt = Callable[..., S3Run]


@pytest.fixture
def study(s3: str) -> Remote:
    return Remote.parse(s3) / "toy"


@pytest.fixture
def attempt_on(study: Remote, tmp_path: Path) -> Iterator[Attempt]:
    """Return an attempt of trial 3 on some node."""

    def on(node: str, fence: int = 1, attempt: int = 1, **train: Any) -> S3Run:
        return S3Run(study, tmp_path / node, 3, (fence, attempt), TRAIN | train)

    yield on


def write(run_dir: Path, epoch: int) -> None:
    """Write what a run folder has after an epoch; only two checkpoints are kept."""
    (run_dir / "checkpoints").mkdir(exist_ok=True)
    (run_dir / "checkpoints" / f"{epoch}.pt").write_text(f"weights {epoch}")
    (run_dir / "checkpoints" / f"{epoch - 2}.pt").unlink(missing_ok=True)
    (run_dir / "metrics.jsonl").write_text("".join(f"{n}\n" for n in range(1, epoch + 1)))
    (run_dir / "alive").touch()


def content(run_dir: Path) -> dict[str, str]:
    found = (path for path in run_dir.rglob("*") if path.is_file())
    return {
        path.relative_to(run_dir).as_posix(): path.read_text()
        for path in found
        if path.name not in s3_run.HERE and not path.name.startswith(".")
    }


def test_the_next_attempt_has_what_was_sent(attempt_on: Attempt, tmp_path: Path) -> None:
    with attempt_on("a") as run:
        for epoch in (1, 2, 3):
            write(tmp_path / "a", epoch)
            (tmp_path / "a" / ".state").write_text(f"a trainer's own, {epoch}")
            (tmp_path / "a" / ".program.unread").touch()
            run.send()
        sent = content(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "old").touch()
    with attempt_on("b", attempt=2):
        assert content(tmp_path / "b") == sent
        assert (tmp_path / "b" / ".state").read_text() == "a trainer's own, 3"
        assert not (tmp_path / "b" / ".program.unread").exists()
        assert sorted(os.listdir(tmp_path / "b" / "checkpoints")) == ["2.pt", "3.pt"]


def test_what_an_attempt_printed_goes_along_and_a_killed_ones_with_the_next_on_its_node(
    attempt_on: Attempt, study: Remote, tmp_path: Path
) -> None:
    mirror = mirror_of(study) / "trials" / "0003"
    first = attempt_on("a").__enter__()
    (log := tmp_path / "a" / LOG).write_text("last words\n")
    first._closing.set()  # killed before it sent anything
    assert read_log(mirror) is None
    with pytest.raises(ImportError), attempt_on("a", attempt=2):
        log.write_text(f"{log.read_text()}ImportError: no such package\n")
        raise ImportError
    assert read_log(mirror) == b"last words\nImportError: no such package\n"
    with attempt_on("b", attempt=3):
        assert (tmp_path / "b" / LOG).read_bytes() == read_log(mirror)
    assert log_of(mirror.parents[1], 3) == f"segtune logs {study.uri}:3"


def test_only_what_changed_is_sent(attempt_on: Attempt, study: Remote, tmp_path: Path) -> None:
    with attempt_on("a") as run:
        write(tmp_path / "a", 1)
        run.send()
        before = {entry.key for entry in study.entries("trials/0003")}
        run.send()
        assert {entry.key for entry in study.entries("trials/0003")} == before
        (tmp_path / "a" / "metrics.jsonl").write_text("1\n2\n")
        run.send()
        new = {entry.key for entry in study.entries("trials/0003")} - before
        assert [key.rpartition("-")[2] for key in new] == ["metrics.jsonl"]


def test_old_objects_go(attempt_on: Attempt, study: Remote, moto: Moto, tmp_path: Path) -> None:
    """Those that neither the newest manifest nor the one before it names."""
    with attempt_on("a") as run:
        for epoch in range(1, 8):
            write(tmp_path / "a", epoch)
            run.send()
        keys = [entry.key for entry in study.entries("trials/0003")]
        assert len([key for key in keys if key.endswith(".pt")]) == 3
        assert len([key for key in keys if key.endswith("metrics.jsonl")]) == 2
    bucket = study.path.partition("/")[0]
    with urllib.request.urlopen(f"http://{moto.address}/{bucket}?list-type=2") as answer:
        listed = answer.read().count(b"<Key>")
    assert listed <= len(keys) + 3, "markers of empty folders"


def test_an_attempt_that_was_replaced_ends(attempt_on: Attempt, tmp_path: Path) -> None:
    with attempt_on("a") as run:
        write(tmp_path / "a", 1)
        run.send()
        with attempt_on("b", fence=2):  # of another driver, whose ledger had no attempt
            write(tmp_path / "a", 2)
            with pytest.raises(Superseded, match="000002-0001 has this trial"):
                run.send()
    with pytest.raises(Superseded), attempt_on("a", attempt=7):
        pass


def test_what_a_replaced_attempt_was_sending_takes_nothing_away(
    attempt_on: Attempt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stood still after it had looked for a successor, which trained on meanwhile."""
    with attempt_on("a") as stale:
        for epoch in (1, 2, 3):
            write(tmp_path / "a", epoch)
            stale.send()
        taken = content(tmp_path / "a")
        write(tmp_path / "a", 4)
        check = stale._check

        def pause(found: list[Any]) -> None:
            check(found)
            monkeypatch.setattr(stale, "_check", check)
            with attempt_on("b", attempt=2):
                assert content(tmp_path / "b") == taken

        monkeypatch.setattr(stale, "_check", pause)
        stale.send()
    with attempt_on("c", attempt=3):
        assert content(tmp_path / "c") == taken


def test_the_same_node_fetches_nothing(attempt_on: Attempt, moto: Moto, tmp_path: Path) -> None:
    """And has what was not sent, if nobody else had the trial meanwhile."""
    killed = attempt_on("a").__enter__()
    write(tmp_path / "a", 1)
    killed.send()
    write(tmp_path / "a", 2)
    (tmp_path / "a" / "stop").touch()
    with attempt_on("a", attempt=2):
        assert (tmp_path / "a" / "checkpoints" / "2.pt").exists()
        assert not (tmp_path / "a" / "stop").exists(), "it was meant for the attempt before"


def test_the_record_of_a_lost_proposal(attempt_on: Attempt, tmp_path: Path) -> None:
    """The same number with other settings begins anew; more epochs and a moved store do not."""
    with attempt_on("a"):
        write(tmp_path / "a", 1)
    with attempt_on("b", fence=2, epochs=18, data={"store": "/b"}):
        assert content(tmp_path / "b")
    with attempt_on("b", fence=3, optimizer={"lr": 2e-3}):
        assert not content(tmp_path / "b")


def test_a_run_in_s3_gives_signs_of_life_and_obeys_its_drivers_stop(
    attempt_on: Attempt, study: Remote, tmp_path: Path
) -> None:
    s3_run.SIGNS_S, before = 0.1, s3_run.SIGNS_S
    try:
        with attempt_on("a", fence=6):
            (tmp_path / "a" / "alive").touch()
            study.put("signs/stopping-000005-0003", b"")
            study.put("signs/stopping-000006-0002", b"")
            time.sleep(1)
            assert "signs/alive-0003" in [entry.key for entry in study.entries("signs")]
            assert not (tmp_path / "a" / "stop").exists(), "another driver's, and another trial's"
            study.put("signs/stopping-000006-0003", b"")
            end = time.monotonic() + 60
            while not (tmp_path / "a" / "stop").exists():
                assert time.monotonic() < end
                time.sleep(0.05)
    finally:
        s3_run.SIGNS_S = before


def test_a_report_waits_until_s3_has_the_run(s3: str, moto: Moto, tmp_path: Path) -> None:
    """An attempt waits with its report until the run is safe."""
    gate = Gate(moto.address)
    study = Remote.parse(s3.replace(moto.address, gate.address)) / "toy"
    with S3Run(study, tmp_path / "a", 3, (1, 1), TRAIN) as run:
        write(tmp_path / "a", 1)
        gate.shut()
        threading.Timer(2, gate.open).start()
        begun = time.monotonic()
        run.send()
        assert time.monotonic() - begun > 1.5
    assert checkpoints_of(mirror_of(Remote.parse(s3)) / "toy" / "trials" / "0003")
    gate.shut()


def test_readers_find_cases_and_checkpoints(attempt_on: Attempt, s3: str, tmp_path: Path) -> None:
    folder = mirror_of(Remote.parse(s3)) / "toy"
    assert not checkpoints_of(folder / "trials" / "0003")
    for attempt in (1, 12):
        with attempt_on("a", attempt=attempt) as run:
            for epoch in range(1, 12):
                write(tmp_path / "a", epoch)
                (tmp_path / "a" / "cases.parquet").write_text(f"{attempt} {epoch}")
                (tmp_path / "a" / "9999-best-cases.parquet").write_text("a trainer's own")
                run.send()
        fetch_cases(folder)
        assert (folder / "trials" / "0003" / "cases.parquet").read_text() == f"{attempt} 11"
    assert checkpoints_of(folder / "trials" / "0003")


def failing(*_: Any, **__: Any) -> Iterator[Any]:
    """A fit that raises after its first epoch."""
    yield Validation(1, {"val/dice": 0.5})
    raise RuntimeError("broken")


def test_a_trainable_far_from_its_study(
    s3: str, tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one node, then on another: each report comes after its checkpoint is in S3."""
    there = Remote.parse(s3) / "toy"
    values = []
    for attempt in (1, 2):
        monkeypatch.setenv("SEGTUNE_CACHE", str(tmp_path / f"node{attempt}"))
        told = spec(tmp_path / "0003", storage=there.uri, fence=1, attempt=attempt)
        told["train"]["data"]["store"] = str(store)
        trainable = Trainable(told | {"received": attempt - 1})
        result = trainable.train()
        values.append((result["epoch"], dict(result["metrics"])["val/dice"]))
        assert checkpoints_of(mirror_of(Remote.parse(s3)) / "toy" / "trials" / "0003")
        trainable.cleanup()
    assert values == [(1, dice(1e-4, 1)), (2, dice(1e-4, 2))]
    assert not [*(tmp_path / "0003").iterdir()]


def test_what_is_in_s3_goes_from_the_node(attempt_on: Attempt, tmp_path: Path) -> None:
    with attempt_on("a"):
        write(tmp_path / "a", 1)
        (tmp_path / "a" / "stop").touch()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["stop"]


def test_a_newer_segtune_goes_on(attempt_on: Attempt, tmp_path: Path) -> None:
    """Its configurations have settings that the record has not."""
    with attempt_on("a"):
        write(tmp_path / "a", 1)
    with attempt_on("b", fence=2, model={"of": "tomorrow"}):
        assert content(tmp_path / "b")


def test_what_fit_raises_comes_through(s3: str, tmp_path: Path) -> None:
    told = spec(tmp_path / "0003", storage=(Remote.parse(s3) / "toy").uri, fence=1)
    validations = sent_validations(failing, told)
    assert next(validations).epoch == 1
    with pytest.raises(RuntimeError, match="broken"):
        next(validations)


def test_a_node_without_the_drivers_folder(tmp_path: Path) -> None:
    """One that joined after the others were asked."""
    run_dir = tmp_path / "toy" / "trials" / "0003"
    told = spec(run_dir, fence=4)
    with pytest.raises(OSError, match="toy: not the driver's folder"), hold_run_folder(told):
        pass
    (tmp_path / "toy" / "lease.000004").touch()
    with hold_run_folder(told) as run:
        assert run is None
