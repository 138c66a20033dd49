"""MedSegDiff-V2 (Wu et al. 2024, arXiv 2301.11798)."""

from torch import Tensor, nn

from trainer.model_config import ModelConfig
from trainer.models.anchor import UncertainSpatialAttention
from trainer.models.blocks import TimeEmbedding, in_full_precision, level_widths
from trainer.models.conv import Conv
from trainer.models.encoder_decoder import Decoder, Encoder
from trainer.models.network import Network
from trainer.models.norm_silu import Norm
from trainer.models.ss_former import SSFormer


class ConditionUNet(nn.Module):
    """A whole U-Net on the image, with a mask of its own; it sees neither noise nor timestep."""

    def __init__(self, config: ModelConfig, in_channels: int):
        super().__init__()
        self.depth = config.depth
        self.finest_levels = max(config.v2.anchor_levels, 1)
        self.encoder = Encoder(in_channels, config)
        self.decoder = Decoder(config)
        self.mask_norm = Norm(config.width)
        self.mask_head = Conv(config.width, 1, 3, padding=1)

    def forward(self, cond: Tensor) -> tuple[Tensor, ...]:
        """Map images (b, in_channels, H, W) to what the Diffusion U-Net needs of them.

        Returns:
            The mask's logits, (b, 1, H, W); the encoder's deepest feature c^0; and the decoder's
            features f_c of the anchored levels, finest first, or of the finest if none is.
        """
        x, encoded = cond, []
        for level in range(self.depth):
            x = self.encoder(level, x)
            encoded.append(x)
        decoded = self.decoder(encoded)
        mask = in_full_precision(self.mask_head, self.mask_norm(decoded[0]))
        return mask, encoded[-1], *decoded[: self.finest_levels]


class MedSegDiffV2(Network):
    """A Condition U-Net on the image conditions a Diffusion U-Net on the noisy mask, twice.

    The anchor condition: Uncertain Spatial Attention lets the condition's decoded features gate
    the noisy encoder's finest level, or two, before the next one sees them. The semantic condition:
    an SS-Former between the deepest features of both.

    The paper leaves open, and here is chosen:
    - The decoder's skips of the anchored levels carry the sum f_d' + f_c. A gate alone amplifies
      noise where the lesion is, and image detail has no other way to the decoder: four lesions of a
      few pixels are then known by heart after 2,000 images instead of 1,200.
    - The decoder begins from e + c^N, the noisy deepest feature and what the SS-Former made of the
      condition's.
    - Both U-Nets have the same size, and V1's residual blocks, ways down, up and across.
    - With two anchored levels, each is anchored by the decoded feature of its own resolution.
    """

    segments_directly = False
    has_anchor = True
    condition: ConditionUNet

    def __init__(
        self, config: ModelConfig, *, in_channels: int, mask_channels: int, out_channels: int
    ):
        super().__init__()
        widths = level_widths(config.width, config.depth)
        time_channels = 4 * config.width
        self.condition = ConditionUNet(config, in_channels)
        self.time = TimeEmbedding(time_channels)
        self.encoder = Encoder(mask_channels, config, time_channels)
        self.anchors = nn.ModuleList(
            UncertainSpatialAttention(width, config.v2.anchor_kernel, config.v2.anchor_sigma)
            for width in widths[: config.v2.anchor_levels]
        )
        self.ss_former = SSFormer(widths[-1], time_channels, config.v2)
        self.decoder = Decoder(config, time_channels)
        self.head_norm = Norm(config.width)
        self.head = Conv(config.width, out_channels, 3, padding=1)

    def forward(self, x_t: Tensor, t: Tensor, condition: tuple[Tensor, ...]) -> Tensor:
        _, semantic, *anchoring = condition
        time = self.time(t)
        x, encoded = x_t, []
        for level in range(len(self.encoder.levels)):
            x = self.encoder(level, x, time)
            if level < len(self.anchors):
                x = self.anchors[level](x, anchoring[level])
            encoded.append(x)
        encoded[-1] = encoded[-1] + self.ss_former(semantic, encoded[-1], time)
        for level, f_c in enumerate(anchoring[: len(encoded) - 1]):
            encoded[level] = encoded[level] + f_c
        x = self.decoder(encoded, time)[0]
        return in_full_precision(self.head, self.head_norm(x))
