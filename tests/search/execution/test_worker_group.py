"""Trials over two workers on exactly two CPUs: real Ray, real training, real deaths."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from queue import Queue
from threading import Event
from typing import Any

import pytest
import torch
import torch.distributed as dist
from ray.exceptions import OutOfMemoryError, RayActorError, RayError

from search.execution.trainable import Trainable
from search.execution.worker import load
from search.execution.worker_group import WorkerGroup
from search.study.load import load_study
from tests.search.conftest import Driver, write_study
from tests.search.execution.test_trainable import spec
from tests.trainer.tiny import TINY, without_times
from trainer import loop
from trainer.config import TrainConfig
from trainer.configfile import ConfigError
from trainer.models.medsegdiff_v1 import MedSegDiffV1
from trainer.training.distributed import rank

pytestmark = pytest.mark.skipif(not dist.is_gloo_available(), reason="torch lacks gloo")

Curve = list[tuple[int, dict[str, float]]]

MAX_T = 3
PLAIN = {"optimizer.lr": 1e-3, "batch.effective": 4}
FEWER_IMAGES_THAN_WORKERS = PLAIN | {"batch.effective": 1}
WITHOUT_MEMORY = PLAIN | {"optimizer.lr": 1e-2}
BROKEN = PLAIN | {"optimizer.lr": 2e-2}
ALONE = PLAIN | {"optimizer.lr": 3e-2}
UNHEARD = PLAIN | {"optimizer.lr": 4e-2}
FULL = [PLAIN | {"optimizer.lr": 5e-2}, PLAIN | {"optimizer.lr": 6e-2}]
"""Rank 0's GPU, or rank 1's, is too full for the optimizer."""
FIT = "tests.search.execution.test_worker_group:noting"


def noting(config: TrainConfig, run_dir: Path, *, received: int = -1) -> Iterator[loop.Validation]:
    """The trainer's `fit`, which notes its process and, as its lr says, has faults in rank 1."""
    run_dir.mkdir(parents=True, exist_ok=True)
    with open(run_dir / f"rank{rank()}", "a") as file:
        file.write(f"{os.getpid()}\n")
    forward, lr = MedSegDiffV1.forward, config.optimizer.lr

    def exhausted(self: MedSegDiffV1, *args: Any) -> torch.Tensor:
        if self.training:
            raise torch.OutOfMemoryError("injected")
        return forward(self, *args)

    def full(*_: Any, **__: Any) -> None:
        raise RuntimeError("CUDA error: out of memory")

    with pytest.MonkeyPatch.context() as patch:
        if rank() == 1 and lr == WITHOUT_MEMORY["optimizer.lr"]:
            patch.setattr(MedSegDiffV1, "forward", exhausted)
        if lr == FULL[rank()]["optimizer.lr"]:
            patch.setattr("torch.optim.AdamW.step", full)
        if lr == UNHEARD["optimizer.lr"]:
            patch.setattr("search.execution.worker_group.GRACE_S", 1.0)
        for validation in loop.fit(config, run_dir, received=received):
            yield validation
            if received == -1 and lr in [t["optimizer.lr"] for t in (BROKEN, ALONE, UNHEARD)]:
                if rank() == 0 and lr == UNHEARD["optimizer.lr"]:
                    time.sleep(600)  # as in nccl, which does not notice that no one answers
                if rank() == 1:
                    raise ConfigError([""]) if lr == ALONE["optimizer.lr"] else OSError("no store")


