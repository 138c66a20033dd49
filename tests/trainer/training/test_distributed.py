"""Several processes train what one would: the same weights, the same files, the same ends."""

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import yaml
from torch import multiprocessing

from tests.trainer.tiny import tiny_config, without_times
from trainer.config import TrainConfig
from trainer.loop import OutOfMemory, Validation, fit
from trainer.models.medsegdiff_v1 import MedSegDiffV1
from trainer.saved.checkpoint import load_latest

pytestmark = pytest.mark.skipif(not dist.is_gloo_available(), reason="torch lacks gloo")

VARIANTS: dict[str, dict[str, object]] = {
    "plain": {},
    "everything": {
        "model__dropout": 0.2,
        "loss__weighting": "learned",
        "diffusion__timestep_sampling": "loss_second_moment",
        "diffusion__num_timesteps": 4,  # so that every timestep soon has its history
        "diffusion__self_conditioning": 0.5,
        "data__augment": "heavy",
        "batch__effective": 5,  # which two cannot share equally
        "epoch_images": 25,
    },
    "v2": {"model__family": "medsegdiff_v2", "loss__anchor_alpha": 2},
}


class Pair:
    """Two processes of one group, which run one task after the other: they are slow to start."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        context = multiprocessing.get_context("spawn")
        self.tasks = [context.SimpleQueue() for _ in range(2)]
        self.results = [context.SimpleQueue() for _ in range(2)]
        self.processes = [
            context.Process(
                target=_work, args=(n, address, self.tasks[n], self.results[n]), daemon=True
            )
            for n in range(2)
        ]
        for process in self.processes:
            process.start()

    def run(self, task: Callable[..., Any], *args: Any) -> list[Any]:
        """Return what `task(*args)` returned, or how it failed, in the first and in the second."""
        for queue in self.tasks:
            queue.put((task, args))
        return [queue.get() for queue in self.results]

    def end(self) -> None:
        for queue in self.tasks:
            queue.put(None)
        for process in self.processes:
            process.join()


def _work(number: int, address: str, tasks: Any, results: Any) -> None:
    dist.init_process_group("gloo", address, rank=number, world_size=2)
    while (given := tasks.get()) is not None:
        task, args = given
        try:
            results.put(task(*args))
        except Exception as error:
            results.put(f"{type(error).__name__}: {error}")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    processes = Pair()
    yield processes
    processes.end()


def train(config: TrainConfig, run_dir: Path, validations: int = 99) -> list[Validation]:
    return [v for v, _ in zip(fit(config, run_dir), range(validations), strict=False)]


def weights(run_dir: Path) -> torch.Tensor:
    state = load_latest(run_dir / "checkpoints")
    assert state is not None
    parts = [*state["model"].values(), *state["ema"].values(), *state["term_weights"].values()]
    return torch.cat([part.flatten() for part in parts])


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_two_processes_train_the_weights_of_one(
    phantom_store: Path, tmp_path: Path, pair: Pair, name: str
) -> None:
    settings = {"epochs": 2, "validation.every": 2, "precision": "fp64"} | VARIANTS[name]
    config = tiny_config(phantom_store, **settings)
    one = train(config, tmp_path / "one")
    ours, theirs = pair.run(train, config, tmp_path / "two")
    assert config.epochs * config.epoch_images / config.batch.effective >= 10  # steps
    assert weights(tmp_path / "one").dtype == torch.float64
    torch.testing.assert_close(
        weights(tmp_path / "two"), weights(tmp_path / "one"), rtol=0, atol=1e-6
    )
    assert ours == theirs
    # The same cases in the same order, and the losses of all images.
    (_, expected), (_, found) = without_times(one)[0], without_times(ours)[0]
    assert found == pytest.approx(expected, abs=1e-6)
    cases = [(tmp_path / run / "cases.parquet").read_bytes() for run in ("one", "two")]
    assert cases[0] == cases[1]


@pytest.mark.slow
def test_checkpoints_pass_between_numbers_of_processes(
    phantom_store: Path, tmp_path: Path, pair: Pair
) -> None:
    config = tiny_config(phantom_store, precision="fp64", **VARIANTS["everything"])
    train(config, tmp_path / "one")
    train(config, tmp_path / "mixed", 1)
    pair.run(train, config, tmp_path / "mixed", 3)
    rest = train(config, tmp_path / "mixed")
    assert [v.epoch for v in rest] == [1, 2, 3, 4]
    torch.testing.assert_close(
        weights(tmp_path / "mixed"), weights(tmp_path / "one"), rtol=0, atol=1e-6
    )


def out_of_memory_in_the_second(config: TrainConfig, run_dir: Path) -> None:
    forward = MedSegDiffV1.forward

    def exhausted(self: MedSegDiffV1, *args: Any) -> torch.Tensor:
        if dist.get_rank() == 1 and self.training:
            raise torch.OutOfMemoryError("injected")
        return forward(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MedSegDiffV1, "forward", exhausted)
        train(config, run_dir)


@pytest.mark.slow
def test_all_hear_that_an_image_does_not_fit_in_one(
    phantom_store: Path, tmp_path: Path, pair: Pair
) -> None:
    found = pair.run(out_of_memory_in_the_second, tiny_config(phantom_store), tmp_path)
    assert found == [f"{OutOfMemory.__name__}: one image does not fit on the device"] * 2


def stopped_in_the_first(config: TrainConfig, run_dir: Path) -> list[Validation]:
    told = []
    for validation in fit(config, run_dir):
        told.append(validation)
        if dist.get_rank() == 0:
            (run_dir / "stop").touch()
    return told


def test_all_end_when_the_first_is_told_to_stop(
    phantom_store: Path, tmp_path: Path, pair: Pair
) -> None:
    config = tiny_config(phantom_store, epochs=200)
    ours, theirs = pair.run(stopped_in_the_first, config, tmp_path)
    assert ours == theirs
    assert 1 <= len(ours) < 200
    assert load_latest(tmp_path / "checkpoints") is not None


def test_fewer_images_than_processes_are_refused(
    phantom_store: Path, tmp_path: Path, pair: Pair
) -> None:
    config = tiny_config(phantom_store, batch__effective=1)
    found = pair.run(train, config, tmp_path)
    assert found == ["ConfigError: batch.effective: 1: less than the 2 processes"] * 2


@pytest.mark.slow
def test_torchrun_starts_the_command(phantom_store: Path, tmp_path: Path) -> None:
    config = tiny_config(phantom_store, epochs=1)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = ["--nproc-per-node=2", "-m", "trainer", "train", str(tmp_path / "config.yaml")]
    done = subprocess.run(
        [*torchrun, *command, "--out", str(tmp_path / "run")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch    1/1") == 1
    assert (tmp_path / "run" / "ema.pt").exists()
