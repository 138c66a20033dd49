"""What makes steps faster is really used on a GPU, and computes what torch's own operations do."""

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from search.workflows.check.step import PLAIN, SAME, TOLERANCES, settings, take_step
from trainer.models.norm_silu import Norm

pytestmark = pytest.mark.gpu

FAMILIES = ["medsegdiff_v1", "medsegdiff_v2", "diffusion_unet"]
VARIED: dict[str, dict[str, Any]] = {
    "V1": {},
    "V2": {"model__family": "medsegdiff_v2"},
    "diffusion_unet": {"model__family": "diffusion_unet"},
    "unet": {"model__family": "unet"},
    "self-conditioning": {"diffusion__self_conditioning": 0.5},
    "recycling": {"diffusion__recycling": 0.5},
    "what follows from counters": {"model__dropout": 0.2, "data__augment": "heavy"},
    "histories": {
        "diffusion__timestep_sampling": "loss_second_moment",
        "diffusion__variance": "learned_range",
        "loss__weighting": "learned",
    },
    "parts": {"batch__micro": 2, "gradient_checkpointing": True},
}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_norms_are_a_kernel(family, precision, store, device):
    changes = {"model__family": family, "precision": precision}
    plain = take_step(settings(store, **changes, **PLAIN), device)
    fused = take_step(settings(store, **changes, **PLAIN | {"norm_kernel": True}), device)
    assert fused.norm_kernel == (device.type == "cuda") and not plain.norm_kernel
    terms, gradient = fused.errors(plain)
    assert terms <= TOLERANCES[precision][0] and gradient <= TOLERANCES[precision][1]


@pytest.mark.parametrize("changes", VARIED.values(), ids=VARIED.keys())
def test_a_micro_batch_is_a_graph(changes, store, device):
    plain = take_step(settings(store, **changes, **PLAIN), device)
    graph = take_step(settings(store, **changes, **PLAIN | {"cuda_graph": True}), device)
    assert plain.no_graph
    assert graph.no_graph is None or device.type != "cuda", graph.no_graph
    terms, gradient = graph.errors(plain)
    assert terms <= SAME["graph"][0] and gradient <= SAME["graph"][1]


def test_both_at_once(store, device):
    plain = take_step(settings(store, **PLAIN), device)
    both = take_step(settings(store, norm_kernel=True, cuda_graph=True), device)
    if device.type == "cuda":
        assert both.norm_kernel and both.no_graph is None, both.no_graph
    terms, gradient = both.errors(plain)
    assert terms <= TOLERANCES["bf16"][0] and gradient <= TOLERANCES["bf16"][1]


def test_distances_on_the_cpu_are_no_graph_and_train(store, device):
    step = take_step(settings(store, loss__boundary=0.1, cuda_graph=True), device)
    assert step.no_graph and all(torch.isfinite(step.gradient))


SHAPES = [
    (1, 64, 1, 2),
    (2, 16, 7, 9),
    (3, 24, 33, 17),
    (2, 64, 256, 256),
    (2, 1024, 16, 16),
]


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_kernel_agrees_with_float64_and_with_itself(shape, kind):
    """Forward and backward; a map far from 0 keeps its variance; a race would differ in a run."""
    device = torch.device("cuda")
    random = torch.Generator().manual_seed(0)
    count, channels = shape[:2]

    def normal(*size: int, mean: float = 0.0) -> torch.Tensor:
        return (mean + torch.randn(size, generator=random)).to(device)

    x = normal(*shape, mean=3.0).to(kind).contiguous(memory_format=torch.channels_last)
    dy = normal(*shape).to(kind).contiguous(memory_format=torch.channels_last)
    film, conv_bias = normal(count, 2 * channels), normal(channels)
    norm = Norm(channels).to(device)
    with torch.no_grad():
        norm.weight.copy_(normal(channels, mean=1.0))
        norm.bias.copy_(normal(channels))
    norm.fused = True

    def gradients() -> list[torch.Tensor]:
        given = [each.clone().requires_grad_() for each in (x, film, conv_bias)]
        norm.zero_grad()
        y = norm(*given)
        y.backward(dy)
        found = [y, *(each.grad for each in given), norm.weight.grad, norm.bias.grad]
        return [each.detach() for each in found if each is not None]

    first = gradients()
    for _ in range(10):
        assert all(map(torch.equal, first, gradients()))

    exact = [
        each.detach().double().requires_grad_()
        for each in (x, film, conv_bias, norm.weight, norm.bias)
    ]
    h = F.group_norm(
        exact[0] + exact[2][None, :, None, None], norm.num_groups, *exact[3:], norm.eps
    )
    scale, shift = exact[1][..., None, None].chunk(2, dim=1)
    expected = F.silu(h * (1 + scale) + shift)
    expected.backward(dy.double())
    theirs = [expected, *(each.grad for each in exact)]
    most = 1e-4 if kind == torch.float32 else 2e-2
    for mine, other in zip(first, theirs, strict=True):
        assert other is not None
        size = other.norm().clamp(min=1e-6 * dy.numel() ** 0.5)
        assert ((mine.double() - other).norm() / size) <= most, (mine.shape, float(size))
