"""Small networks of every family, and inputs for them."""

from typing import Any, get_args

import torch
from torch import Tensor, nn

from trainer.model_config import ModelConfig
from trainer.models import build_model
from trainer.models.network import Network

FAMILIES = tuple(
    family
    for family in get_args(ModelConfig.model_fields["family"].annotation)
    if family != "monai_unet"  # diffusion_unet's body: tests/trainer/saved/test_foreign.py
)

VARIANTS: dict[str, dict[str, Any]] = {family: {"family": family} for family in FAMILIES} | {
    "medsegdiff_v2-elementwise": {
        "family": "medsegdiff_v2",
        "v2": {"ss_former_product": "elementwise", "anchor_levels": 2, "ss_former_blocks": 2},
    }
}
"""Settings under which every part that exists is in some network."""

ABLATIONS: dict[str, dict[str, Any]] = {
    "v1-no-ff-parser": {"v1": {"ff_parser": False}},
    "v1-no-fusion": {"v1": {"fusion": False}},
    "v1-neither": {"v1": {"ff_parser": False, "fusion": False}},
    "v2-no-nbp": {"family": "medsegdiff_v2", "v2": {"nbp_blocks": 0}},
    "v2-no-ss-former": {"family": "medsegdiff_v2", "v2": {"ss_former_blocks": 0}},
    "v2-no-anchor": {"family": "medsegdiff_v2", "v2": {"anchor_levels": 0}},
}
"""Networks without one of their parts."""


def size_of(family: str, size: int = 32) -> int:
    """The image size, or the smallest that the family takes."""
    return max(size, 64) if family == "swin_unetr" else size


def build(
    *,
    seed: int = 0,
    in_channels: int = 2,
    image_size: int = 32,
    mask_channels: int = 1,
    out_channels: int = 1,
    outputs_logits: bool = False,
    gradient_checkpointing: bool = False,
    **settings: Any,
) -> Network:
    torch.manual_seed(seed)
    config = ModelConfig(**{"width": 8, "depth": 3, **settings})
    return build_model(
        config,
        in_channels=in_channels,
        image_size=size_of(config.family, image_size),
        mask_channels=mask_channels,
        out_channels=out_channels,
        outputs_logits=outputs_logits,
        gradient_checkpointing=gradient_checkpointing,
    )


def inputs(
    b: int = 2, channels: int = 2, size: int = 32, *, mask_channels: int = 1, seed: int = 2
) -> tuple[Tensor, Tensor, Tensor]:
    """x_t, t and cond."""
    generator = torch.Generator().manual_seed(seed)
    x_t = torch.randn(b, mask_channels, size, size, generator=generator)
    cond = torch.randn(b, channels, size, size, generator=generator)
    return x_t, torch.randint(0, 1000, (b,), generator=generator), cond


def call(model: nn.Module, x_t: Tensor, t: Tensor, cond: Tensor) -> Tensor:
    return model(x_t, t, model.condition(cond))


def everything(model: nn.Module, x_t: Tensor, t: Tensor, cond: Tensor) -> Tensor:
    """The output beside the mask of the Condition U-Net, if there is one."""
    condition = model.condition(cond)
    output = model(x_t, t, condition)
    return torch.cat([output, condition[0]], 1) if model.has_anchor else output


def awaken(model: nn.Module) -> nn.Module:
    """Give every parameter a value as after training: nothing is the identity any more."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator).to(parameter))
    return model
