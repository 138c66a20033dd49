"""Loss terms against their formulas, and their gradients where implementations go wrong."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from trainer.config import DiffusionConfig, LossConfig
from trainer.diffusion.process import Process
from trainer.diffusion.vlb import vb_term
from trainer.training.losses import loss_terms, soft_dice_loss, term_names

TARGETS = ["eps", "x_start", "v"]
ALL = {"dice": 1, "bce": 1, "focal": 1, "tversky": 1, "boundary": 1}


def terms(
    output: Tensor,
    target: str,
    t: Tensor,
    direct: bool = False,
    anchor_logits: Tensor | None = None,
    variance: str = "fixed_small",
    **settings,
) -> dict[str, Tensor]:
    """Loss terms of an output on masks with one, four and no lesion pixels (b = 3, 8 x 8)."""
    process = Process(DiffusionConfig(target=target, variance=variance))
    x_start, noise = masks(output.dtype), normal(1, output.dtype)
    return loss_terms(
        output,
        anchor_logits=anchor_logits,
        process=process,
        x_start=x_start,
        x_t=process.q_sample(x_start, t, noise),
        noise=noise,
        t=t,
        config=LossConfig(**settings),
        segments_directly=direct,
    )


def masks(dtype: torch.dtype = torch.float64) -> Tensor:
    x_start = -torch.ones(3, 1, 8, 8, dtype=dtype)
    x_start[0, 0, 3, 3] = 1
    x_start[1, 0, :2, :2] = 1
    return x_start


def normal(seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=dtype)


T = torch.tensor([100, 300, 450])  # signal exceeds noise


@pytest.mark.parametrize("target", TARGETS)
def test_terms_equal_their_formulas(target):
    output, x_start, noise = normal(0), masks().numpy(), normal(1).numpy()
    process = Process(DiffusionConfig(target=target))
    raw = terms(output, target, T)

    abar = process.alphas_cumprod[T].numpy()[:, None, None, None]
    a, s, z = np.sqrt(abar), np.sqrt(1 - abar), output.numpy()
    x_t = a * x_start + s * noise
    match target:
        case "x_start":
            error, logits = np.tanh(z / 2) - x_start, z
        case "eps":
            error, logits = z - noise, 6 * (x_t - s * z) / a
        case "v":
            error, logits = z - (a * noise - s * x_start), 6 * (a * x_t - s * z)
    prob, mask = 1 / (1 + np.exp(-logits)), (x_start + 1) / 2
    axes = (1, 2, 3)
    bce = -(mask * np.log(prob) + (1 - mask) * np.log1p(-prob)).mean(axes)
    overlap, total = (prob * mask).sum(axes), (prob + mask).sum(axes)
    dice = 1 - (2 * overlap + 0.064) / (total + 0.064)
    for name, expected in {"noise": (error**2).mean(axes), "dice": dice, "bce": bce}.items():
        assert raw[name].dtype == torch.float64
        np.testing.assert_allclose(raw[name].numpy(), expected, rtol=1e-7, err_msg=name)


@pytest.mark.parametrize("target", TARGETS)
def test_a_sample_does_not_see_its_batch(target):
    process = Process(DiffusionConfig(target=target, variance="learned_range"))
    output = torch.cat([normal(0), normal(2)], dim=1)
    x_start, noise, t = masks(), normal(1), torch.tensor([100, 300, 450])
    x_t = process.q_sample(x_start, t, noise)

    def of(rows: slice) -> dict[str, Tensor]:
        return loss_terms(
            output[rows],
            process=process,
            x_start=x_start[rows],
            x_t=x_t[rows],
            noise=noise[rows],
            t=t[rows],
            config=LossConfig(**ALL, noise_weighting="min_snr", anchor_alpha=100),
            segments_directly=False,
            anchor_logits=normal(3)[rows],
        )

    together = of(slice(0, 3))
    assert set(together) == {"noise", "vb", "anchor", *ALL}
    for split in [[0, 1, 2, 3], [0, 2, 3], [0, 1, 3]]:
        parts = [of(slice(*ends)) for ends in pairwise(split)]
        for name, value in together.items():
            separate = torch.cat([part[name] for part in parts])
            torch.testing.assert_close(separate, value, rtol=1e-12, atol=1e-12, msg=name)


def test_terms_without_weight_are_left_out():
    output = normal(0)
    assert set(terms(output, "v", T)) == {"noise", "dice", "bce"}
    assert set(terms(output, "v", T, dice=0, bce=0)) == {"noise"}
    assert set(terms(output, "v", T, noise=0, bce=0)) == {"dice"}
    assert set(terms(output, "eps", T, direct=True)) == {"dice", "bce"}


def test_a_direct_network_gives_logits_whatever_the_diffusion():
    output, noisy = normal(0), torch.tensor([999, 999, 999])
    raw = terms(output, "eps", noisy, direct=True)
    as_logits = terms(output, "x_start", T)
    assert torch.equal(raw["bce"], as_logits["bce"]) and torch.equal(raw["dice"], as_logits["dice"])


@pytest.mark.parametrize("absurd", [1.0, 1e30, float("inf"), float("nan")])
def test_eps_is_gated_exactly_where_noise_exceeds_signal(absurd):
    t = torch.tensor([100, 999, 999])
    output = normal(0, torch.float32)
    output[1:] *= absurd
    output.requires_grad_()
    raw = terms(output, "eps", t, noise=0)
    assert raw["dice"][0] > 0 and (raw["dice"][1:] == 0).all()
    assert raw["bce"][0] > 0 and (raw["bce"][1:] == 0).all()
    (raw["dice"] + raw["bce"]).sum().backward()
    assert output.grad[0].any() and (output.grad[1:] == 0).all()


def test_the_gate_opens_at_its_ratio():
    process = Process(DiffusionConfig(target="eps"))
    t = torch.tensor([300, 400, 500])
    ratio = process.snr(t)[1].item()
    raw = terms(normal(0), "eps", t, snr_gate=ratio)
    assert (raw["bce"] > 0).tolist() == [True, True, False]
    raw = terms(normal(0), "eps", t, snr_gate=ratio * 1.001)
    assert (raw["bce"] > 0).tolist() == [True, False, False]


@pytest.mark.parametrize("target", ["x_start", "v"])
def test_every_wrong_pixel_pulls_with_full_force_at_any_noise(target):
    output, t = (5 * normal(0)).requires_grad_(), torch.tensor([999, 999, 999])
    raw = terms(output, target, t, noise=0)
    raw["bce"].sum().backward()
    process = Process(DiffusionConfig(target=target))
    x_t = process.q_sample(masks(), t, normal(1))
    wrong = (process.logits(output, x_t, t) > 0) != (masks() > 0)
    # After a clamp to [-1, 1], most of these would have no gradient at all.
    assert wrong.sum() > 30 and (output.grad[wrong].abs() > 0.4 / 64).all()


def test_an_empty_slice_costs_nothing_when_empty_and_rises_smoothly():
    mask = torch.zeros(4, 1, 64, 64)
    logits = torch.full_like(mask, -30)
    logits[1, 0, 0, 0] = 30
    logits[2, 0, 0, :40] = 30
    logits[3] = 30
    loss = soft_dice_loss(logits.requires_grad_(), mask)
    assert loss[0] < 1e-6 and 0.1 < loss[1] < 0.3 and 0.8 < loss[2] < 1 and loss[2] < loss[3] < 1
    loss.sum().backward()
    assert logits.grad.isfinite().all()


def test_a_perfect_mask_has_no_dice_loss_and_a_missed_one_nearly_all():
    x_start = masks()[:2]
    perfect = soft_dice_loss(40 * x_start, (x_start > 0).double())
    missed = soft_dice_loss(torch.full_like(x_start, -40), (x_start > 0).double())
    assert (perfect < 1e-9).all() and (missed > 0.9).all()


def test_half_precision_outputs_are_scored_in_float32():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        raw = terms(normal(0, torch.float32).bfloat16(), "x_start", T)
    assert {value.dtype for value in raw.values()} == {torch.float32}


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("anchored", [False, True])
@pytest.mark.parametrize("variance", ["fixed_small", "learned_range"])
@pytest.mark.parametrize("settings", [{}, {"noise": 0, "focal": 1, "anchor": 0}, {**ALL, "bce": 0}])
def test_the_names_are_those_of_the_terms(direct, anchored, variance, settings):
    output = torch.cat([normal(0), normal(2)], dim=1) if variance == "learned_range" else normal(0)
    if direct:
        output = output[:, :1]
    raw = terms(output, "v", T, direct, normal(3) if anchored else None, variance, **settings)
    assert tuple(raw) == term_names(
        LossConfig(**settings),
        segments_directly=direct,
        has_anchor=anchored,
        learned_range=variance == "learned_range",
    )
    assert ("vb" in raw) == (variance == "learned_range" and not direct)
    assert all(value.shape == (3,) for value in raw.values())


@pytest.mark.parametrize("noise_loss", ["mse", "l1", "huber"])
def test_noise_loss_equals_torch_on_each_sample(noise_loss):
    output, process = 3 * normal(0), Process(DiffusionConfig(target="v"))
    raw = terms(output, "v", T, noise_loss=noise_loss)["noise"]
    criterion = {
        "mse": torch.nn.MSELoss(),
        "l1": torch.nn.L1Loss(),
        "huber": torch.nn.HuberLoss(),
    }[noise_loss]
    target = process.target(masks(), normal(1), T)
    expected = [criterion(output[i], target[i]).item() for i in range(3)]
    np.testing.assert_allclose(raw.numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("noise_loss", ["mse", "l1", "huber"])
@pytest.mark.parametrize("weighting", ["uniform", "min_snr", "sigmoid"])
def test_equal_predictions_cost_the_same_with_every_target(noise_loss, weighting):
    t = torch.tensor([20, 500, 950])
    predicted = torch.tanh(normal(5))
    settings = {"noise_loss": noise_loss, "noise_weighting": weighting, "sigmoid_bias": -1.0}
    costs = {}
    for target in TARGETS:
        process = Process(DiffusionConfig(target=target))
        x_t = process.q_sample(masks(), t, normal(1))
        eps = process.eps(predicted, x_t, t)
        output = 2 * torch.atanh(predicted)
        if target != "x_start":
            output = process.target(predicted, eps, t)
        costs[target] = terms(output, target, t, **settings)["noise"]
        torch.testing.assert_close(process.x_start(output, x_t, t), predicted)
    assert costs["x_start"].unique().numel() == 3
    for target in ["eps", "v"]:
        torch.testing.assert_close(costs[target], costs["x_start"], rtol=1e-8, atol=0)
    plain = {
        target: terms(normal(0), target, t, noise_loss=noise_loss)["noise"] for target in TARGETS
    }
    assert not torch.allclose(plain["eps"], plain["v"], rtol=1e-3)


def test_vb_stands_beside_noise_when_the_variance_is_learned():
    output, t = torch.cat([normal(0), normal(2)], dim=1).requires_grad_(), torch.tensor([0, 9, 400])
    raw = terms(output, "eps", t, variance="learned_range", dice=0, bce=0)
    process = Process(DiffusionConfig(target="eps", variance="learned_range"))
    x_t = process.q_sample(masks(), t, normal(1))
    assert torch.equal(raw["vb"], vb_term(process, output, x_start=masks(), x_t=x_t, t=t))
    raw["noise"].sum().backward(retain_graph=True)
    assert output.grad[:, 0].all() and not output.grad[:, 1].any()
    output.grad = None
    raw["vb"].sum().backward()
    assert output.grad[:, 1].any() and not output.grad[:, 0].any()


def test_anchor_is_dice_and_beta_cross_entropy_at_every_alpha_th_timestep_only():
    logits, t = normal(3).requires_grad_(), torch.tensor([0, 7, 995])
    raw = terms(normal(0), "eps", t, anchor_logits=logits, anchor_alpha=5, anchor_beta=3)["anchor"]
    mask = (masks() > 0).double()
    bce = torch.nn.BCEWithLogitsLoss()
    for i in [0, 2]:  # not gated by the signal-to-noise ratio: this mask comes from the image alone
        expected = soft_dice_loss(logits[i : i + 1], mask[i : i + 1])[0] + 3 * bce(
            logits[i], mask[i]
        )
        torch.testing.assert_close(raw[i], expected)
    raw.sum().backward()
    assert raw[1] == 0 and not logits.grad[1].any()
    assert logits.grad[0].all() and logits.grad[2].all()


@pytest.mark.parametrize("absurd", [float("inf"), float("nan")])
def test_an_anchor_that_is_not_paid_is_not_looked_at(absurd):
    logits = normal(3, torch.float32)
    logits[1] = absurd
    logits.requires_grad_()
    raw = terms(
        normal(0, torch.float32), "v", torch.tensor([5, 6, 10]), anchor_logits=logits, noise=0
    )
    sum(raw.values()).sum().backward()
    assert raw["anchor"][1] == 0 and not logits.grad[1].any() and logits.grad.isfinite().all()


@pytest.mark.parametrize("alpha", [1, 5, 8])
def test_anchor_is_paid_for_one_in_alpha_of_the_images(alpha):
    process, number = Process(DiffusionConfig()), 1000
    t = torch.randint(1000, (number,), generator=torch.Generator().manual_seed(0))
    zeros = torch.zeros(number, 1, 2, 2)
    raw = loss_terms(
        zeros,
        process=process,
        x_start=zeros - 1,
        x_t=zeros,
        noise=zeros,
        t=t,
        config=LossConfig(anchor_alpha=alpha),
        segments_directly=False,
        anchor_logits=zeros,
    )
    share = (raw["anchor"] > 0).double().mean().item()
    assert share == pytest.approx(1 / alpha, abs=4 * (1 / alpha / number) ** 0.5)


@pytest.mark.parametrize("absurd", [1e30, float("inf"), float("nan")])
def test_every_segmentation_loss_is_gated(absurd):
    t = torch.tensor([100, 999, 999])
    output = normal(0, torch.float32)
    output[1:] *= absurd
    output.requires_grad_()
    raw = terms(output, "eps", t, noise=0, **ALL)
    assert set(raw) == set(ALL)
    assert all(value[0] > 0 and (value[1:] == 0).all() for value in raw.values())
    sum(raw.values()).sum().backward()
    assert output.grad[0].any() and (output.grad[1:] == 0).all()
