"""Whether a network computes with kernels of our own: on a GPU that has Triton."""

from functools import cache

import torch
from torch import nn

from trainer.models.conv import Conv
from trainer.models.norm_silu import Norm


def use_kernels(model: nn.Module, wanted: bool) -> bool:
    """Let a network's norms and convolutions be fused where its device and installation can.

    Args:
        model: On its device, in its precision, channels last.
        wanted: The setting.

    Returns:
        Whether they are.
    """
    layers = [
        m
        for m in model.modules()
        if isinstance(m, Norm) or (isinstance(m, Conv) and m.bias is not None)
    ]
    fused = (
        wanted
        and bool(layers)
        and _has_triton()
        and all(layer.weight.is_cuda and layer.weight.dtype == torch.float32 for layer in layers)
    )
    for layer in layers:
        layer.fused = fused
    return fused


def has_kernels(model: nn.Module) -> bool:
    """Say whether a network is fused."""
    return any(layer.fused for layer in _layers(model))


def _layers(model: nn.Module) -> list[Norm | Conv]:
    return [
        module
        for module in model.modules()
        if isinstance(module, Norm) or (isinstance(module, Conv) and module.bias is not None)
    ]


@cache
def _has_triton() -> bool:
    """Say whether Triton is here; it comes with torch for CUDA on Linux."""
    try:
        import triton  # noqa: F401
    except ImportError:
        return False
    return True
