"""Networks as a GPU would run them under bf16 autocast, traced without one on the meta device."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trainer.models import blocks, conv, norm_silu, ss_former
from trainer.models.conv import Conv
from trainer.models.norm_silu import Norm

LOWERED = {
    F.linear,
    F.conv2d,
    F.prelu,
    F.scaled_dot_product_attention,
    torch.conv2d,
    torch.matmul,
}
"""What autocast computes in bf16."""
RAISED = {F.group_norm, F.layer_norm}
"""What it computes in float32."""


class AutocastOnMeta(TorchFunctionMode):
    """bf16 autocast, which the meta device does not have; `paused` by `without_autocast`."""

    paused = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not self.paused and func in LOWERED:
            args = tuple(to(each, torch.float32, torch.bfloat16) for each in args)
        if not self.paused and func in RAISED:
            args = tuple(to(each, torch.bfloat16, torch.float32) for each in args)
        return func(*args, **kwargs)


def to(value: Any, given: torch.dtype, wanted: torch.dtype) -> Any:
    return value.to(wanted) if isinstance(value, Tensor) and value.dtype == given else value


@contextmanager
def like_a_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Autocast, and kernels that change neither layout nor precision, and compute nothing."""
    mode = AutocastOnMeta()

    @contextmanager
    def without_autocast(x: Tensor) -> Iterator[None]:
        mode.paused += 1
        yield
        mode.paused -= 1

    for module in (blocks, ss_former):
        monkeypatch.setattr(module, "without_autocast", without_autocast)
    monkeypatch.setattr(norm_silu, "_Fused", FusedNorm)
    monkeypatch.setattr(conv, "_Biased", Biased)
    with mode:
        yield


def fuse(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, Norm | Conv):
            module.fused = True


class FusedNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *others: Any) -> Tensor:
        ctx.save_for_backward(x, *(each for each in others if isinstance(each, Tensor)))
        ctx.given = [isinstance(each, Tensor) for each in others]
        return torch.empty_like(x.contiguous(memory_format=torch.channels_last))

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, *others = ctx.saved_tensors
        dy.contiguous(memory_format=torch.channels_last)
        gradients = iter(torch.empty_like(each) for each in others)
        return torch.empty_like(x), *(
            next(gradients) if is_given else None for is_given in ctx.given
        )


class Biased(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor, residual: Tensor | None) -> Tensor:
        ctx.save_for_backward(bias)
        ctx.has_residual = residual is not None
        x = x.contiguous(memory_format=torch.channels_last)
        if residual is not None:
            residual.to(x.dtype, memory_format=torch.channels_last)
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        dy = dy.contiguous(memory_format=torch.channels_last)
        return dy, torch.empty_like(*ctx.saved_tensors), dy if ctx.has_residual else None


class Watching(TorchDispatchMode):
    """Tells every operation with its tensors to a function."""

    def __init__(self, tell: Any):
        super().__init__()
        self.tell = tell

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func._schema.name.split("::")[1]
        if name == "convolution" and is_last(args[1]):
            # On a GPU a convolution with channels-last weights gives channels-last maps.
            out = out.contiguous(memory_format=torch.channels_last)
        self.tell(name, tensors((args, kwargs)), tensors(out))
        return out


def tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def is_last(x: Tensor) -> bool:
    return x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
