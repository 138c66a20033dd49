"""An optimizer step: gradients, weights' average, learning rate, draws."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.trainer.tiny import tiny_config
from trainer.configfile import ConfigError
from trainer.data.augment import augment, draw_light
from trainer.data.batches import Draws, rows_of
from trainer.data.store import Store
from trainer.state import TrainState, learning_rate, pick_device

CPU = torch.device("cpu")


class InFloat64(nn.Module):
    """Runs a network in float64 on float32 inputs."""

    segments_directly = False

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net.double()

    def forward(self, x_t: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        return self.net(x_t.double(), t, cond.double())


@pytest.mark.parametrize("target", ["eps", "x_start", "v"])
def test_gradient_does_not_depend_on_the_micro_batch(phantom_store: Path, target: str) -> None:
    store = Store.open(phantom_store)
    gradients = []
    for micro in (1, 2, 4):
        config = tiny_config(phantom_store, batch__micro=micro, diffusion__target=target)
        state = TrainState(config, store, CPU)
        # Away from the zero-initialised head, where most gradients vanish.
        for parameter in state.model.parameters():
            torch.manual_seed(0)
            parameter.data += 0.05 * torch.randn_like(parameter)
        state.model = InFloat64(state.model)  # type: ignore[assignment]
        training, _ = store.split(0)
        state._accumulate(Draws(store, config, rows_of(training)).batch(0))
        gradients.append(torch.cat([p.grad.flatten() for p in state.model.parameters()]))
    assert gradients[0].dtype == torch.float64
    assert gradients[0].abs().max() > 1e-3
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0], rtol=0, atol=1e-10)


def test_average_has_the_half_life_in_images(phantom_store: Path) -> None:
    config = tiny_config(phantom_store, optimizer__ema_half_life_images=12)
    state = TrainState(config, Store.open(phantom_store), CPU)
    for average, weight in zip(state.ema.parameters(), state.model.parameters(), strict=True):
        average.data.fill_(1.0)
        weight.data.fill_(0.0)
    state.images = 10_000  # past the ramp
    for _ in range(3):
        state._average(4)
    for average in state.ema.parameters():
        torch.testing.assert_close(average, torch.full_like(average, 0.5))


@pytest.mark.parametrize(
    ("has", "wants", "takes"),
    [
        (None, "auto", "cpu"),
        ("cuda", "auto", "cuda"),
        ("cuda", "cpu", "cpu"),
        ("mps", "mps", "mps"),
    ],
)
def test_auto_takes_the_accelerator(
    monkeypatch: pytest.MonkeyPatch, has: str | None, wants: str, takes: str
) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: has is not None)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device(has or ""))
    assert pick_device(tiny_config(Path("store"), device=wants)) == torch.device(takes)


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is an accelerator")
def test_a_device_that_is_not_here_is_refused() -> None:
    with pytest.raises(ConfigError, match="device: cuda: not here"):
        pick_device(tiny_config(Path("store"), device="cuda"))


def test_learning_rate_in_closed_form() -> None:
    optimizer = tiny_config(
        Path("store"), optimizer__lr=1.0, optimizer__warmup_images=100
    ).optimizer
    rates = [learning_rate(optimizer, images, 10, 1000) for images in (0, 40, 90, 500, 990)]
    cosine = [(1 + np.cos(np.pi * images / 1000)) / 2 for images in (0, 40, 90, 500, 990)]
    assert rates == pytest.approx(np.array([0.1, 0.5, 1, 1, 1]) * cosine)
    constant = optimizer.model_copy(update={"lr_schedule": "constant", "warmup_images": 0})
    assert learning_rate(constant, 990, 10, 1000) == 1.0


def test_draws_follow_the_image_not_the_batch_nor_the_sampling(phantom_store: Path) -> None:
    store = Store.open(phantom_store)
    rows = rows_of(store.split(0)[0])
    four = Draws(store, tiny_config(phantom_store), rows)
    eight = Draws(
        store,
        tiny_config(phantom_store, batch__effective=8, sampling__timestep_respacing=50),
        rows,
    )
    first, second, both = four.batch(0), four.batch(4), eight.batch(0)
    for name in ("images", "masks", "numbers", "position", "noise", "coins", "augmentation"):
        halves = torch.cat([getattr(first, name), getattr(second, name)])
        assert torch.equal(halves, getattr(both, name)), name


def test_timesteps_are_drawn_from_all_of_them(phantom_store: Path) -> None:
    store = Store.open(phantom_store)
    config = tiny_config(phantom_store, batch__effective=24, epoch_images=24)
    draws = Draws(store, config, rows_of(store.split(0)[0]))
    t = torch.cat([draws.batch(first).position.long() for first in range(0, 2400, 24)])
    counts = torch.histc(t.double(), 10, 0, 999)
    assert counts.min() > 180  # 240 expected, sd 15
    assert len(t.unique()) > 850  # 909 expected of 1000, whatever the respacing of 3


def test_lesion_slices_have_their_share_and_test_cases_none(phantom_store: Path) -> None:
    store = Store.open(phantom_store)
    training, held_out = store.split(0)
    rows = rows_of(training)
    for share in (0.0, 1.0):
        draws = Draws(store, tiny_config(phantom_store, data__foreground_fraction=share), rows)
        drawn = np.array([draws.row(n) for n in range(300)])
        assert set(drawn) <= set(rows)
        expected = share or store.lesion_slice[rows].mean()
        assert store.lesion_slice[drawn].mean() == pytest.approx(expected, abs=0.1)
    kept = {case.case_id for case in training} | {case.case_id for case in held_out}
    assert not kept & {case.case_id for case in store.test_cases()}


def test_augmentation_moves_image_and_mask_together() -> None:
    rng = np.random.default_rng(0)
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    blob = (((y - 12) ** 2 + (x - 20) ** 2) < 30).float()[None, None].repeat(64, 1, 1, 1)
    parameters = torch.from_numpy(np.stack([draw_light(rng, 1) for _ in range(64)]))
    parameters[:, 5], parameters[:, 6] = 1.0, 0.0  # intensities as they are
    images, masks = augment(blob * 2 - 1, blob, parameters)
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    assert ((images > 0) == (masks > 0.5)).float().mean() > 0.999
    centres = (masks * x).sum((1, 2, 3)) / masks.sum((1, 2, 3))
    assert centres.min() < 14 < 18 < centres.max()  # flipped and not
    identity = torch.tensor([[1.0, 0, 1, 0, 0, 1, 0]]).repeat(64, 1)
    same, _ = augment(blob, blob, identity)
    torch.testing.assert_close(same, blob, rtol=0, atol=1e-5)
