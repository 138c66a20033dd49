"""Trials over two workers on exactly two CPUs: real Ray, real training, real deaths."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from search.study import StudyConfig, load_study
from tests.search.conftest import Driver, write_study
from tests.trainer.tiny import TINY
from trainer import loop
from trainer.config import TrainConfig
from trainer.models.medsegdiff_v1 import MedSegDiffV1
from trainer.parallel import rank

pytestmark = pytest.mark.skipif(not dist.is_gloo_available(), reason="torch lacks gloo")

Drive = Callable[..., Driver]
Curve = list[tuple[int, dict[str, float]]]

MAX_T = 3
LR = 1e-3
LR_WITHOUT_MEMORY = 1e-2
LR_BROKEN = 2e-2


def noting(config: TrainConfig, run_dir: Path, *, received: int = 0) -> Iterator[loop.Validation]:
    """The trainer's `fit`, which notes its process and, as its lr says, has faults in rank 1."""
    run_dir.mkdir(parents=True, exist_ok=True)
    with open(run_dir / f"rank{rank()}", "a") as file:
        file.write(f"{os.getpid()}\n")
    forward = MedSegDiffV1.forward

    def exhausted(self: MedSegDiffV1, *args: Any) -> torch.Tensor:
        if self.training:
            raise torch.OutOfMemoryError("injected")
        return forward(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        if rank() == 1 and config.optimizer.lr == LR_WITHOUT_MEMORY:
            patch.setattr(MedSegDiffV1, "forward", exhausted)
        for validation in loop.fit(config, run_dir, received=received):
            yield validation
            if rank() == 1 and config.optimizer.lr == LR_BROKEN and received == 0:
                raise OSError("the store is gone")


def pids(driver: Driver, trial: int) -> list[list[int]]:
    """Return the processes that carried a trial, one after the other, of rank 0 and of rank 1."""
    run_dir = driver.folder / "trials" / f"{trial:04d}"
    return [[int(pid) for pid in (run_dir / f"rank{n}").read_text().split()] for n in (0, 1)]


def curve(driver: Driver, trial: int) -> Curve:
    """Return what the ledger has of a trial, without times."""
    return [
        (event["epoch"], {k: v for k, v in event["metrics"].items() if not k.startswith("time/")})
        for event in driver.events("reported")
        if event["trial"] == trial
    ]


def write(tmp_path: Path, store: Path, enqueue: list[dict[str, Any]]) -> Path:
    """Write a study of the control and the enqueued trials, each over two workers."""
    searched = ("epochs", "optimizer.lr", "batch.effective")
    return write_study(
        tmp_path,
        store,
        train={k: v for k, v in TINY.items() if k not in searched} | {"precision": "fp64"},
        space={
            "optimizer.lr": {"type": "float", "low": 1e-5, "high": 1e-1, "log": True},
            "batch.effective": {"type": "categorical", "choices": [1, 4]},
        },
        control={"optimizer.lr": LR, "batch.effective": 4},
        scheduler={"type": "none", "max_t": MAX_T},
        trials={"num_trials": len(enqueue), "cpus_per_trial": 2, "workers_per_trial": 2},
        enqueue=enqueue,
    )


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Callable[[StudyConfig, int], Curve]:
    """Return what a trial of a study, the control or an ordinary one, measures in one process."""
    known: dict[int, Curve] = {}

    def measure(study: StudyConfig, trial: int) -> Curve:
        if trial not in known:
            params = {"optimizer.lr": LR, "batch.effective": 4}
            config = study.train_config(params if trial else study.control_params)
            validations = loop.fit(config, tmp_path_factory.mktemp("alone"))
            known[trial] = [
                (v.epoch, {k: x for k, x in v.metrics.items() if not k.startswith("time/")})
                for v in validations
            ]
        return known[trial]

    return measure


def assert_equal(found: Curve, expected: Curve) -> None:
    assert [epoch for epoch, _ in found] == [epoch for epoch, _ in expected]
    for (_, ours), (_, theirs) in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-6)


def test_all_trials_in_the_same_two_processes(
    tmp_path: Path, phantom_store: Path, drive: Drive, alone: Callable[..., Curve]
) -> None:
    """They measure what one process does, and end without a measurement as one process would."""
    path = write(
        tmp_path,
        phantom_store,
        [
            {"optimizer.lr": LR_WITHOUT_MEMORY, "batch.effective": 4},
            {"optimizer.lr": LR, "batch.effective": 1},  # fewer images than workers
            {"optimizer.lr": LR, "batch.effective": 4},
        ],
    )
    driver = drive(path, fit="tests.search.test_ranks:noting")
    driver.finish()
    ended = {event["trial"]: event for event in driver.events("ended")}
    endings = ["completed", "infeasible", "infeasible", "completed"]
    assert [ended[trial]["ending"] for trial in range(4)] == endings
    assert ended[1]["reason"] == "one image does not fit on the device"
    assert ended[2]["reason"] == "batch.effective: 1: less than the 2 processes"
    carriers = [pids(driver, trial) for trial in range(4)]
    assert carriers == [carriers[0]] * 4
    [[first], [second]] = carriers[0]
    assert first != second
    for trial in (0, 3):
        assert_equal(curve(driver, trial), alone(load_study(path), trial))


def test_deaths_faults_and_stops(
    tmp_path: Path, phantom_store: Path, drive: Drive, alone: Callable[..., Curve]
) -> None:
    """Each trial goes on in new processes from its checkpoint, and measures the same."""
    path = write(
        tmp_path,
        phantom_store,
        [
            {"optimizer.lr": LR_BROKEN, "batch.effective": 4},
            {"optimizer.lr": LR, "batch.effective": 4},
        ],
    )
    driver = drive(path, fit="tests.search.test_ranks:noting")
    driver.wait_for(lambda: len(curve(driver, 0)) == 1)
    os.kill(pids(driver, 0)[1][0], signal.SIGKILL)
    driver.wait_for(lambda: len(curve(driver, 2)) == 1)
    (driver.folder / "trials" / "0002" / "stop").touch()
    driver.finish()
    assert [event["ending"] for event in driver.events("ended")] == ["completed"] * 3
    reasons = [(event["trial"], event["reason"]) for event in driver.events("interrupted")]
    assert [trial for trial, _ in reasons] == [0, 1, 2]
    assert reasons[0][1].startswith("RuntimeError: rank 1: The actor died")
    assert reasons[1:] == [(1, "RuntimeError: rank 1: the store is gone"), (2, "stopped")]
    for trial, replaced in ((0, True), (1, True), (2, False)):
        for before, after in pids(driver, trial):
            assert (before != after) is replaced
    for trial in (0, 2):
        assert_equal(curve(driver, trial), alone(load_study(path), trial))
    assert [epoch for epoch, _ in curve(driver, 1)] == [1, 2, 3]
