"""A GPU's memory: what does not fit is halved or said, and all of it is given back."""

import gc
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from search.workflows.check.step import limit_holds, settings, training
from trainer.exceptions import OutOfMemory
from trainer.loop import fit

pytestmark = pytest.mark.gpu

HELD_BYTES = 160 << 20
"""What CUDA's libraries may keep in a process for good: cuBLAS has 64 MiB of workspace on an H200
for each stream that it was used on, and a trial has two, one of them for recording graphs."""


@pytest.fixture
def memory() -> Iterator[None]:
    """Let the process have all of the memory again."""
    yield
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1.0)


def allow(num_bytes: int) -> None:
    """Let this process reserve no more than so much beside what its tensors hold."""
    gc.collect()
    torch.cuda.empty_cache()
    allowed = torch.cuda.memory_reserved() + num_bytes
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, allowed / total))


def held_bytes() -> int:
    gc.collect()
    torch.cuda.empty_cache()
    return torch.cuda.memory_allocated()


def test_a_batch_that_does_not_fit_is_halved(large_store, memory):
    before = held_bytes()
    config = settings(large_store, model__width=32, batch__effective=16)
    state, draws = training(config, torch.device("cuda"))
    batch = draws.batch(0)
    allow(2 << 30)
    state.step(batch)
    state.step(batch)
    state.settle()
    assert 1 <= state.micro < 16
    assert all(p.isfinite().all() for p in state.model.parameters())
    del state
    assert held_bytes() - before < HELD_BYTES


def test_one_image_that_does_not_fit_is_out_of_memory(large_store, memory):
    before = held_bytes()
    config = settings(large_store, model__width=32, batch__effective=4)
    state, draws = training(config, torch.device("cuda"))
    batch = draws.batch(0)
    allow(64 << 20)
    with pytest.raises(OutOfMemory):
        state.step(batch)
    del state
    assert held_bytes() - before < HELD_BYTES


def test_weights_that_do_not_fit_are_out_of_memory(large_store, memory, tmp_path, monkeypatch):
    monkeypatch.setattr("trainer.loop.limit_memory", lambda config, device: None)  # this one stays
    allow(16 << 20)
    config = settings(large_store, model__width=64, epochs=1, epoch_images=8, device="cuda")
    with pytest.raises(OutOfMemory):
        next(fit(config, tmp_path / "run"))


def test_a_share_of_the_card_is_a_limit(store, memory):
    assert limit_holds(settings(store, memory_share=0.5), torch.device("cuda", 0))


def test_trials_in_one_process_give_all_back(store, device, tmp_path):
    """Free memory of the card is asked, which also sees what CUDA graphs and contexts hold."""
    config = settings(
        store,
        model__width=8,
        batch__effective=8,
        epochs=1,
        epoch_images=16,
        sampling__timestep_respacing=3,
    )
    free = []
    for number in range(3):
        assert len([*fit(config, tmp_path / f"{number}")]) == 1
        if device.type == "cuda":
            assert held_bytes() < HELD_BYTES
            free.append(torch.cuda.mem_get_info()[0])
    if free:
        assert free[0] - free[-1] < 64 << 20, free


def test_a_warm_process_trains_one_trial_after_the_other(store, device, tmp_path):
    pytest.importorskip("ray")
    pytest.importorskip("optuna")
    from search.execution.trainable import Trainable
    from search.tuning.searcher import TrialSpec

    config = settings(
        store,
        model__width=8,
        batch__effective=8,
        epochs=2,
        epoch_images=16,
        sampling__timestep_respacing=3,
    )

    def spec(number: int) -> dict[str, object]:
        run_dir = Path(tmp_path, f"{number:04d}")
        run_dir.mkdir()
        return asdict(
            TrialSpec(
                trial=number,
                attempt=1,
                train=config.model_dump(mode="json"),
                run_dir=str(run_dir),
                received=0,
                fit="trainer.loop:fit",
                cpus=1,
                gpus=0.5 if device.type == "cuda" else 0,
            )
        )

    trainable = Trainable(spec(0))
    for number in range(3):
        if number:
            assert trainable.reset(spec(number))  # raises where memory was left behind
        assert [trainable.train()["epoch"] for _ in range(2)] == [1, 2]
    trainable.cleanup()
    if device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(1.0)
        assert held_bytes() < HELD_BYTES
