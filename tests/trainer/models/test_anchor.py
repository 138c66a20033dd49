"""Uncertain Spatial Attention, against its formula and scipy's Gaussian."""

import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.nn import functional as F

from tests.trainer.models.families import awaken
from trainer.models.anchor import (
    LearnableGaussian,
    UncertainSpatialAttention,
    with_borders_repeated,
)


@pytest.mark.parametrize(("kernel", "sigma"), [(3, 0.5), (5, 1.0), (7, 2.0)])
def test_gaussian_is_scipys(kernel, sigma):
    x = torch.randn(2, 3, 12, 9).double()
    smoothed = LearnableGaussian(3, kernel, sigma).double()(x)
    expected = gaussian_filter(x, (0, 0, sigma, sigma), mode="nearest", radius=kernel // 2)
    torch.testing.assert_close(smoothed, torch.from_numpy(expected), rtol=1e-6, atol=1e-6)


def test_gaussian_learns_its_width_per_channel_and_keeps_constants():
    gaussian, x = LearnableGaussian(2, 7, 1.0), torch.randn(1, 2, 32, 32)
    target = torch.cat(
        [LearnableGaussian(1, 7, s)(x[:, i : i + 1]).detach() for i, s in enumerate((0.6, 1.8))], 1
    )
    optimizer = torch.optim.Adam(gaussian.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        F.mse_loss(gaussian(x), target).backward()
        optimizer.step()
    torch.testing.assert_close(
        gaussian.log_sigma.exp().flatten(), torch.tensor([0.6, 1.8]), rtol=0.05, atol=0
    )
    torch.testing.assert_close(gaussian(torch.full_like(x, 3.0)), torch.full_like(x, 3.0))


def test_anchor_is_the_papers_formula():
    anchor = awaken(UncertainSpatialAttention(4, 5, 1.0))
    f_d, f_c = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    f_anc = torch.stack([anchor.gaussian(f_c), f_c]).amax(0)
    weights, bias = anchor.gate.weight[:, :, 0, 0], anchor.gate.bias
    gate = torch.sigmoid(torch.einsum("oc,bchw->bohw", weights, f_anc) + bias[:, None, None])
    torch.testing.assert_close(anchor(f_d, f_c), gate * f_d + f_d)


def test_removing_the_gaussian_or_the_maximum_changes_the_anchor():
    anchor = awaken(UncertainSpatialAttention(4, 5, 1.0))
    f_d, f_c = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    whole = anchor(f_d, f_c)
    only_smoothed = torch.sigmoid(anchor.gate(anchor.gaussian(f_c))) * f_d + f_d
    only_as_it_is = torch.sigmoid(anchor.gate(f_c)) * f_d + f_d
    assert (whole - only_smoothed).abs().max() > 1e-2
    assert (whole - only_as_it_is).abs().max() > 1e-2


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_borders_are_repeated_as_torch_does_in_the_same_layout(layout: torch.memory_format) -> None:
    x = torch.randn(2, 3, 5, 4, dtype=torch.float64).to(memory_format=layout)
    gradients = []
    for pad in (with_borders_repeated, lambda x, r: F.pad(x, (r, r, r, r), mode="replicate")):
        leaf = x.clone().requires_grad_()
        padded = pad(leaf, 2)
        assert padded.is_contiguous(memory_format=layout)
        (padded * torch.arange(padded.numel()).view(padded.shape).cos()).sum().backward()
        gradients.append((padded.detach(), leaf.grad))
    assert torch.equal(gradients[0][0], gradients[1][0])
    torch.testing.assert_close(gradients[0][1], gradients[1][1], rtol=1e-12, atol=1e-12)
