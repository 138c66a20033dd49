"""Self-conditioning and recycling: what the network is given of its own."""

import pytest
import torch
from torch import Tensor, nn

from tests.trainer.diffusion.networks import normal, some_network
from trainer.config import DiffusionConfig, SamplingConfig
from trainer.diffusion.process import Process
from trainer.diffusion.sampling import sample
from trainer.diffusion.self_conditioning import own_estimate, recycled


def test_own_estimate_sees_zeros_and_is_clipped():
    process = Process(DiffusionConfig(self_conditioning=0.5, target="v"))
    x_t, t, seen = normal(0, 5, 1, 3, 3), torch.tensor([0, 10, 500, 900, 999]), []

    def network(x: Tensor, when: Tensor) -> Tensor:
        seen.append(x)
        return 3 * some_network(x, when)

    estimate = own_estimate(process, network, x_t, t)
    assert torch.equal(seen[0], torch.cat([x_t, 0 * x_t], dim=1))
    expected = process.x_start(3 * some_network(seen[0], t), x_t, t).clamp(-1, 1)
    assert torch.equal(estimate, expected) and estimate.abs().max() == 1


@pytest.mark.parametrize("t", [900, 500, 0])
def test_recycled_is_where_ddims_first_step_leads(t):
    process = Process(DiffusionConfig(target="x_start", recycling=0.5, zero_terminal_snr=True))
    noise, seen = normal(0, 2, 1, 3, 3), []

    def network(x: Tensor, when: Tensor) -> Tensor:
        seen.append((x, when))
        return some_network(x, when)

    x_t = recycled(process, network, noise, torch.full((2,), t))
    assert torch.equal(seen[0][0], noise) and seen[0][1].tolist() == [999, 999]
    first = torch.tanh(some_network(noise, torch.full((2,), 999)) / 2)
    abar = process.alphas_cumprod[t]
    torch.testing.assert_close(x_t, abar.sqrt() * first + (1 - abar).sqrt() * noise)


def test_recycled_is_the_second_input_of_sampling():
    process, seen = Process(DiffusionConfig(recycling=1.0, zero_terminal_snr=True)), []
    noise = normal(0, 2, 1, 3, 3)

    def network(x: Tensor, when: Tensor) -> Tensor:
        seen.append(x)
        return some_network(x, when)

    sample(process, network, noise, SamplingConfig(timestep_respacing=2), lambda i: noise)
    x_t = recycled(process, some_network, noise, torch.full((2,), 499))
    torch.testing.assert_close(x_t, seen[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("settings", [{"recycling": 0.5}, {"self_conditioning": 0.5}])
def test_the_training_pass_keeps_its_gradient_under_autocast(settings):
    process = Process(DiffusionConfig(**settings))
    torch.manual_seed(0)
    model = nn.Conv2d(process.mask_channels, 1, 3, padding=1)
    noise, t = normal(0, 2, 1, 4, 4).float(), torch.tensor([10, 700])

    def network(x: Tensor, when: Tensor) -> Tensor:
        return model(x)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        if process.mask_channels == 2:
            x = process.model_input(noise, own_estimate(process, network, noise, t))
        else:
            x = recycled(process, network, noise, t)
        assert not x.requires_grad
        output = network(x, t)
    output.float().square().sum().backward()
    assert model.weight.grad is not None and model.weight.grad.abs().max() > 0
    # Nothing of the first pass is in it.
    expected = torch.autograd.grad(
        nn.functional.conv2d(
            x.bfloat16(), model.weight.bfloat16(), model.bias.bfloat16(), padding=1
        )
        .float()
        .square()
        .sum(),
        model.weight,
    )[0]
    torch.testing.assert_close(model.weight.grad, expected, rtol=0.02, atol=0.02)