class Study(Driver):
    """A study of the control and of enqueued trials, each over two workers."""

    def __init__(self, runs: Path, store: Path, enqueue: Sequence[dict[str, Any]], *drive: Any):
        train = {k: v for k, v in TINY.items() if k not in {"epochs", *PLAIN}}
        # Long enough that the stop file, which is looked for once a second, comes in time.
        train["epoch_images"] = 8 * train["epoch_images"]
        path = write_study(
            runs,
            store,
            train=train | {"precision": "fp64"},
            space={
                "optimizer.lr": {"type": "float", "low": 1e-5, "high": 1e-1, "log": True},
                "batch.effective": {"type": "categorical", "choices": [1, 4]},
            },
            control=PLAIN,
            scheduler={"type": "none", "max_t": MAX_T},
            trials={"num_trials": len(enqueue), "cpus_per_trial": 2, "workers_per_trial": 2},
            enqueue=enqueue,
        )
        address, mlflow_uri = drive
        super().__init__(path, runs, address, FIT, env={"MLFLOW_TRACKING_URI": mlflow_uri})

    def pids(self, trial: int) -> list[list[int]]:
        """Return the processes that trained a trial, in order, of rank 0 and of rank 1."""
        run_dir = self.folder / "trials" / f"{trial:04d}"
        return [[int(pid) for pid in (run_dir / f"rank{n}").read_text().split()] for n in (0, 1)]

    def curve(self, trial: int) -> Curve:
        """Return what the ledger has of a trial."""
        reported = [event for event in self.events("reported") if event["trial"] == trial]
        return without_times([loop.Validation(e["epoch"], e["metrics"]) for e in reported])

    def ended(self) -> list[str]:
        """Return the trials' endings, in the order of trials."""
        return [e["ending"] for e in sorted(self.events("ended"), key=lambda e: e["trial"])]

    def interrupted(self) -> list[tuple[int, str]]:
        """Return which attempts of which trials ended before their trial, and why."""
        return [(event["trial"], event["reason"]) for event in self.events("interrupted")]


@pytest.fixture(scope="module")
def study(
    tmp_path_factory: pytest.TempPathFactory, phantom_store: Path, cluster: str, mlflow_uri: str
) -> Study:
    """A study in which rank 1 of trial 0 is killed, and trial 3 is stopped, after an epoch."""
    trials = [WITHOUT_MEMORY, FEWER_IMAGES_THAN_WORKERS, PLAIN]
    runs = tmp_path_factory.mktemp("ranks")
    study = Study(runs, phantom_store, trials, cluster, mlflow_uri)
    study.wait_for(lambda: study.curve(0), 800)
    os.kill(study.pids(0)[1][0], signal.SIGKILL)
    study.wait_for(lambda: study.curve(3), 800)
    (study.folder / "trials" / "0003" / "stop").touch()
    study.finish()
    return study


@pytest.mark.slow
@pytest.mark.parametrize("trial", [0, 3])
def test_two_workers_measure_what_one_does(study: Study, tmp_path: Path, trial: int) -> None:
    """Each epoch once, in order, although both trials were interrupted."""
    settings = load_study(study.study)
    params = PLAIN if trial else settings.control_params
    expected = without_times(list(loop.fit(settings.train_config(params), tmp_path)))
    found = study.curve(trial)
    assert [epoch for epoch, _ in found] == [epoch for epoch, _ in expected] == [1, 2, 3]
    for (_, ours), (_, theirs) in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-6)


@pytest.mark.slow
def test_endings_without_a_measurement(study: Study) -> None:
    assert study.ended() == ["completed", "infeasible", "infeasible", "completed"]
    reasons = {event["trial"]: event["reason"] for event in study.events("ended")}
    assert reasons[1] == "one image does not fit on the device"  # of rank 1
    assert reasons[2] == "batch.effective: 1: less than the 2 processes"


@pytest.mark.slow
def test_a_dead_rank_is_replaced_with_its_trainable(study: Study) -> None:
    (trial, reason), _ = study.interrupted()
    assert trial == 0 and reason.startswith("RuntimeError: rank 1: The actor")
    [before, after], [rank_1_before, rank_1_after] = study.pids(0)
    assert len({before, after, rank_1_before, rank_1_after}) == 4


@pytest.mark.slow
def test_ranks_are_warm(study: Study) -> None:
    """The later trials, whatever their endings, have the processes that the first ended in."""
    pair = [[pids[-1]] for pids in study.pids(0)]
    assert study.pids(1) == study.pids(2) == pair


