"""AdamW over the network and the learned loss weights, and its learning rate over training."""

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, assert_never

import torch
from torch import Tensor, nn

from trainer.config import OptimizerConfig
from trainer.training.loss_weighting import OPTIMIZER, TermWeights

ALIGNED = 32
"""Elements; 128 bytes."""


def make_optimizer(
    config: OptimizerConfig, model: nn.Module, term_weights: TermWeights
) -> torch.optim.AdamW:
    """Return AdamW (Loshchilov & Hutter 2019), its fused kernel where the device has one.

    What weight decay pulls towards 0 is `decaying`. The learned loss weights have settings of
    their own (trainer/training/loss_weighting.py).
    """
    decay, keep = decaying(model)
    groups: list[dict[str, Any]] = [
        {"params": decay, "peak_lr": config.lr, "weight_decay": config.weight_decay},
        {"params": keep, "peak_lr": config.lr, "weight_decay": 0.0},
    ]
    if learned := list(term_weights.parameters()):
        groups.append({"params": learned, "peak_lr": OPTIMIZER["lr"], **OPTIMIZER})
    return torch.optim.AdamW(groups, fused=has_fused_adamw(decay[0].device))


def decaying(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return a model's parameters that weight decay is for, and the others, each in its order.

    Those are the weights of convolutions, linear maps and attention, for which 0 is nothing. It is
    not for biases, for the gains of norms, nor for a filter that begins as the identity (the
    FF-Parser), as 0 would mute what passes through.
    """
    named = list(model.named_parameters())
    decays = [p.ndim > 1 and name.endswith("weight") for name, p in named]
    return (
        [p for (_, p), does in zip(named, decays, strict=True) if does],
        [p for (_, p), does in zip(named, decays, strict=True) if not does],
    )


def has_fused_adamw(device: torch.device) -> bool:
    """Say whether torch has AdamW as one kernel for this kind of device."""
    parameter = nn.Parameter(torch.zeros(1, device=device))
    try:
        torch.optim.AdamW([parameter], fused=True)
    except RuntimeError:
        return False
    return True


def set_learning_rate(optimizer: torch.optim.Optimizer, share: float) -> None:
    """Set each group's learning rate to a share of its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * share


def learning_rate_share(config: OptimizerConfig, images: int, batch: int, total: int) -> float:
    """Return the learning rate over its peak, in the step that begins after `images` of `total`."""
    ramp = min(1.0, (images + batch) / max(config.warmup_images, 1))
    left = 1 - min(images / total, 1)
    match config.lr_schedule:
        case "constant":
            return ramp
        case "cosine":
            return ramp * (1 + math.cos(math.pi * (1 - left))) / 2
        case "linear":
            return ramp * left
        case _:
            assert_never(config.lr_schedule)


def static_gradients(parameters: Sequence[nn.Parameter]) -> Tensor:
    """Give parameters gradients of 0 that are views of one tensor, which is returned.

    A gradient has its parameter's layout, and begins where a GPU's widest loads do.
    """
    places = [0, *accumulate(-(-p.numel() // ALIGNED) * ALIGNED for p in parameters)]
    flat = torch.zeros(places[-1], dtype=parameters[0].dtype, device=parameters[0].device)
    for parameter, place in zip(parameters, places, strict=False):
        view = flat[place : place + parameter.numel()]
        parameter.grad = view.as_strided(parameter.shape, parameter.stride())
    return flat
