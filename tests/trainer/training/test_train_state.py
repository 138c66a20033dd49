"""An optimizer step: gradients, weights' average, learning rate, draws."""

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.trainer.models import families
from tests.trainer.tiny import tiny_config
from trainer.config import LossConfig, OptimizerConfig
from trainer.configfile import ConfigError
from trainer.data.batches import Draws, rows_of
from trainer.data.store import Store
from trainer.devices import CONTEXT_BYTES, limit_memory, pick_device, set_determinism
from trainer.exceptions import Diverged
from trainer.training.loss_weighting import OPTIMIZER, TermWeights
from trainer.training.optimizer import (
    decaying,
    has_fused_adamw,
    learning_rate_share,
    make_optimizer,
    set_learning_rate,
)
from trainer.training.train_state import TrainState

CPU = torch.device("cpu")


def shaken(state: TrainState) -> TrainState:
    """Move the weights away from zero-initialised layers, where most gradients vanish."""
    for index, parameter in enumerate(state.model.parameters()):
        torch.manual_seed(index)
        parameter.data += 0.05 * torch.randn_like(parameter)
    return state


VARIANTS: dict[str, dict[str, object]] = {
    "eps": {"diffusion__target": "eps"},
    "x_start": {"diffusion__target": "x_start"},
    "v": {"diffusion__target": "v"},
    "dropout": {"model__dropout": 0.3},
    "learned": {"loss__weighting": "learned", "diffusion__variance": "learned_range"},
    "self_conditioning": {"diffusion__self_conditioning": 0.5},
    "recycling": {"diffusion__recycling": 0.5},
    "v2": {"model__family": "medsegdiff_v2", "loss__anchor_alpha": 2},
    "heavy": {"data__augment": "heavy", "data__context_slices": 1},
}


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.one_in(4)
def test_gradient_does_not_depend_on_the_micro_batch(phantom_store: Path, name: str) -> None:
    store = Store.open(phantom_store)
    gradients = []
    for micro in (1, 2, 4):
        config = tiny_config(phantom_store, batch__micro=micro, precision="fp64", **VARIANTS[name])
        state = shaken(TrainState(config, store, CPU))
        training, _ = store.split(0)
        batch = Draws(store, config, rows_of(training)).batch(0)
        state._gradients(batch, state.term_weights.given(state.progress))
        gradients.append(torch.cat([p.grad.flatten() for p in state._parameters()]))
    assert gradients[0].dtype == torch.float64
    assert gradients[0].abs().max() > 1e-3
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0], rtol=0, atol=1e-10)


def test_one_fused_kernel_steps_as_the_plain_loop_does(phantom_store: Path) -> None:
    store = Store.open(phantom_store)
    config = tiny_config(phantom_store)
    assert has_fused_adamw(CPU)
    batch = Draws(store, config, rows_of(store.split(0)[0])).batch(0)
    fused, plain = TrainState(config, store, CPU), TrainState(config, store, CPU)
    plain.optimizer = torch.optim.AdamW(
        [
            {"params": params, "peak_lr": config.optimizer.lr, "weight_decay": decay}
            for params, decay in zip(
                decaying(plain.model), (config.optimizer.weight_decay, 0.0), strict=True
            )
        ],
        foreach=False,
    )
    for state in (fused, plain):
        state.step(batch)
    for one, other in zip(fused.model.parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-7)