@pytest.mark.slow
def test_the_stop_file(study: Study) -> None:
    assert study.interrupted()[1] == (3, "stopped")
    assert study.pids(3) == [[pids[-1]] * 2 for pids in study.pids(0)]


@pytest.mark.nightly
def test_a_rank_that_dies_or_fails_ends_the_group(
    tmp_path: Path, phantom_store: Path, cluster: str, mlflow_uri: str
) -> None:
    """Rank 0 dies; rank 1 fails or ends alone; rank 0 does not hear that rank 1 failed."""
    study = Study(tmp_path, phantom_store, [BROKEN, ALONE, UNHEARD], cluster, mlflow_uri)
    study.wait_for(lambda: study.curve(0), 800)
    os.kill(study.pids(0)[0][0], signal.SIGKILL)
    study.finish()
    assert study.ended() == ["completed"] * 4
    assert [trial for trial, _ in study.interrupted()] == [0, 1, 2, 3]
    reasons = [reason for _, reason in study.interrupted()]
    assert reasons[0].startswith("ActorDiedError") and reasons[3].startswith("ActorDiedError")
    assert reasons[1] == "OSError: no store"
    assert reasons[2] == "RuntimeError: rank 1: alone infeasible"
    for trial in range(4):
        assert [epoch for epoch, _ in study.curve(trial)] == [1, 2, 3]
        assert all(before != after for before, after in study.pids(trial))


def test_a_bundle_a_worker(tmp_path: Path) -> None:
    told = spec(tmp_path / "trials" / "0007", cpus=8, gpus=4, workers=4)
    request = Trainable.default_resource_request(told)
    assert request.bundles == [{"CPU": 2, "GPU": 1}] * 4
    assert request.strategy == "STRICT_PACK"


@pytest.mark.nightly
@pytest.mark.timeout(2400)
def test_memory_that_is_too_small_for_one_rank_alone_is_no_death(
    tmp_path: Path, phantom_store: Path, cluster: str, mlflow_uri: str
) -> None:
    study = Study(tmp_path, phantom_store, FULL, cluster, mlflow_uri)
    study.finish()
    assert len(study.interrupted()) <= 1, "a rank 0 that did not hear of it is replaced, once"
    assert study.ended() == ["completed", "infeasible", "infeasible"]
    reasons = {event["trial"]: event["reason"] for event in study.events("ended")}
    assert reasons[1] == "the memory is too small: CUDA error: out of memory"
    assert reasons[2] in ("rank 1: alone out of memory", "rank 1: out of memory")


def shares(config: TrainConfig, run_dir: Path, *, received: int = -1) -> Iterator[Any]:
    """A fit that tells only its share of a GPU."""
    yield config.memory_share


@pytest.mark.parametrize(("gpus", "share"), [(0, 1), (0.25, 0.25), (1, 1), (2, 1)])
def test_neighbours_on_a_gpu_keep_to_their_shares(
    tmp_path: Path, gpus: float, share: float
) -> None:
    told = spec(
        tmp_path / "trials" / "0007",
        gpus=gpus,
        fit="tests.search.execution.test_worker_group:shares",
    )
    assert [*load(told)()] == [share]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OutOfMemoryError("1 worker(s) were killed"), "OutOfMemoryError: 1 worker(s) were killed"),
        (RayActorError(), "RuntimeError: rank 1: The actor"),
    ],
)
def test_a_rank_that_ray_ended_for_want_of_memory_is_told_as_that(
    monkeypatch: pytest.MonkeyPatch, error: RayError, told: str
) -> None:
    def get(_: Any) -> None:
        raise error

    monkeypatch.setattr("ray.wait", lambda steps: (steps[:1], steps[1:]))
    monkeypatch.setattr("ray.get", get)
    group, returned, blame = object.__new__(WorkerGroup), Event(), Queue[Exception]()
    group._actors = []
    returned.set()
    group._watch([object()], returned, blame)
    blamed = blame.get_nowait()
    assert f"{type(blamed).__name__}: {blamed}".startswith(told)
