"""Loss weights over time against their shapes, and learned ones against their closed form."""

import math

import pytest
import torch
from torch import Tensor

from trainer.config import LossConfig
from trainer.training.loss_weighting import MAX_LOG_VARIANCE, OPTIMIZER, TermWeights


def learned(*names: str, **settings: float) -> TermWeights:
    return TermWeights(LossConfig(weighting="learned", **settings), names)


def paid(weights: TermWeights, raw: dict[str, Tensor], progress: float) -> Tensor:
    """Each image's loss after a share of training."""
    return weights(raw, torch.tensor(list(weights.given(progress).values()), dtype=torch.float64))


def optimize(weights: TermWeights, losses: dict[str, float], steps: int) -> dict[str, float]:
    """Take AdamW's steps on the log-variances under constant losses; return the weighted terms."""
    optimizer = torch.optim.AdamW([{"params": weights.parameters(), **OPTIMIZER}])
    raw = {name: torch.full((4,), value) for name, value in losses.items()}
    for _ in range(steps):
        optimizer.zero_grad()
        paid(weights, raw, 0.5).mean().backward()
        optimizer.step()
        weights.clamp_()
    return {name: weight * losses[name] for name, weight in weights.current(0.5).items()}


def test_fixed_weights_stay_and_sum_the_terms_of_each_image():
    weights = TermWeights(LossConfig(noise=2, dice=0.5, bce=0), ["noise", "dice"])
    assert weights.current(0.0) == weights.current(1.0) == {"noise": 2.0, "dice": 0.5}
    raw = {"noise": torch.tensor([1.0, 2.0]), "dice": torch.tensor([0.5, 0.25])}
    assert paid(weights, raw, 0.3).tolist() == [2.25, 4.125]
    assert not list(weights.parameters())


def test_nothing_is_warmed_in_where_there_is_no_noise_loss():
    config = LossConfig(dice=0.5, bce=2, weighting="warm_in")
    assert TermWeights(config, ["dice", "bce"]).current(0.0) == {"dice": 0.5, "bce": 2}


@pytest.mark.parametrize(
    ("shape", "heights"),
    [
        ("step", [0, 0, 0, 0, 1, 1]),
        ("linear", [0, 0.25, 0.5, 0.75, 1, 1]),
        ("cosine", [0, (1 - math.sqrt(0.5)) / 2, 0.5, (1 + math.sqrt(0.5)) / 2, 1, 1]),
    ],
)
def test_warm_in_raises_all_but_noise_in_its_shape(shape, heights):
    config = LossConfig(
        noise=3, dice=0.5, focal=2, weighting="warm_in", warm_in_shape=shape, warm_in_fraction=0.2
    )
    weights = TermWeights(config, ["noise", "vb", "dice", "focal", "anchor"])
    for progress, height in zip([0, 0.05, 0.1, 0.15, 0.2, 0.9], heights, strict=True):
        expected = {"noise": 3, "vb": 1, "dice": 0.5 * height, "focal": 2 * height}
        assert weights.current(progress) == pytest.approx(expected | {"anchor": height}, abs=1e-12)
        raw = {name: torch.ones(2, dtype=torch.float64) for name in weights.names}
        total = sum(weights.current(progress).values())
        assert paid(weights, raw, progress).tolist() == pytest.approx([total] * 2, rel=1e-12)


def test_learned_weights_begin_as_configured():
    weights = learned("noise", "dice", noise=2, dice=0.5)
    assert weights.current(0.0) == {"noise": 2.0, "dice": 0.5}
    raw = {"noise": torch.tensor([1.0, 2.0]), "dice": torch.tensor([0.5, 0.25])}
    assert paid(weights, raw, 0.0).tolist() == [2.25, 4.125]


