"""SIGKILL of the driver at random points: nothing is lost, doubled or decided anew."""

import multiprocessing
import os
import random
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from search.ledger.journal import Ledger
from search.ledger.state import StudyState
from search.study.load import load_study
from tests.search import tune_loop
from tests.search.asha_oracle import check_decisions
from tests.search.conftest import Driver, write_study
from tests.search.toy import dice
from tests.search.workflows.test_launch import check, results

SETTINGS = {
    "scheduler": {"grace_period": 1, "max_t": 9, "reduction_factor": 3, "smoothing": 2},
    "stall": {"patience": 3, "min_delta": 0.08},
    "trials": {"num_trials": 12},
}


@pytest.fixture(scope="module")
def server() -> multiprocessing.context.ForkServerContext:
    """Return a process that has imported everything and forks drivers in an instant."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["tests.search.tune_loop", "tests.search.toy", "trainer.data.content_hash"]
    )
    start(context, int).join()
    return context


def start(context, target, *arguments) -> multiprocessing.process.BaseProcess:
    process = context.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def study_of(runs: Path, store: Path, seed: int, slow_s: float) -> Path:
    """Write a toy study."""
    return write_study(runs, store, toy={"slow": slow_s}, seed=seed, **SETTINGS)


def tear(path: Path, draw: random.Random) -> None:
    """Cut the last append somewhere: a power cut may do this to what was not yet on disk."""
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    last = next((n for n in range(2, len(lines) + 1) if b'"more":' not in lines[-n]), len(lines))
    size = sum(map(len, lines[: len(lines) - last + 1]))
    path.write_bytes(content[: draw.randint(size, len(content))])


def check_toy(folder: Path, path: Path) -> None:
    """Check a study that ended: every epoch once and in order, with the value it must have."""
    study = load_study(path)
    read = Ledger.open(folder / "ledger.jsonl", writer=False).events
    check_decisions(read)
    state = StudyState.replay(read)  # refuses doubled and contradicting events
    assert state.finished(study)
    assert len(state.searched()) == study.trials.num_trials
    for trial in state.trials.values():
        lr = trial.params.get("optimizer.lr", 1e-4)
        assert [(report.epoch, report.value) for report in trial.reports] == [
            (epoch, dice(lr, epoch)) for epoch in range(1, trial.epoch + 1)
        ]
    fences = [event["fence"] for event in read if event["event"] == "driver"]
    assert fences == sorted(set(fences))
    assert {event["fence"] for event in read} == set(fences)


def wait(driver, ledger: Path, draw: random.Random) -> None:
    """Wait for a random moment: of the start, or a little after a random number of appends."""
    if draw.random() < 0.15:
        driver.join(draw.uniform(0, 0.3))
        return
    size = ledger.stat().st_size if ledger.exists() else 0
    size += draw.randint(1, 4000)
    while driver.exitcode is None and not (ledger.exists() and ledger.stat().st_size >= size):
        driver.join(0.001)
    driver.join(draw.uniform(0, 0.005))


def kill_on(server, path: Path, num_kills: int, workers: int, draw: random.Random) -> int:
    """Kill a study's drivers until it is done or killed often enough; then let it end."""
    ledger = path.parent / "toy" / "ledger.jsonl"
    before, kills = b"", 0
    while True:
        driver = start(server, tune_loop.launch, path, path.parent, workers)
        if kills < num_kills:
            wait(driver, ledger, draw)
        else:
            driver.join(240)
        if driver.exitcode is not None:
            assert driver.exitcode == 0
            assert ledger.read_bytes().startswith(before)
            return kills
        driver.kill()
        driver.join()
        kills += 1
        if ledger.exists():
            assert ledger.read_bytes().startswith(before)
            if draw.random() < 0.3:
                tear(ledger, draw)
            num_whole = len(Ledger.open(ledger, writer=False).events)
            before = b"".join(ledger.read_bytes().splitlines(keepends=True)[:num_whole])


def killed_studies(tmp_path: Path, store: Path, server, total: int, workers: int) -> None:
    """Kill studies, one after the other, `total` times; with one worker nothing else changes."""
    draw = random.Random(f"kills/{workers}/{total}")
    kills, numbers = 0, count()  # a study may end before its first kill
    while kills < total:
        seed, number = draw.randrange(1000), next(numbers)
        path = study_of(tmp_path / f"{workers} killed {number}", store, seed, 0.001)
        kills += kill_on(server, path, total - kills, workers, draw)
        check_toy(path.parent / "toy", path)
        if workers == 1:
            calm = study_of(tmp_path / f"calm {number}", store, seed, 0)
            tune_loop.launch(calm, calm.parent, 1)
            assert results(path.parent / "toy") == results(calm.parent / "toy")


def test_a_few_kills(tmp_path, store, server):
    killed_studies(tmp_path, store, server, 8, 1)
    killed_studies(tmp_path, store, server, 6, 3)


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("workers", [1, 3])
def test_ninety_kills_lose_no_event(tmp_path, store, server, workers):
    killed_studies(tmp_path, store, server, 90, workers)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("workers", "total"),
    [
        pytest.param(2, 2, marks=pytest.mark.slow),
        pytest.param(1, 12, marks=pytest.mark.nightly),
        pytest.param(2, 8, marks=pytest.mark.nightly),
    ],
)
def test_kills_with_ray(
    tmp_path: Path,
    store: Path,
    drive: Callable[..., Driver],
    calm: Driver,
    mlflow_uri: str,
    workers: int,
    total: int,
) -> None:
    """The same with the real Ray, whose attempts outlive their driver by an instant, and MLflow."""
    draw = random.Random(f"ray/{workers}")
    trials = {"num_trials": 8, "cpus_per_trial": 2 // workers}
    kills, numbers = 0, count()
    while kills < total:
        folder = tmp_path / f"killed {next(numbers)}"
        study = write_study(folder, store, toy={"slow": 0.1}, trials=trials)
        driver = drive(study)
        while kills < total:
            so_far = len(driver.events("reported"))
            wanted = so_far + (0 if draw.random() < 0.2 else draw.randint(1, 12))
            end_s = time.monotonic() + draw.uniform(0, 3)
            while driver.process.poll() is None and (
                len(driver.events("reported")) < wanted or time.monotonic() < end_s
            ):
                time.sleep(0.005)
            if driver.process.poll() is not None:
                break
            driver.kill()
            kills += 1
            driver = drive(study)
        driver.finish()
        check(driver.folder, mlflow_uri)
        check_decisions(Ledger.open(driver.folder / "ledger.jsonl", writer=False).events)
        if workers == 1:
            assert results(driver.folder) == results(calm.folder)


@pytest.mark.slow
def test_taken_over_from_another_host(tmp_path, store, drive):
    """The driver that was thought dead ends with one line, and the ledger is its successor's."""
    study = write_study(tmp_path, store, toy={"slow": 0.2})
    driver = drive(study)
    driver.wait_for(lambda: len(driver.events("reported")) >= 2)
    successor = driver.folder / "lease.000002"
    successor.write_text('{"fence": 2, "host": "far", "pid": 77, "machine": "far"}')
    (driver.folder / "lease.000001").unlink()
    assert driver.wait() == 2
    last = driver.log.read_text().splitlines()[-1]
    assert "another driver (pid 77 on far) has taken this study over" in last
    os.utime(successor, (0, 0))  # it has released the study
    (driver.folder / "toy" / "slow").write_text("0")
    driver = drive(study)
    driver.finish()
    fences = [event["fence"] for event in driver.events("driver")]
    assert fences == [1, 3]
