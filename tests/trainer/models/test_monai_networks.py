"""MONAI's networks behind the one signature, and what they refuse."""

import subprocess
import sys

import pytest
import torch

from tests.trainer.models.families import awaken, build, call, inputs, size_of

DIRECT = ["unet", "dynunet", "swin_unetr"]


@pytest.mark.parametrize("family", DIRECT)
def test_direct_networks_ignore_diffusion(family):
    model = awaken(build(family=family)).eval()
    x_t, t, cond = inputs(size=size_of(family))
    logits = call(model, x_t, t, cond)
    assert model.segments_directly and not model.has_anchor
    assert torch.equal(logits, call(model, torch.zeros_like(x_t), 0 * t, cond))


@pytest.mark.parametrize(("family", "depth"), [("unet", 6), ("dynunet", 6)])
def test_a_single_coarsest_pixel_is_refused_in_one_line(family, depth):
    assert call(build(family=family, depth=5), *inputs()).isfinite().all()
    with pytest.raises(
        ValueError, match=rf"^image_size is 32, .* of a {family} needs at least 64 \(2\*\*depth\)$"
    ):
        build(family=family, depth=depth)


def test_a_dynunet_of_two_levels_is_refused_in_one_line():
    with pytest.raises(ValueError, match=r"^model\.depth: 2: a dynunet needs at least 3$"):
        build(family="dynunet", depth=2)


@pytest.mark.parametrize("size", [32, 80])
def test_a_swin_unetr_refuses_sizes_that_do_not_halve_five_times(size):
    from trainer.model_config import ModelConfig
    from trainer.models import build_model

    config = ModelConfig(family="swin_unetr", width=12)
    with pytest.raises(
        ValueError, match=rf"^image_size is {size}, .* a multiple of 32, at least 64$"
    ):
        build_model(config, in_channels=1, image_size=size, outputs_logits=True)


@pytest.mark.parametrize(("width", "features"), [(4, 12), (12, 12), (20, 24), (48, 48)])
def test_a_swin_unetr_rounds_its_width_up(width, features):
    assert build(family="swin_unetr", width=width).head.in_channels == features


@pytest.mark.parametrize("width", [4, 7, 8, 12, 20, 32])
def test_a_diffusion_unet_hears_the_timestep_at_every_width(width):
    # MONAI adds the timestep before a GroupNorm, which takes it away again where each channel is
    # a group of its own.
    model = awaken(build(family="diffusion_unet", width=width)).eval()
    block = model.body.down_blocks[0].resnets[0]
    x, embedding = torch.randn(1, width, 8, 8), torch.randn(2, 4 * width)
    assert (block(x, embedding[:1]) - block(x, embedding[1:])).abs().max() > 1e-2


def test_monai_is_imported_only_for_its_networks():
    program = "import sys, trainer.loop; sys.exit('monai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