def test_a_learned_weight_pays_its_log_variance_once_an_image():
    weights = learned("noise", "dice", noise=2, dice=0.5)
    s = {"noise": -1.5, "dice": 0.7}
    with torch.no_grad():
        for name, value in s.items():
            weights.log_variance[name].fill_(value)
    raw = {"noise": torch.tensor([1.0, 2.0]), "dice": torch.tensor([0.5, 0.25])}
    expected = [
        2 * math.exp(1.5) * noise + 0.5 * math.exp(-0.7) * dice - 1.5 + 0.7
        for noise, dice in [(1.0, 0.5), (2.0, 0.25)]
    ]
    assert paid(weights, raw, 0.0).tolist() == pytest.approx(expected, rel=1e-6)
    assert weights.penalty().item() == pytest.approx(-0.8)
    assert weights.current(0.0) == pytest.approx(
        {"noise": 2 * math.exp(1.5), "dice": 0.5 * math.exp(-0.7)}, rel=1e-6
    )


def test_log_variances_converge_to_their_closed_form_within_700_steps():
    weights = learned("noise", "dice", "bce", noise=2, dice=0.5, bce=1)
    losses = {"noise": 3e-3, "dice": 0.9, "bce": 500.0}
    optimize(weights, losses, steps=700)
    for name, loss in losses.items():
        given = getattr(weights.config, name)
        assert weights.log_variance[name].item() == pytest.approx(math.log(given * loss), abs=0.05)


def test_a_second_loss_of_any_size_ends_at_the_same_total():
    """Issue 3: a second loss made the total jump by orders of magnitude and never fall."""
    totals = []
    for size in [0.01, 1.0, 900.0]:
        weighted = optimize(
            learned("noise", "dice", noise=1, dice=1), {"noise": 0.05, "dice": size}, steps=900
        )
        assert weighted == pytest.approx({"noise": 1, "dice": 1}, abs=0.05)
        totals.append(sum(weighted.values()))
    assert max(totals) / min(totals) < 1.05


def test_a_log_variance_stops_at_its_bound_and_comes_back_at_once():
    weights = learned("dice", dice=1)
    optimize(weights, {"dice": 0.0}, steps=900)
    assert weights.log_variance["dice"].item() == -MAX_LOG_VARIANCE
    optimize(weights, {"dice": 1.0}, steps=20)
    assert weights.log_variance["dice"].item() > -MAX_LOG_VARIANCE + 0.1
    optimize(weights, {"dice": 1e6}, steps=2000)
    assert weights.log_variance["dice"].item() == MAX_LOG_VARIANCE
    optimize(weights, {"dice": 1.0}, steps=20)
    assert weights.log_variance["dice"].item() < MAX_LOG_VARIANCE - 0.1


def test_the_learned_variance_of_the_reverse_step_has_no_log_variance():
    weights = learned("noise", "vb", "dice")
    assert set(weights.log_variance) == {"noise", "dice"}
    with torch.no_grad():
        weights.log_variance["noise"].fill_(3)
    assert weights.current(0.5)["vb"] == 1.0


def gradients(weights: TermWeights, raw: dict[str, Tensor], split: list[int]) -> list[Tensor]:
    """Gradients of the log-variances, accumulated over a split of the images."""
    weights.zero_grad()
    parts = zip(*(term.split(split) for term in raw.values()), strict=True)
    for part in parts:
        (paid(weights, dict(zip(raw, part, strict=True)), 0.5).sum() / sum(split)).backward()
    return [s.grad.clone() for s in weights.parameters() if s.grad is not None]


def test_micro_batches_give_the_gradient_of_the_whole():
    weights = learned("noise", "dice").double()
    raw = {
        name: torch.rand(8, generator=torch.Generator().manual_seed(i), dtype=torch.float64)
        for i, name in enumerate(weights.names)
    }
    whole = gradients(weights, raw, [8])
    assert len(whole) == 2
    for split in [[4, 4], [1] * 8, [2, 3, 3]]:
        torch.testing.assert_close(gradients(weights, raw, split), whole, rtol=1e-12, atol=1e-14)


def test_learned_weights_resume_where_they_were():
    weights, fresh = learned("noise", "dice"), learned("noise", "dice")
    optimize(weights, {"noise": 0.1, "dice": 2.0}, steps=30)
    assert fresh.current(0.5) != weights.current(0.5)
    fresh.load_state_dict(weights.state_dict())
    assert fresh.current(0.5) == weights.current(0.5)
