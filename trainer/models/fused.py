"""Whether a network computes with kernels of our own: on a GPU where Triton's compiler works."""

from functools import cache

import torch
from torch import nn

from trainer.exceptions import first_line
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
    layers = _layers(model)
    fused = (
        wanted
        and bool(layers)
        and all(layer.weight.is_cuda and layer.weight.dtype == torch.float32 for layer in layers)
        and _work(layers[0].weight.device)
    )
    for layer in layers:
        layer.fused = fused
    return fused


def are_fused(model: nn.Module) -> bool:
    """Say whether a network computes with them."""
    return any(layer.fused for layer in _layers(model))


def _layers(model: nn.Module) -> list[Norm | Conv]:
    return [
        module
        for module in model.modules()
        if isinstance(module, Norm) or (isinstance(module, Conv) and module.bias is not None)
    ]


@cache
def _work(device: torch.device) -> bool:
    """Say whether a kernel can be built and launched, and print why not, once.

    Triton comes with torch for CUDA on Linux, but compiles its launcher with a C compiler and
    Python's headers, which a container may lack.
    """
    try:
        from trainer.models.kernels import bias

        x = torch.zeros(1, 8, 1, 1, device=device)
        bias.add(x, x.new_zeros(8), None)
    except Exception as error:  # whatever Triton, its compiler or the driver raises
        print(f"note: steps run without kernels of our own: {first_line(error)}", flush=True)
        return False
    return True
