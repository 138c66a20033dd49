"""Drawing timesteps: uniformly, and as improved-diffusion does by the loss's second moment."""

import numpy as np
import pytest
import torch
from torch import Tensor

from trainer.config import DiffusionConfig
from trainer.diffusion.timestep_sampling import TimestepSampler


def second_moment(num_timesteps: int) -> TimestepSampler:
    return TimestepSampler(
        DiffusionConfig(num_timesteps=num_timesteps, timestep_sampling="loss_second_moment")
    )


def evenly(num_timesteps: int, per_timestep: int) -> Tensor:
    """Positions that cover [0, T) evenly."""
    n = num_timesteps * per_timestep
    return (torch.arange(n, dtype=torch.float64) + 0.5) / per_timestep


class Published:
    """Ten losses a timestep, first in first out; sqrt of their mean square; 0.1 % uniform."""

    def __init__(self, num_timesteps: int):
        self.history: list[list[float]] = [[] for _ in range(num_timesteps)]

    def update(self, ts: list[int], losses: list[float]) -> None:
        for t, loss in zip(ts, losses, strict=True):
            self.history[t] = [*self.history[t], loss][-10:]

    def weights(self) -> np.ndarray:
        if any(len(losses) < 10 for losses in self.history):
            return np.full(len(self.history), 1 / len(self.history))
        w = np.sqrt(np.mean(np.square(self.history), axis=1))
        w = w / w.sum() * (1 - 0.001)
        return w + 0.001 / len(w)


def test_probabilities_and_weights_are_improved_diffusions():
    ours, theirs = second_moment(20), Published(20)
    rng = np.random.default_rng(0)
    phases = set()
    for step in range(200):
        t, _ = ours.draw(torch.from_numpy(rng.uniform(0, 20, 4)))
        loss = rng.exponential(1 + t.numpy()) + 0.01
        order = np.lexsort([loss, t.numpy()])  # within one step, smaller losses are older
        ours.update(t, torch.from_numpy(loss))
        theirs.update(t.numpy()[order].tolist(), loss[order].tolist())
        np.testing.assert_allclose(ours.probabilities().numpy(), theirs.weights(), rtol=1e-12)
        phases.add(min(len(losses) for losses in theirs.history) == 10)
        if step % 20 == 0:
            drawn, weight = ours.draw(evenly(20, 50))
            expected = 1 / (20 * theirs.weights()[drawn.numpy()])
            np.testing.assert_allclose(weight.numpy(), expected, rtol=1e-6)
    assert phases == {False, True}


def warm(num_timesteps: int = 50) -> TimestepSampler:
    sampler = second_moment(num_timesteps)
    t = torch.arange(num_timesteps).repeat_interleave(10)
    sampler.update(t, (1 + t.double()) ** 2)
    return sampler


def test_draws_follow_the_distribution_and_stay_unbiased():
    sampler = warm()
    p = sampler.probabilities()
    assert p.sum().item() == pytest.approx(1, abs=1e-12) and p[49] / p[0] > 500
    t, weight = sampler.draw(evenly(50, 2000))
    assert t.dtype == torch.int64 and weight.dtype == torch.float32
    frequency = torch.bincount(t, minlength=50) / len(t)
    torch.testing.assert_close(frequency.double(), p, rtol=0, atol=2e-5)
    value = torch.sin(torch.arange(50.0)) + 2
    assert (weight * value[t]).mean().item() == pytest.approx(value.mean().item(), rel=0.02)


@pytest.mark.parametrize("kind", ["uniform", "cold"])
def test_uniform_is_the_floor_of_the_position(kind):
    sampler = second_moment(30) if kind == "cold" else TimestepSampler(DiffusionConfig())
    if kind == "cold":  # every timestep but one has its ten
        t = torch.arange(29).repeat_interleave(10)
        sampler.update(t, t.double())
    position = torch.tensor([0.0, 0.999, 1.0, 17.5, 29.999999999], dtype=torch.float64)
    t, weight = sampler.draw(position)
    assert t.tolist() == [0, 0, 1, 17, 29] and t.dtype == torch.int64
    assert weight.tolist() == [1.0] * 5 and weight.dtype == torch.float32


def test_every_position_has_a_timestep():
    sampler = warm(7)
    last = torch.tensor([np.nextafter(7, 0), 0.0], dtype=torch.float64)
    assert sampler.draw(last)[0].tolist() == [6, 0]


def test_update_does_not_depend_on_the_order_of_the_images():
    rng = torch.Generator().manual_seed(0)
    for batch in (3, 40, 400):  # of 5 timesteps: also more than ten losses of one
        ours, other = second_moment(5), second_moment(5)
        for _ in range(30):
            t = torch.randint(5, (batch,), generator=rng)
            loss = torch.rand(batch, generator=rng)
            shuffled = torch.randperm(batch, generator=rng)
            ours.update(t, loss)
            other.update(t[shuffled], loss[shuffled])
        assert all(torch.equal(a, other.state_dict()[k]) for k, a in ours.state_dict().items())


def test_more_losses_than_the_history_holds_count_alike():
    sampler = second_moment(2)
    loss = torch.linspace(1, 3, 41, dtype=torch.float64)
    sampler.update(torch.cat([torch.zeros(41), torch.ones(41)]).long(), torch.cat([loss, 2 * loss]))
    p = sampler.probabilities()
    assert (p[1] / p[0]).item() == pytest.approx(2, rel=5e-3)
    kept = sampler.state_dict()["losses"][0]
    assert kept.square().mean().item() == pytest.approx(loss.square().mean().item())


def test_a_perfect_network_is_drawn_for_uniformly():
    sampler = second_moment(4)
    sampler.update(torch.arange(4).repeat_interleave(10), torch.zeros(40))
    t, weight = sampler.draw(evenly(4, 10))
    assert torch.bincount(t).tolist() == [10] * 4 and (weight - 1).abs().max() < 1e-6


def test_state_continues_to_the_bit():
    generator = torch.Generator().manual_seed(0)
    batches = [
        (torch.randint(6, (8,), generator=generator), torch.rand(8, generator=generator))
        for _ in range(60)
    ]
    through, first, second = second_moment(6), second_moment(6), second_moment(6)
    for t, loss in batches:
        through.update(t, loss)
    for t, loss in batches[:25]:
        first.update(t, loss)
    state = first.state_dict()
    second.load_state_dict(state)
    first.update(*batches[0])  # a saved state stays as it was
    for t, loss in batches[25:]:
        second.update(t, loss)
    assert torch.equal(second.probabilities(), through.probabilities())
    assert TimestepSampler(DiffusionConfig()).state_dict() == {}
