"""Whole toy studies in S3, on real Ray. The nodes' caches and the driver's are not the same."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

import segtune as in_python
from search.cli.main import main
from search.ledger.journal import Ledger
from search.storage.s3 import Remote, folder_of, mirror_of
from search.storage.s3_ledger import fetch_ledger
from search.storage.studies import open_as_driver, runs_folder
from tests.search import offline
from tests.search.conftest import AWS, ROOT, Driver, events, write_study
from tests.search.s3 import Gate, Moto
from tests.search.toy import dice

Start = Callable[..., Driver]


@pytest.fixture
def drive(cluster: str, mlflow_uri: str, tmp_path: Path) -> Iterator[Start]:
    """Start drivers of a study in S3, each with a mirror of its own if it is given a name."""
    drivers: list[Driver] = []

    def start(study: Path, uri: str, mirror: str = "cache") -> Driver:
        env = {"MLFLOW_TRACKING_URI": mlflow_uri, "SEGTUNE_CACHE": str(tmp_path / mirror)}
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SEGTUNE_CACHE", env["SEGTUNE_CACHE"])
            runs = mirror_of(Remote.parse(uri))
        drivers.append(Driver(study, runs, cluster, env=env, s3=uri))
        return drivers[-1]

    yield start
    for driver in drivers:
        if driver.process.poll() is None:
            driver.kill()


def order(uri: str, node_cache: Path, name: str, text: str) -> None:
    """Give the toy an order in the study's folder on the nodes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGTUNE_CACHE", str(node_cache))
        folder = folder_of(Remote.parse(uri) / "toy", "work") / "toy"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def segtune(*words: str, cache: Path, status: int = 0, own_process: bool = False) -> str:
    """Run a command as on another machine, which has seen nothing of a study."""
    if not own_process:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SEGTUNE_CACHE", str(cache))
            answer = CliRunner().invoke(main, words)
        assert answer.exit_code == status, answer.output
        return answer.output
    result = subprocess.run(
        [sys.executable, "-m", "search.cli.main", *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **AWS, "SEGTUNE_CACHE": str(cache)},
    )
    assert result.returncode == status, result.stdout + result.stderr
    return result.stdout + result.stderr


def results(folder: Path) -> dict[int, list[tuple[int, float]]]:
    """Return each trial's epochs and values; no epoch may be there twice."""
    found: dict[int, list[tuple[int, float]]] = {}
    for event in events(folder, "reported"):
        found.setdefault(event["trial"], []).append((event["epoch"], event["value"]))
    for reports in found.values():
        assert [epoch for epoch, _ in reports] == [*range(1, len(reports) + 1)]
    return found


def check(folder: Path, calm: Driver) -> None:
    """Every metric as the toy has it, and the trials as in the undisturbed study."""
    params = {event["trial"]: event["params"] for event in events(folder, "proposed")}
    for trial, reports in results(folder).items():
        lr = params[trial].get("optimizer.lr", 1e-4)
        assert all(value == dice(lr, epoch) for epoch, value in reports)
    assert results(folder).keys() == results(calm.folder).keys()
    assert len(events(folder, "ended")) == len(params)


FROM_ELSEWHERE = """
import sys
from pathlib import Path
from search.storage.studies import find_study
from search.workflows.confirming.confirm import confirm
from search.workflows.replay import replay
from search.workflows.resume import resume
from search.storage.s3 import Remote, mirror_of
runs, address = mirror_of(Remote.parse(sys.argv[1])), sys.argv[2]
fit = {"fit": "tests.search.toy:fit"}
assert resume(find_study("toy", runs), epochs=12, top=1, address=address, **fit) == 0
folder = find_study("toy", runs)
assert confirm(folder, top=1, seeds=3, epochs=2, address=address, **fit) == 0
assert replay(folder, 1, **fit)
"""


