"""Networks for sampling to be tested with, and noise."""

from collections.abc import Callable

import torch
from torch import Tensor

from trainer.diffusion.process import Process


def normal(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def some_network(x_t: Tensor, t: Tensor) -> Tensor:
    """A smooth deterministic output that depends on both inputs."""
    return torch.sin(3 * x_t) + 0.3 * torch.cos(t.to(x_t.dtype) / 97)[:, None, None, None]


Network = Callable[[Tensor, Tensor], Tensor]


def network_of(process: Process, mask: Callable[[Tensor, Tensor], Tensor]) -> Network:
    """A network whose x_start is mask(x_t, t), whatever it predicts, as exact as float64."""

    def network(x_t: Tensor, t: Tensor) -> Tensor:
        x_start = mask(x_t, t)
        if process.predicts == "x_start":
            return 2 * torch.atanh(x_start.clamp(-1 + 1e-15, 1 - 1e-15))
        return process.target(x_start, process.eps(x_start, x_t, t), t)

    return network


def some_mask(x_t: Tensor, t: Tensor) -> Tensor:
    return torch.tanh(some_network(x_t, t))


def no_noise(i: int) -> Tensor:
    raise AssertionError("this method adds no noise")
