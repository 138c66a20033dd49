"""The section `model`: which network, and how large."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from trainer.configfile import Section

PRESETS = {
    "S": {"width": 64, "depth": 5, "num_res_blocks": 2, "attention_levels": 1},
    "B": {"width": 64, "depth": 6, "num_res_blocks": 2, "attention_levels": 2},
    "L": {"width": 64, "depth": 7, "num_res_blocks": 2, "attention_levels": 3},
}
"""MedSegDiff's sizes. The paper gives the 4, 5 and 6 down-samplings; the official recipe the
residual blocks and attention from 16 x 16 down at 256 px; the width is our choice."""


class V2Config(Section):
    """What MedSegDiff-V2 has beyond V1 (Wu et al. 2024, arXiv 2301.11798)."""

    anchor_levels: int = Field(default=1, ge=1, le=2)
    """Levels at which Uncertain Spatial Attention anchors the noisy encoder: the text of the paper
    names the finest, its first version draws two."""
    anchor_kernel: Literal[3, 5, 7] = 5
    """Side of the learnable Gaussian; not in the paper."""
    anchor_sigma: float = Field(default=1.0, gt=0)
    """Standard deviation in pixels with which the learnable Gaussian begins; not in the paper."""
    ss_former_blocks: int = Field(default=1, ge=1, le=8)
    """Stacked SS-Former blocks between the two U-Nets' deepest features."""
    ss_former_product: Literal["attention", "elementwise"] = "attention"
    """attention is the AAAI version's M = (F(c) Wq)(F(e) Wk)^T; elementwise the first version's
    product of spectra with a sine."""
    nbp_blocks: int = Field(default=3, ge=1, le=8)
    """Blocks of the network that computes the neural band-pass filter (R; the paper has 6), which
    only the attention product has."""


class ModelConfig(Section):
    family: Literal[
        "medsegdiff_v1", "medsegdiff_v2", "diffusion_unet", "unet", "dynunet", "swin_unetr"
    ] = "medsegdiff_v1"
    """medsegdiff_v1 and _v2 (arXiv 2211.00611, 2301.11798); diffusion_unet is MONAI's
    DiffusionModelUNet; unet, dynunet and swin_unetr are MONAI's and segment directly."""
    preset: Literal["S", "B", "L"] | None = None
    """MedSegDiff's sizes for width, depth, num_res_blocks and attention_levels, where not given."""
    width: int = Field(default=32, ge=4, le=4096)
    """Channels at full resolution; level i has width * min(2**i, 8). swin_unetr rounds it up to a
    multiple of 12."""
    depth: int = Field(default=4, ge=2, le=7)
    """Resolution levels; the image size must be a multiple of 2**(depth - 1). swin_unetr always has
    6, and needs a multiple of 32."""
    num_res_blocks: int = Field(default=1, ge=1, le=12)
    """Residual blocks per level; swin_unetr has pairs of transformer blocks, and dynunet always two
    convolutions."""
    attention_levels: int = Field(default=1, ge=0)
    """How many of the coarsest levels have self-attention; diffusion_unet has it between its
    halves too. Not used by the families that segment directly."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the activations that training sets to zero, between the convolutions of a block."""
    v2: V2Config = V2Config()
    """Only medsegdiff_v2."""

    @model_validator(mode="before")
    @classmethod
    def _fill_preset(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and (sizes := PRESETS.get(values.get("preset") or "")):
            return {**sizes, **values}
        return values

    @model_validator(mode="after")
    def _attention_within_depth(self) -> Self:
        if self.attention_levels > self.depth:
            raise ValueError(
                f"attention_levels is {self.attention_levels}, "
                f"but must be at most depth ({self.depth})"
            )
        return self

    @property
    def segments_directly(self) -> bool:
        """Whether the network maps the image to a mask, without diffusion."""
        return self.family in ("unet", "dynunet", "swin_unetr")
