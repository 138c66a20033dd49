"""Where a process computes, and what it waits for."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import pytest
import torch

from search.execution.hardware import gpu_in_use
from search.execution.worker import on_its_devices
from search.workflows.check.step import PLAIN, settings, training
from trainer.devices import pick_device
from trainer.exceptions import Diverged
from trainer.gpus import look

pytestmark = pytest.mark.gpu


def sees_cuda(gpus: float) -> tuple[bool, str]:
    """Return whether a trial with so many GPUs sees one, and its `device`."""
    device = on_its_devices({"device": "auto"}, gpus)["device"]
    return torch.cuda.is_available(), device


def test_a_trial_without_a_gpu_sees_none():
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        assert process.submit(sees_cuda, 0).result(timeout=120) == (False, "cpu")


def test_what_is_said_of_the_card_is_what_torch_computes_on(store):
    device = pick_device(settings(store))
    assert device == torch.device("cuda", torch.cuda.current_device())
    torch.zeros(1, device=device)
    found = look()
    assert not found.problem and found.driver
    assert gpu_in_use() == torch.cuda.get_device_name(device) == found.names[device.index]


@pytest.mark.parametrize("changes", [{}, PLAIN], ids=["as shipped", "plain"])
def test_a_step_that_is_not_finite_changes_nothing(changes, store, device):
    state, draws = training(settings(store, **changes), device)
    state.step(draws.batch(0))
    state.settle()
    networks = (state.model, state.ema)
    before = [p.detach().clone() for network in networks for p in network.parameters()]
    bad = draws.batch(4)
    bad = replace(bad, images=torch.full_like(bad.images, torch.nan))
    with pytest.raises(Diverged):
        state.step(bad)
        state.settle()
    after = [p.detach() for network in networks for p in network.parameters()]
    assert all(map(torch.equal, before, after))


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("medsegdiff_v1", {}),
        ("medsegdiff_v1", PLAIN),
        ("medsegdiff_v2", PLAIN),
        ("diffusion_unet", PLAIN),
        ("unet", PLAIN),
    ],
    ids=["as shipped", "V1", "V2", "diffusion_unet", "unet"],
)
def test_a_step_waits_for_the_device_nowhere_but_for_its_word(family, changes, store):
    """What torch calls a synchronization raises; the word's event is none."""
    device = torch.device("cuda", 0)
    state, draws = training(settings(store, model__family=family, **changes), device)
    batches = draws.batches(0, device)
    for _ in range(3):
        state.step(next(batches))
    later = [next(batches) for _ in range(2)]
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in later:
            state.step(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    state.settle()
