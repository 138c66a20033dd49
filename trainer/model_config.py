"""The section `model`: which network, and how large."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from trainer.configfile import Section

PRESETS = {
    "S": {"width": 64, "depth": 5, "num_res_blocks": 2, "attention_levels": 1},
    "B": {"width": 64, "depth": 6, "num_res_blocks": 2, "attention_levels": 2},
    "L": {"width": 64, "depth": 7, "num_res_blocks": 2, "attention_levels": 3},
}
"""MedSegDiff's sizes. The paper gives the 4, 5 and 6 down-samplings; the official recipe the
residual blocks and attention from 16 x 16 down at 256 px; the width is our choice."""


class V1Config(Section):
    """Parts of MedSegDiff V1 (Wu et al. 2023, arXiv 2211.00611) that a training can go without."""

    ff_parser: bool = True
    """Filter the mask feature in the frequency domain; false takes it as it is."""
    fusion: bool = True
    """Fuse the mask feature into the image encoder; false leaves the encoders apart, and the
    decoder adds the filtered mask feature to the image feature."""


class V2Config(Section):
    """What MedSegDiff-V2 has beyond V1 (Wu et al. 2024, arXiv 2301.11798)."""

    anchor_levels: int = Field(default=1, ge=0, le=2)
    """Levels at which Uncertain Spatial Attention anchors the noisy encoder: the text of the paper
    names the finest, its first version draws two. 0 is without it; the finest skip still carries
    the sum with the condition's feature."""
    anchor_kernel: Literal[3, 5, 7] = 5
    """Side of the learnable Gaussian; not in the paper."""
    anchor_sigma: float = Field(default=1.0, gt=0)
    """Standard deviation in pixels with which the learnable Gaussian begins; not in the paper."""
    ss_former_blocks: int = Field(default=1, ge=0, le=8)
    """Stacked SS-Former blocks between the two U-Nets' deepest features. 0 is without it: the
    features are added."""
    ss_former_product: Literal["attention", "elementwise"] = "attention"
    """attention is the AAAI version's M = (F(c) Wq)(F(e) Wk)^T; elementwise the first version's
    product of spectra with a sine."""
    nbp_blocks: int = Field(default=3, ge=0, le=8)
    """Blocks of the network that computes the neural band-pass filter (R; the paper has 6), which
    only the attention product has. 0 is without it: every frequency passes."""


class LayoutConfig(Section):
    """Only guided_unet and monai_unet: what these networks have beyond a size, in the programs that
    weights of such a layout come from (docs/weights.md)."""

    channels: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    """Of each level, the finest first; the first is `model.width`. None goes by the width."""
    attention: tuple[bool, ...] | None = None
    """Whether each level has self-attention; None goes by `model.attention_levels`."""
    res_blocks: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    """Residual blocks of each level, only monai_unet; None is `model.num_res_blocks` of each."""
    num_heads: int | None = Field(default=None, ge=1)
    """Attention heads, only guided_unet; None is 1, or goes by head_channels."""
    head_channels: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    """Channels of an attention head: one number, with monai_unet also one a level. None goes by
    num_heads, with monai_unet by the width."""
    attention_order: Literal["legacy", "new"] = "legacy"
    """Only guided_unet with several heads: whether q, k and v are parted within each head, as in
    improved-diffusion, or before it (guided-diffusion's use_new_attention_order)."""
    scale_shift_norm: bool = False
    """Only guided_unet: the timestep is a norm's scale and shift, and not added before it."""
    resample: Literal["conv", "pool", "resblock"] = "conv"
    """How levels are joined: by a strided convolution, by averages (conv_resample False; not
    monai_unet), or within a residual block (resblock_updown)."""
    sinusoids: int | None = Field(default=None, ge=2)
    """Features of the timestep, only guided_unet; None is `model.width`."""
    timestep_scale: float = Field(default=1.0, gt=0)
    """What timesteps are multiplied with: 1000 / T with improved-diffusion's rescale_timesteps."""
    norm_groups: int | None = Field(default=None, ge=1)
    """Groups of every norm; None is 32, or as many as the width allows."""
    norm_eps: float = Field(default=1e-5, gt=0)
    """What every norm adds to the variance; MONAI's default is 1e-6."""
    input_order: Literal["mask_first", "image_first"] = "mask_first"
    """Which channels of the input come first; MedSegDiff's and MONAI's trainings put the image
    first."""
    image_range: tuple[float, float] = (-1.0, 1.0)
    """What the ends of a modality's window are to the network."""

    @field_validator("image_range")
    @classmethod
    def _is_range(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not value[0] < value[1]:
            raise ValueError("must be [low, high] with low below high")
        return value

    @field_validator("head_channels", mode="before")
    @classmethod
    def _one_for_all(cls, value: Any) -> Any:
        return (value,) if isinstance(value, int) and not isinstance(value, bool) else value


class ModelConfig(Section):
    family: Literal[
        "medsegdiff_v1",
        "medsegdiff_v2",
        "diffusion_unet",
        "guided_unet",
        "monai_unet",
        "unet",
        "dynunet",
        "swin_unetr",
    ] = "medsegdiff_v1"
    """medsegdiff_v1 and _v2 (arXiv 2211.00611, 2301.11798); diffusion_unet is MONAI's
    DiffusionModelUNet with parts of ours; guided_unet is improved- and guided-diffusion's U-Net and
    monai_unet MONAI's as they are, for weights from there; unet, dynunet and swin_unetr are MONAI's
    and segment directly."""
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
    v1: V1Config = V1Config()
    """Only medsegdiff_v1."""
    v2: V2Config = V2Config()
    """Only medsegdiff_v2."""
    layout: LayoutConfig = LayoutConfig()
    """Only guided_unet and monai_unet."""

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

    @model_validator(mode="after")
    def _layout_of_every_level(self) -> Self:
        layout = self.layout
        for name in ("channels", "attention", "res_blocks"):
            given = getattr(layout, name)
            if given is not None and len(given) != self.depth:
                raise ValueError(
                    f"layout.{name} has {len(given)} levels, but depth is {self.depth}"
                )
        if layout.channels is not None and layout.channels[0] != self.width:
            raise ValueError(
                f"layout.channels begins with {layout.channels[0]}, but width is {self.width}"
            )
        if layout.head_channels and len(layout.head_channels) not in (1, self.depth):
            raise ValueError(
                f"layout.head_channels has {len(layout.head_channels)} numbers, but must have one, "
                f"or one a level ({self.depth})"
            )
        return self

    @property
    def has_layout(self) -> bool:
        """Whether the section `layout` applies."""
        return self.family in ("guided_unet", "monai_unet")

    @property
    def segments_directly(self) -> bool:
        """Whether the network maps the image to a mask, without diffusion."""
        return self.family in ("unet", "dynunet", "swin_unetr")
