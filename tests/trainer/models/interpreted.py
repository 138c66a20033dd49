"""The Triton kernels, run by Triton's interpreter on a CPU, beside the same in float64.

Prints JSON: for each case the relative error of the result and of every gradient. A process of its
own, as the interpreter is chosen when the kernels are imported.
"""

import json
import os

os.environ["TRITON_INTERPRET"] = "1"

import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.models.conv import Conv
from trainer.models.norm_silu import Norm

SHAPES = [
    # images, channels, height, width, groups, precision, film, bias of a convolution, silu
    (1, 64, 32, 32, 8, torch.bfloat16, True, True, True),
    (2, 16, 9, 7, 8, torch.float32, True, False, True),
    (3, 12, 5, 5, 6, torch.float32, False, True, False),
    (1, 1024, 2, 4, 8, torch.bfloat16, True, True, True),
    (5, 26, 2, 3, 2, torch.float32, True, True, True),
    (35, 8, 1, 1, 1, torch.float32, True, True, True),
]


def error(got: Tensor, expected: Tensor) -> float:
    return float((got.double() - expected).norm() / expected.norm())


def leaf(value: Tensor) -> Tensor:
    return value.detach().double().requires_grad_()


def norm_errors() -> list[dict[str, float]]:
    found = []
    for n, c, height, width, groups, precision, has_film, has_bias, silu in SHAPES:
        # Far from 0: a variance by subtraction of squares would be lost.
        x = (torch.randn(n, c, height, width) * 3 + 20).to(precision)
        x = x.to(memory_format=torch.channels_last).requires_grad_()
        norm = Norm(c, silu=silu, groups=groups)
        norm.fused = True
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
        film = torch.randn(n, 2 * c).requires_grad_() if has_film else None
        conv_bias = torch.randn(c).requires_grad_() if has_bias else None
        y = norm(x, film, conv_bias)
        dy = torch.randn(y.shape).to(precision)
        y.backward(dy)
        given = {"x": x, "weight": norm.weight, "bias": norm.bias}
        given |= {"film": film} if film is not None else {}
        given |= {"conv_bias": conv_bias} if conv_bias is not None else {}
        exact = {name: leaf(value) for name, value in given.items()}
        h = exact["x"] + (exact["conv_bias"][:, None, None] if has_bias else 0)
        h = F.group_norm(h, groups, exact["weight"], exact["bias"], norm.eps)
        if has_film:
            scale, shift = exact["film"][..., None, None].chunk(2, 1)
            h = h * (1 + scale) + shift
        h = F.silu(h) if silu else h
        h.backward(dy.double())
        last = y.is_contiguous(memory_format=torch.channels_last) and y.dtype == precision
        errors = {"y": error(y.detach(), h.detach()), "layout": float(not last)}
        gradients = {name: error(given[name].grad, exact[name].grad) for name in given}
        found.append({"bf16": float(precision == torch.bfloat16)} | errors | gradients)
    return found


def conv_errors() -> list[dict[str, float]]:
    found = []
    for n, few, many, residual in [(2, 5, 64, False), (3, 16, 12, True), (5, 32, 1, True)]:
        conv = Conv(few, many, 3, padding=1).to(memory_format=torch.channels_last)
        x = torch.randn(n, few, 6, 5)
        beside = torch.randn(n, many, 6, 5) if residual else None
        results = []
        for fused in (True, False):
            conv.fused = fused
            conv.zero_grad()
            inputs = [each.clone().requires_grad_() for each in (x, beside) if each is not None]
            y = conv(*inputs)
            (y * torch.arange(y.numel()).view(y.shape).cos()).sum().backward()
            results.append(
                [y.detach(), conv.weight.grad, conv.bias.grad, *(i.grad for i in inputs)]
            )
        names = ("y", "weight", "bias", "x", "residual")
        pairs = zip(names, *results, strict=False)
        found.append({name: error(got, expected.double()) for name, got, expected in pairs})
    return found


if __name__ == "__main__":
    torch.manual_seed(0)
    print(json.dumps({"norm": norm_errors(), "conv": conv_errors()}))
