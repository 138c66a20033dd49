"""What runs again on one card gives the same bits."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from search.workflows.check.step import settings, training
from tests.trainer.tiny import without_times
from trainer.config import TrainConfig
from trainer.devices import set_determinism
from trainer.loop import fit

pytestmark = pytest.mark.gpu

STEPS = 4


def weights(config: TrainConfig, device: torch.device) -> torch.Tensor:
    """Train for some steps and return the weights and their average."""
    state, draws = training(config, device)
    for batch in islice(draws.batches(0, device), STEPS):
        state.step(batch)
    state.settle()
    networks = (state.model, state.ema)
    return torch.cat([p.detach().flatten().cpu() for n in networks for p in n.parameters()])


@pytest.mark.parametrize("family", ["medsegdiff_v1", "medsegdiff_v2", "diffusion_unet", "unet"])
def test_steps_twice(family, store, device):
    config = settings(store, model__family=family, batch__effective=8)
    assert torch.equal(weights(config, device), weights(config, device))


def test_steps_twice_where_that_is_asked_for(store, device):
    """In a process of its own: cuBLAS reads how it is to work when it starts."""
    changes = {"deterministic": True, "batch__effective": 8}
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        assert process.submit(same_twice, store, changes, device).result(timeout=120)


def same_twice(store: Path, changes: dict[str, Any], device: torch.device) -> bool:
    config = settings(store, **changes)
    set_determinism(config)
    return torch.equal(weights(config, device), weights(config, device))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "diffusion__self_conditioning": 0.5,
            "diffusion__timestep_sampling": "loss_second_moment",
            "loss__weighting": "learned",
            "model__dropout": 0.1,
        },
    ],
    ids=["plain", "with histories and counters"],
)
def test_a_run_that_was_stopped_and_resumed(changes: dict[str, Any], store, device, tmp_path):
    config = settings(
        store,
        model__width=8,
        batch__effective=8,
        epochs=2,
        epoch_images=32,
        sampling__timestep_respacing=3,
        **changes,
    )
    whole = without_times([*fit(config, tmp_path / "whole")])
    part = fit(config, tmp_path / "parts")
    first = next(part)
    part.close()
    assert without_times([first, *fit(config, tmp_path / "parts", received=1)]) == whole


def test_weights_that_were_written_and_read_train_on_alike(store, device, tmp_path):
    config = settings(store, model__width=8, epochs=1, epoch_images=16)
    state, draws = training(config, device)
    first, second = islice(draws.batches(0, device), 2)
    state.step(first)
    path = Path(tmp_path, "state.pt")
    torch.save(state.state_dict(), path)
    again, _ = training(config, device)
    again.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    for each in (state, again):
        each.step(second)
    for mine, theirs in zip(state.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)
