"""SIGKILL of the driver at random points: nothing is lost, doubled or decided anew."""

import multiprocessing
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from search.ledger import Ledger
from search.state import StudyState
from search.study import load_study
from tests.search import carriers
from tests.search.conftest import Driver, write_study
from tests.search.test_launch import check, results
from tests.search.toy import dice

SETTINGS = {
    "scheduler": {"grace_period": 1, "max_t": 9, "reduction_factor": 3, "smoothing": 2},
    "stall": {"patience": 3, "min_delta": 0.08},
    "trials": {"num_trials": 12},
}


@pytest.fixture(scope="module")
def server() -> multiprocessing.context.ForkServerContext:
    """Return a process that has imported everything and forks drivers in an instant."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.search.carriers", "tests.search.toy"])
    start(context, int).join()
    return context


def start(context, target, *arguments) -> multiprocessing.process.BaseProcess:
    process = context.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def study_of(runs: Path, seed: int, slow_s: float) -> Path:
    """Write a toy study; its store is not looked at."""
    return write_study(runs, runs, toy={"slow": slow_s}, seed=seed, **SETTINGS)


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


def kill_on(
    server, path: Path, num_kills: int, workers: int, draw: random.Random, mean_s: float
) -> int:
    """Kill a study's drivers until it is done or killed often enough; then let it end."""
    folder = path.parent / "toy"
    ledger = folder / "ledger.jsonl"
    before, kills = b"", 0
    while True:
        driver = start(server, carriers.launch, path, path.parent, workers)
        driver.join(draw.expovariate(1 / mean_s) if kills < num_kills else 60)
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
            whole = [event for event in Ledger.open(ledger, writer=False).events]
            before = b"".join(ledger.read_bytes().splitlines(keepends=True)[: len(whole)])


def killed_studies(tmp_path: Path, server, total: int, workers: int) -> None:
    """Kill studies, one after the other, `total` times; with one worker nothing else changes."""
    draw = random.Random(f"kills/{workers}/{total}")
    kills = 0
    while kills < total:
        seed = draw.randrange(1000)
        path = study_of(tmp_path / f"{workers} killed {kills}", seed, 0.001)
        kills += kill_on(server, path, total - kills, workers, draw, mean_s=0.15)
        check_toy(path.parent / "toy", path)
        if workers == 1:
            calm = study_of(tmp_path / f"calm {kills}", seed, 0)
            carriers.launch(calm, calm.parent, 1)
            assert results(path.parent / "toy") == results(calm.parent / "toy")


def test_a_few_kills(tmp_path, server):
    killed_studies(tmp_path, server, 8, 1)
    killed_studies(tmp_path, server, 6, 3)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_ninety_kills(tmp_path, server, workers):
    killed_studies(tmp_path, server, 90, workers)