def test_python_reads_it_from_another_machine(
    s3: str, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offline.finished(tmp_path / "toy", store)
    written = {"time", "after_s", "v", "fence", "more", "crc"}
    with open_as_driver(runs_folder(s3) / "toy") as ledger:
        ledger.append(
            *({k: v for k, v in event.items() if k not in written}
              for event in events(tmp_path / "toy") if event["event"] != "driver")
        )  # fmt: skip
    monkeypatch.setenv("SEGTUNE_CACHE", str(tmp_path / "elsewhere"))
    there, here = in_python.study((Remote.parse(s3) / "toy").uri), in_python.study(tmp_path / "toy")
    assert repr(there) == f"segtune.study({(Remote.parse(s3) / 'toy').uri!r})"
    assert there.best().number == here.best().number == 4
    assert there.curves().equals(here.curves())
    assert there.trials()["value"].equals(here.trials()["value"])
    with pytest.raises(ValueError, match=r"toy:4: completed: no ema\.pt of it is here"):
        there.best().model()


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_study_ends_and_is_read_resumed_confirmed_and_replayed_from_elsewhere(
    s3: str, drive: Start, calm: Driver, cluster: str, store: Path, tmp_path: Path
) -> None:
    """And so are its data."""
    runs, away = f"{s3.replace('?', '/runs?')}", tmp_path / "away"
    pictures = s3.replace("?", "/pictures?")
    for path in store.rglob("*"):
        if path.is_file():
            Remote.parse(pictures).upload(path.relative_to(store).as_posix(), path)
    driver = drive(write_study(tmp_path / "study", pictures), runs)
    said = driver.finish()
    assert results(driver.folder) == results(calm.folder)
    assert "s3://" in said and AWS["AWS_SECRET_ACCESS_KEY"] not in said

    status = segtune("status", "toy", "--runs", runs, cache=away, own_process=True)
    assert "none; finished" in status
    assert "none; finished" in segtune("status", runs.replace("?", "/toy?"), cache=away)
    assert "trial" in segtune("compare", "toy", "--runs", runs, cache=away)
    assert "is not running" in segtune("stop", "toy", "--runs", runs, cache=away)
    assert "toy: no such study" not in segtune(
        "status", "toi", "--runs", runs, cache=away, status=2
    )
    written = [path for path in (tmp_path / "away").rglob("*") if path.is_file()]
    assert any(path.name == "ledger.jsonl" for path in written)
    for path in [*written, *driver.folder.rglob("*")]:
        if path.is_file():
            assert AWS["AWS_SECRET_ACCESS_KEY"].encode() not in path.read_bytes()

    env = {**os.environ, "SEGTUNE_CACHE": str(tmp_path / "new"), "RAY_AUTH_MODE": "disabled"}
    command = [sys.executable, "-c", FROM_ELSEWHERE, runs, cluster]
    result = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "better" in result.stdout or "not distinguishable" in result.stdout
    fetch_ledger(driver.folder)
    [resumed] = events(driver.folder, "resumed")
    reports = results(driver.folder)[resumed["trial"]]
    assert reports[-1][0] == 12


@pytest.mark.slow
def test_killed_and_continued_from_an_empty_mirror(
    s3: str, drive: Start, calm: Driver, store: Path, tmp_path: Path, node_cache: Path
) -> None:
    study = write_study(tmp_path / "study", store)
    order(s3, node_cache, "slow", "0.1")
    driver = drive(study, s3)
    driver.wait_for(lambda: len(driver.events("reported")) >= 12)
    driver.kill()
    before = driver.events("reported")

    again = drive(study, s3, mirror="elsewhere")
    again.wait_for(lambda: len(events(again.folder, "driver")) >= 2)
    order(s3, node_cache, "slow", "0")
    again.finish()
    assert again.folder != driver.folder
    kept = {(event["trial"], event["epoch"]) for event in events(again.folder, "reported")}
    assert {(event["trial"], event["epoch"]) for event in before} <= kept
    check(again.folder, calm)


@pytest.mark.slow
def test_stopped_from_elsewhere(
    s3: str, drive: Start, store: Path, tmp_path: Path, node_cache: Path
) -> None:
    study = write_study(tmp_path / "study", store)
    order(s3, node_cache, "slow", "1.5")
    driver = drive(study, s3)
    driver.wait_for(lambda: driver.events("reported"))
    said = segtune("status", "toy", "--runs", s3, cache=tmp_path / "away")
    assert f"pid {driver.process.pid} on" in said
    said = segtune("stop", "toy", "--runs", s3, cache=tmp_path / "away")
    assert f"asked pid {driver.process.pid}" in said
    assert "stopping (the stop file)" in driver.finish()
    assert [event["cause"] for event in driver.events("interrupted")] == ["stop"]


@pytest.mark.slow
def test_s3_is_away_for_a_while(
    moto: Moto, s3: str, drive: Start, calm: Driver, store: Path, tmp_path: Path
) -> None:
    """The driver says so once, and at the end all is there."""
    gate = Gate(moto.address)
    uri = s3.replace(moto.address, gate.address)
    driver = drive(write_study(tmp_path / "study", store), uri)
    driver.wait_for(lambda: len(driver.events("reported")) >= 3)
    gate.shut()
    time.sleep(4)
    gate.open()
    said = driver.finish()
    assert said.count("does not answer, events wait") == 1
    assert said.count("answers again and has everything") == 1
    assert results(driver.folder) == results(calm.folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGTUNE_CACHE", str(tmp_path / "away"))
        there = mirror_of(Remote.parse(s3)) / "toy"
        fetch_ledger(there)
    sent = Ledger.open(there / "ledger.jsonl", writer=False).events
    assert sent == Ledger.open(driver.folder / "ledger.jsonl", writer=False).events
    gate.shut()
