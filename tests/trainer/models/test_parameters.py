"""The table of parameters in docs/trainer.md, counted."""

from pathlib import Path

import torch
from torch import nn

from trainer.model_config import ModelConfig
from trainer.models import build_model
from trainer.models.medsegdiff_v1 import MedSegDiffV1
from trainer.models.medsegdiff_v2 import MedSegDiffV2
from trainer.models.network import Network
from trainer.models.ss_former import NeuralBandPassFilter

PAGE = Path(__file__).resolve().parents[3] / "docs" / "trainer.md"


def millions(part: nn.Module) -> float:
    return sum(parameter.numel() for parameter in part.parameters()) / 1e6


def network(**settings: object) -> Network:
    config = ModelConfig(**settings)
    guided = config.family == "guided_unet"
    with torch.device("meta"):
        return build_model(
            config,
            in_channels=3,
            image_size=256,
            out_channels=2 if guided else 1,
            outputs_logits=False,
        )


def test_the_presets_have_the_parameters_that_the_page_says():
    rows: dict[str, list[str]] = {}
    for preset in "SBL":
        v1 = network(family="medsegdiff_v1", preset=preset)
        v2 = network(family="medsegdiff_v2", preset=preset)
        assert isinstance(v1, MedSegDiffV1) and isinstance(v2, MedSegDiffV2)
        filters = [part for part in v2.modules() if isinstance(part, NeuralBandPassFilter)]
        counted = {
            "**V1**": f"{millions(v1):.1f}",
            "its FF-Parsers (`model.v1.ff_parser`)": f"{millions(v1.parsers):.2f}",
            "its fusions (`model.v1.fusion`)": f"{millions(v1.fusions):.3f}",
            "**V2**": f"{millions(v2):.1f}",
            "its Condition U-Net": f"{millions(v2.condition):.1f}",
            "its U-SA (`model.v2.anchor_levels`)": f"{millions(v2.anchors):.3f}",
            "its SS-Former (`model.v2.ss_former_blocks`)": f"{millions(v2.ss_former):.1f}",
            "the band-pass filters in it (`model.v2.nbp_blocks`)": (
                f"{sum(map(millions, filters)):.2f}"
            ),
        }
        for name, number in counted.items():
            rows.setdefault(name, []).append(number)
    text = PAGE.read_text()
    for name, numbers in rows.items():
        assert f"| {name} | {' | '.join(numbers)} |" in text


def test_the_official_codes_unet_has_the_parameters_that_the_page_says():
    """Its README's settings; improved-diffusion's widths and attention of 256 px."""
    unet = network(
        family="guided_unet",
        width=128,
        depth=6,
        num_res_blocks=2,
        layout={
            "channels": (128, 128, 256, 256, 512, 512),
            "attention": tuple(level == 4 for level in range(6)),
        },
    )
    assert f"U-Net of {millions(unet):.1f} million" in PAGE.read_text()
