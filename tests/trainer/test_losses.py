"""Loss terms against their formulas, and their gradients where implementations go wrong."""

import numpy as np
import pytest
import torch
from torch import Tensor

from trainer.config import DiffusionConfig, LossConfig
from trainer.diffusion.process import Process
from trainer.losses import loss_terms, soft_dice_loss, weights

TARGETS = ["eps", "x_start", "v"]


def terms(output: Tensor, target: str, t: Tensor, direct: bool = False, **settings) -> dict:
    """Loss terms of an output on masks with one, four and no lesion pixels (b = 3, 8 x 8)."""
    process = Process(DiffusionConfig(target=target))
    x_start, noise = masks(output.dtype), normal(1, output.dtype)
    return loss_terms(
        output,
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
    output, process = normal(0), Process(DiffusionConfig(target=target))
    x_start, noise = masks(), normal(1)
    x_t = process.q_sample(x_start, T, noise)

    def of(rows: slice) -> dict[str, Tensor]:
        return loss_terms(
            output[rows],
            process=process,
            x_start=x_start[rows],
            x_t=x_t[rows],
            noise=noise[rows],
            t=T[rows],
            config=LossConfig(),
            segments_directly=False,
        )

    together = of(slice(0, 3))
    for i in range(3):
        for name, value in of(slice(i, i + 1)).items():
            torch.testing.assert_close(value, together[name][i : i + 1], rtol=1e-12, atol=1e-12)


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


def test_warm_in_rises_linearly_to_the_configured_weights():
    fixed = LossConfig(noise=1, dice=0.5, bce=0)
    assert weights(fixed, 0.0) == weights(fixed, 1.0) == {"noise": 1.0, "dice": 0.5}
    warm = LossConfig(noise=1, dice=0.5, bce=2, weighting="warm_in", warm_in_fraction=0.2)
    assert weights(warm, 0.0) == {"noise": 1.0, "dice": 0.0, "bce": 0.0}
    assert weights(warm, 0.05) == pytest.approx({"noise": 1.0, "dice": 0.125, "bce": 0.5})
    assert weights(warm, 0.2) == weights(warm, 0.9) == {"noise": 1.0, "dice": 0.5, "bce": 2.0}