def test_steps_that_run_ahead_compute_the_same(phantom_store: Path) -> None:
    store = Store.open(phantom_store)
    config = tiny_config(phantom_store, loss__weighting="learned", loss__bce=0.5)
    draws = Draws(store, config, rows_of(store.split(0)[0]))
    ahead, plain = TrainState(config, store, CPU), TrainState(config, store, CPU)
    ahead.runs_ahead = True  # as on a GPU
    for state in (ahead, plain):
        for first in range(0, 12, 4):
            state.step(draws.batch(first))
    assert ahead.totals["steps"] == 2
    assert ahead.epoch_means() == plain.epoch_means()
    for one, other in zip(ahead.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(one, other)
    for one, other in zip(ahead.ema.parameters(), plain.ema.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-7)


@pytest.mark.parametrize("asked", ["step", "settle", "state_dict", "epoch_means"])
def test_a_step_that_ran_ahead_and_is_not_finite_changes_nothing(
    phantom_store: Path, asked: str
) -> None:
    store = Store.open(phantom_store)
    config = tiny_config(phantom_store)
    draws = Draws(store, config, rows_of(store.split(0)[0]))
    state = TrainState(config, store, CPU)
    state.runs_ahead = True
    state.step(draws.batch(0))
    before = [p.clone() for p in (*state.model.parameters(), *state.ema.parameters())]
    bad = replace(draws.batch(4), images=draws.batch(4).images * float("nan"))
    state.step(bad)
    after = (*state.model.parameters(), *state.ema.parameters())
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    ask = {
        "step": lambda: state.step(draws.batch(8)),
        "settle": state.settle,
        "state_dict": state.state_dict,
        "epoch_means": state.epoch_means,
    }
    with pytest.raises(Diverged, match="step 1: loss term noise is nan"):
        ask[asked]()


def test_gradients_are_views_of_one_tensor_in_their_parameters_layout(phantom_store: Path) -> None:
    state = TrainState(tiny_config(phantom_store), Store.open(phantom_store), CPU)
    begin = state.gradients.data_ptr()
    for parameter in state._parameters():
        gradient = parameter.grad
        assert gradient is not None
        assert gradient.stride() == parameter.stride()
        assert (gradient.data_ptr() - begin) % 128 == 0
        gradient.fill_(1)
    assert state.gradients.sum() == sum(p.numel() for p in state._parameters())


def test_learned_loss_weights_have_their_own_optimizer_settings(phantom_store: Path) -> None:
    config = tiny_config(phantom_store, loss__weighting="learned")
    state = TrainState(config, Store.open(phantom_store), CPU)
    network, kept, learned = state.optimizer.param_groups
    assert kept["weight_decay"] == 0 and kept["peak_lr"] == network["peak_lr"]
    assert network["weight_decay"] == config.optimizer.weight_decay
    assert learned["weight_decay"] == 0
    assert len(learned["params"]) == 3  # noise, dice, bce
    set_learning_rate(state.optimizer, 0.5)
    assert network["lr"] == config.optimizer.lr / 2
    assert learned["lr"] == OPTIMIZER["lr"] / 2


def test_weight_decay_pulls_at_weights_alone_not_at_the_identity() -> None:
    model = families.build(family="medsegdiff_v1")
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    config = OptimizerConfig(lr=0.1, weight_decay=0.5)
    optimizer = make_optimizer(config, model, TermWeights(LossConfig(), ()))
    set_learning_rate(optimizer, 1.0)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        kept = name.endswith("bias") or "norm" in name or "parsers" in name
        factor = 1.0 if kept else 1 - 0.1 * 0.5
        torch.testing.assert_close(parameter.detach(), factor * before[name], msg=name)


@pytest.mark.parametrize("family", families.VARIANTS)
def test_every_parameter_is_optimized_once(family: str) -> None:
    model = families.build(
        image_size=families.size_of(families.VARIANTS[family]["family"]),
        **families.VARIANTS[family],
    )
    decay, keep = decaying(model)
    assert {*decay} | {*keep} == {*model.parameters()} and not {*decay} & {*keep}
    one_dimensional = {p for p in model.parameters() if p.ndim < 2}
    assert one_dimensional <= {*keep} and sum(p.numel() for p in decay) > 0


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
    monkeypatch.setattr(torch.accelerator, "current_device_index", lambda: 1)
    found = pick_device(tiny_config(Path("store"), device=wants))
    assert found == torch.device(takes, None if takes == "cpu" else 1)


def test_a_process_of_torchrun_has_the_gpu_of_its_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    """By index, since a thread begins with GPU 0, whatever its process's is."""
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert pick_device(tiny_config(Path("store"), device="auto")) == torch.device("cuda:1")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ConfigError, match="LOCAL_RANK 2: torchrun: must be below 2"):
        pick_device(tiny_config(Path("store"), device="auto"))


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is an accelerator")
def test_a_device_that_is_not_here_is_refused() -> None:
    with pytest.raises(ConfigError, match="device: cuda: not here"):
        pick_device(tiny_config(Path("store"), device="cuda"))


def test_learning_rate_in_closed_form() -> None:
    def shares(**settings: object) -> list[float]:
        config = tiny_config(
            Path("store"), **{f"optimizer__{k}": v for k, v in settings.items()}
        ).optimizer
        return [learning_rate_share(config, images, 10, 1000) for images in (0, 40, 90, 500, 990)]

    cosine = [(1 + np.cos(np.pi * images / 1000)) / 2 for images in (0, 40, 90, 500, 990)]
    ramp = np.array([0.1, 0.5, 1, 1, 1])
    assert shares(warmup_images=100) == pytest.approx(ramp * cosine)
    linear = ramp * [1, 0.96, 0.91, 0.5, 0.01]
    assert shares(warmup_images=100, lr_schedule="linear") == pytest.approx(linear)
    assert shares(warmup_images=0, lr_schedule="constant") == [1.0] * 5


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


@pytest.mark.parametrize(
    "family",
    [
        "medsegdiff_v2",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("medsegdiff_v1", "dynunet")),
    ],
)
def test_deterministic_algorithms_are_enough(
    phantom_store: Path, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    """A step takes no other, with the same bits here; the next run in the process may."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    store, weights = Store.open(phantom_store), []
    for deterministic in (True, False):
        config = tiny_config(
            phantom_store, deterministic=deterministic, model__family=family, data__augment="heavy"
        )
        set_determinism(config)
        assert torch.are_deterministic_algorithms_enabled() == deterministic
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        state = TrainState(config, store, CPU)
        state.step(Draws(store, config, rows_of(store.split(0)[0])).batch(0))
        weights.append(torch.cat([p.flatten() for p in state.model.parameters()]))
    assert torch.equal(*weights)


def test_a_shared_device_gives_this_process_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four processes fit, with the context of each."""
    given: list[float] = []
    gib = SimpleNamespace(total_memory=16 << 30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: gib)
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda share, device: given.append(share)
    )
    for device, share in (("cuda:0", 0.25), ("cuda:0", 1.0), ("cpu", 0.25)):
        limit_memory(tiny_config(Path("store"), memory_share=share), torch.device(device))
    assert given == [pytest.approx(0.25 - 777 / (16 * 1024))]
    assert 4 * (given[0] * gib.total_memory + CONTEXT_BYTES) <= gib.total_memory
    with pytest.raises(ConfigError, match=r"memory_share: 0\.04: of 16\.0 GiB is less than"):
        limit_memory(tiny_config(Path("store"), memory_share=0.04), torch.device("cuda:0"))
