"""The control: MONAI's U-Net behind the same call."""

import subprocess
import sys

import pytest
import torch

from trainer.config import ModelConfig
from trainer.models import build_model
from trainer.models.unet import PlainUNet


def build(**settings) -> PlainUNet:
    torch.manual_seed(0)
    config = ModelConfig(family="unet", **{"width": 8, "depth": 3, **settings})
    return build_model(config, in_channels=3, image_size=32, outputs_logits=True)


def test_segments_the_image_and_ignores_diffusion():
    model = build().eval()
    x_t, t, cond = torch.randn(2, 1, 32, 32), torch.tensor([3, 999]), torch.randn(2, 3, 32, 32)
    logits = model(x_t, t, cond)
    assert model.segments_directly and logits.shape == (2, 1, 32, 32)
    assert torch.equal(logits, model(torch.zeros_like(x_t), 0 * t, cond))
    assert (logits - model(x_t, t, cond.flip(0))).abs().max() > 1e-3


def test_samples_are_independent_of_their_batch():
    model = build().double()
    cond = torch.randn(3, 3, 32, 32).double()
    together = model(cond, None, cond)
    alone = torch.cat([model(cond, None, cond[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-9)


def test_a_single_coarsest_pixel_is_refused_in_one_line():
    assert (
        build(depth=5)(torch.empty(0), torch.empty(0), torch.randn(1, 3, 32, 32)).isfinite().all()
    )
    with pytest.raises(ValueError, match=r"^image_size is 32, but .* at least 64 \(2\*\*depth\)$"):
        build(depth=6)


def test_monai_is_imported_only_for_the_control():
    program = "import sys, trainer.models, trainer.losses; sys.exit('monai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


@pytest.mark.parametrize("family", ["medsegdiff_v1", "unet"])
def test_logits_begin_at_the_lesions_share(family):
    config = ModelConfig(family=family, width=8, depth=3)
    x_t, t, cond = torch.randn(2, 1, 32, 32), torch.tensor([3, 999]), torch.randn(2, 3, 32, 32)
    torch.manual_seed(0)
    model = build_model(config, in_channels=3, image_size=32, outputs_logits=True).eval()
    assert 0.002 < torch.sigmoid(model(x_t, t, cond)).mean() < 0.1
