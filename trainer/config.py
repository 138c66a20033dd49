"""TrainConfig: everything that decides what one training run computes.

Imports neither torch nor monai, so that a study is checked without them.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().resolve())


class Section(BaseModel):
    """A frozen group of settings; a misspelt key is an error, never ignored."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )


class DataConfig(Section):
    store: Annotated[str, AfterValidator(_absolute)]
    """Folder that `segtune prepare` wrote."""
    store_hash: str | None = None
    """Content hash that the store must have; None takes any. A run's config.yaml names its own."""
    fold: int = Field(default=0, ge=0, le=4)
    """Validation fold; the other four are trained on. Test cases are in none of them."""
    modalities: tuple[str, ...] | None = None
    """Input channels in this order; None takes all that the store has."""
    windows: dict[str, tuple[float, float]] = {}
    """Physical values (low, high) mapped to [-1, 1], by modality; others as in the store."""
    foreground_fraction: float = Field(default=0.5, ge=0, le=1)
    """Share of the training images drawn from slices with lesion; the rest come from all slices."""
    augment: Literal["none", "light"] = "light"
    """light: left-right flip, shift and scale by up to 10 %, rotation by up to 10°, contrast."""

    @model_validator(mode="after")
    def _windows_rise(self) -> Self:
        for modality, (low, high) in self.windows.items():
            if not low < high:
                raise ValueError(f"windows.{modality} is {low}..{high}, but low must be below high")
        return self


class ModelConfig(Section):
    family: Literal["medsegdiff_v1", "unet"] = "medsegdiff_v1"
    """medsegdiff_v1 (Wu et al. 2023, arXiv 2211.00611); unet is MONAI's and segments directly."""
    width: int = Field(default=32, ge=8, multiple_of=8)
    """Channels at full resolution; level i has width * min(2**i, 8)."""
    depth: int = Field(default=4, ge=2, le=7)
    """Resolution levels; the image size must be a multiple of 2**(depth - 1)."""
    num_res_blocks: int = Field(default=1, ge=1, le=4)
    """Residual blocks per level."""
    attention_levels: int = Field(default=1, ge=0)
    """How many of the coarsest levels have self-attention; not used by unet."""
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _attention_within_depth(self) -> Self:
        if self.attention_levels > self.depth:
            raise ValueError(
                f"attention_levels is {self.attention_levels}, "
                f"but must be at most depth ({self.depth})"
            )
        return self


class DiffusionConfig(Section):
    num_timesteps: int = Field(default=1000, ge=2)
    """T. Training draws from all of them, whatever the respacing of sampling."""
    target: Literal["eps", "x_start", "v"] = "x_start"
    """What the network predicts (improved-diffusion's ModelMeanType, MONAI's prediction_type)."""
    noise_schedule: Literal["linear", "cosine"] = "cosine"
    """linear is Ho et al. 2020 rescaled with T; cosine is Nichol & Dhariwal 2021."""
    input_scale: float = Field(default=1.0, gt=0, le=1)
    """b of Chen 2023 (arXiv 2301.10972): x_start is scaled by b, x_t back to unit variance."""


class SamplingConfig(Section):
    method: Literal["ddim", "ddpm"] = "ddim"
    timestep_respacing: int = Field(default=10, ge=1)
    """Sampling steps, a subset of the T timesteps that begins at pure noise."""
    eta: float = Field(default=0.0, ge=0, le=1)
    """DDIM's share of fresh noise (Song et al. 2021, eq. 16)."""
    num_ensemble: int = Field(default=1, ge=1)
    """Masks sampled per case and averaged."""
    threshold: float = Field(default=0.5, gt=0, lt=1)


class LossConfig(Section):
    noise: float = Field(default=1.0, ge=0)
    """Weight of the mean squared error on the diffusion target."""
    dice: float = Field(default=0.5, ge=0)
    """Weight of the soft Dice loss on the predicted x_start."""
    bce: float = Field(default=0.5, ge=0)
    """Weight of the binary cross-entropy on the predicted x_start."""
    weighting: Literal["fixed", "warm_in"] = "fixed"
    """warm_in raises the weights of dice and bce linearly from 0."""
    warm_in_fraction: float = Field(default=0.2, gt=0, le=1)
    """Share of training over which warm_in rises; used only with it."""
    snr_gate: float = Field(default=1.0, gt=0)
    """With the eps target, dice and bce apply where the signal-to-noise ratio is at least this."""


class OptimizerConfig(Section):
    lr: float = Field(default=1e-4, gt=0)
    """AdamW's peak learning rate."""
    weight_decay: float = Field(default=1e-2, ge=0)
    lr_schedule: Literal["constant", "cosine"] = "cosine"
    """After the warm-up; cosine falls to zero at the last image."""
    warmup_images: int = Field(default=400, ge=0)
    """Training images over which the learning rate rises from zero."""
    clip_norm: float = Field(default=1.0, gt=0)
    """Largest norm of the whole gradient."""
    ema_half_life_images: int = Field(default=400, ge=1)
    """Images after which a weight's influence on the average has halved (Karras et al. 2024)."""


class BatchConfig(Section):
    effective: int = Field(default=8, ge=1)
    """Images per optimizer step."""
    micro: int | None = Field(default=None, ge=1)
    """Images per forward pass; None is the largest divisor of effective that fits in memory."""

    @model_validator(mode="after")
    def _micro_divides(self) -> Self:
        if self.micro is not None and self.effective % self.micro:
            raise ValueError(f"micro is {self.micro}, but must divide effective ({self.effective})")
        return self


class TrainConfig(Section):
    data: DataConfig
    model: ModelConfig = ModelConfig()
    diffusion: DiffusionConfig = DiffusionConfig()
    sampling: SamplingConfig = SamplingConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    batch: BatchConfig = BatchConfig()
    epochs: int = Field(default=27, ge=1)
    """Training length, and the horizon of the learning-rate schedule."""
    epoch_images: int = Field(default=1000, ge=1)
    """Training images per epoch, the same for every batch size."""
    validate_every: int = Field(default=1, ge=1)
    """Epochs between validations; the last epoch is always validated."""
    seed: int = Field(default=0, ge=0)
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto is bf16 autocast where the device is fast at it (GPUs), else fp32."""
    num_threads: int = Field(default=1, ge=1)
    """torch's CPU threads; pinned, since another number rounds differently."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.sampling.timestep_respacing > self.diffusion.num_timesteps:
            raise ValueError(
                f"sampling.timestep_respacing is {self.sampling.timestep_respacing}, "
                f"but must be at most diffusion.num_timesteps ({self.diffusion.num_timesteps})"
            )
        if self.batch.effective > self.epoch_images:
            raise ValueError(
                f"batch.effective is {self.batch.effective}, "
                f"but must be at most epoch_images ({self.epoch_images})"
            )
        if self.loss.dice + self.loss.bce == 0 and self.model.family == "unet":
            raise ValueError("loss.dice and loss.bce are both 0, but model.family unet needs one")
        if self.loss.noise + self.loss.dice + self.loss.bce == 0:
            raise ValueError(
                "loss.noise, loss.dice and loss.bce are all 0, but one must be positive"
            )
        return self
