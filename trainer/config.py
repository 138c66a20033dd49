"""TrainConfig: everything that decides what one training run computes.

Imports neither torch nor monai, so that a study is checked without them.
"""

import os
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    field_validator,
    model_validator,
)

from trainer.configfile import Section, nest
from trainer.model_config import ModelConfig
from trainer.old_names import MOVED, in_new_names
from trainer.respacing import timesteps

MAX_PATH = 512


def absolute(path: str) -> str:
    """Return a path as every process and machine of a study means it."""
    if len(path) > MAX_PATH:
        raise ValueError(f"{path[:80]}…: must be at most {MAX_PATH} characters")
    return path if path.startswith("s3://") else os.path.realpath(os.path.expanduser(path))


def _window(given: Any) -> Any:
    """Return (low, high) of a window in radiology's words, `w80l40`; anything else as it is.

    Raises:
        ValueError: Text in another form, or low is not below high.
    """
    if isinstance(given, str):
        words = re.fullmatch(r"w(\d+(?:\.\d+)?)l(-?\d+(?:\.\d+)?)", given)
        if not words:
            raise ValueError(f"{given!r}: must be [low, high], or width and level as in w80l40")
        width, level = float(words[1]), float(words[2])
        given = (level - width / 2, level + width / 2)
    is_pair = isinstance(given, list | tuple) and len(given) == 2
    if is_pair and all(isinstance(end, int | float) for end in given) and not given[0] < given[1]:
        raise ValueError(f"{given[0]}..{given[1]}: low must be below high")
    return given


class DataConfig(Section):
    store: Annotated[str, AfterValidator(absolute)]
    """Folder that `segtune prepare` wrote."""
    store_hash: str | None = None
    """Content hash that the store must have; None takes any. A run's config.yaml names its own."""
    fold: int = Field(default=0, ge=0, le=4)
    """Validation fold; the other four are trained on. Test cases are in none of them."""
    modalities: tuple[str, ...] | None = None
    """Input channels in this order, none twice; None takes all that the store has."""
    windows: dict[str, Annotated[tuple[float, float], BeforeValidator(_window)]] = Field(default={})
    """Physical values (low, high) mapped to [-1, 1], by modality; others as in the store. Also in
    radiology's words: w80l40 (width 80, level 40) is (0, 80)."""
    context_slices: int = Field(default=0, ge=0, le=3)
    """Neighbouring slices on either side that the model sees too, each a channel per modality."""
    foreground_fraction: float = Field(default=0.5, ge=0, le=1)
    """Share of the training images drawn from slices with lesion; the rest come from all slices."""
    augment: Literal["none", "light", "heavy"] = "light"
    """light: left-right flip, shift and scale by up to 10 %, rotation by up to 10°, contrast.
    heavy: twice as far, and elastic deformation, gamma, noise and blur."""

    @field_validator("modalities")
    @classmethod
    def _some_and_none_twice(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if names is not None and not 0 < len(set(names)) == len(names):
            raise ValueError(f"{list(names)}: must be at least one, and none twice")
        return names


class DiffusionConfig(Section):
    num_timesteps: int = Field(default=1000, ge=2, le=100_000)
    """T. Training draws from all of them, whatever the respacing of sampling."""
    target: Literal["eps", "x_start", "v"] = "x_start"
    """What the network predicts (improved-diffusion's ModelMeanType, MONAI's prediction_type)."""
    noise_schedule: Literal["linear", "cosine", "sigmoid"] = "cosine"
    """linear is Ho et al. 2020 rescaled with T; cosine is Nichol & Dhariwal 2021; sigmoid is
    Jabri et al. 2023 (arXiv 2212.11972)."""
    zero_terminal_snr: bool = False
    """Rescale so that the last timestep is pure noise (Lin et al. 2024, arXiv 2305.08891)."""
    input_scale: float = Field(default=1.0, gt=0, le=1)
    """b of Chen 2023 (arXiv 2301.10972): x_start is scaled by b, x_t back to unit variance."""
    background: Literal[-1, 0] = -1
    """What the background is in x_start, where lesion is 1: 0 as in MedSegDiff's code, which halves
    the signal."""
    variance: Literal["fixed_small", "fixed_large", "learned_range"] = "fixed_small"
    """Of the reverse step, used by sampling.method ddpm; learned_range interpolates the logarithms
    and adds the hybrid loss (Nichol & Dhariwal 2021, sec. 3.1)."""
    timestep_sampling: Literal["uniform", "loss_second_moment"] = "uniform"
    """How training draws timesteps (Nichol & Dhariwal 2021, sec. 3.3)."""
    self_conditioning: float = Field(default=0.0, ge=0, le=1)
    """Share of the training images that also show the network its own estimate of x_start (Chen et
    al. 2023, arXiv 2208.04202); above 0, sampling always does."""
    recycling: float = Field(default=0.0, ge=0, le=1)
    """Share of the training images whose x_t is made of the network's own prediction from pure
    noise instead of the truth (Fu et al. 2023, arXiv 2303.06040)."""

    @model_validator(mode="after")
    def _suits_target(self) -> Self:
        if self.zero_terminal_snr and self.target == "eps":
            raise ValueError(
                "zero_terminal_snr is true, but with target eps pure noise says nothing of "
                "x_start: use x_start or v"
            )
        if self.recycling and self.target != "x_start":
            raise ValueError(f"recycling needs target x_start, but target is {self.target}")
        if self.recycling and self.self_conditioning:
            raise ValueError("recycling and self_conditioning exclude each other")
        return self


class SamplingConfig(Section):
    """How a finished model is used: predict, export, evaluate, and studies of no epochs."""

    method: Literal["ddim", "ddpm", "dpmpp_2m"] = "ddim"
    """dpmpp_2m is DPM-Solver++(2M), Lu et al. 2022 (arXiv 2211.01095)."""
    timestep_respacing: int | str = 10
    """Sampling steps: a number, spread so that the first is pure noise; ddim50, every 20th of 1000
    as improved-diffusion does; or 10,20,30, that many in each third of the timesteps."""
    eta: float = Field(default=0.0, ge=0, le=1)
    """DDIM's share of fresh noise (Song et al. 2021, eq. 16)."""
    num_ensemble: int = Field(default=8, ge=1)
    """Masks sampled per case. The mean of many is steadier than one, and better."""
    fuse: Literal["mean", "majority", "staple"] = "mean"
    """How the ensemble's masks become one probability; staple is Warfield et al. 2004."""
    threshold: float = Field(default=0.5, gt=0, lt=1)
    """Probability from which a pixel is called lesion."""


EPS_STEPS = 3
"""Steps of a validation with target eps, whose first step from pure noise divides by almost
nothing: the fewest whose mean Dice over 5 noise seeds is at most 0.01 below that of ten
(`python -m tests.bench.validation_noise`)."""


class ValidationConfig(Section):
    """How a training's validations measure it; a study's trials are compared by them."""

    every: int = Field(default=1, ge=1)
    """Epochs between validations; the last epoch is always validated."""
    steps: Literal["sampling"] | Annotated[int, Field(ge=1)] | None = None
    """Steps of DDIM without fresh noise. None is one for targets x_start and v: one step is about
    the posterior's mean, and steadier than ten, which draw one sample of it; and 3 for eps.
    sampling: as the section sampling says, method and ensemble too, whatever that costs."""
    members: int = Field(default=1, ge=1)
    """Masks whose mean is scored."""

    @model_validator(mode="after")
    def _sampling_has_its_own_members(self) -> Self:
        if self.steps == "sampling" and self.members > 1:
            raise ValueError(
                f"members is {self.members}, but steps is sampling, which has its own num_ensemble"
            )
        return self


class LossConfig(Section):
    noise: float = Field(default=1.0, ge=0)
    """Weight of the error on the diffusion target."""
    noise_loss: Literal["mse", "l1", "huber"] = "mse"
    """Of the error on the diffusion target; huber is quadratic within 1, as torch's default."""
    noise_weighting: Literal["plain", "uniform", "min_snr", "sigmoid"] = "plain"
    """Weight over the timesteps. plain: the error on the target as it is. Others are weights of the
    squared x_start error, so that equal predictions cost the same with every target: uniform 1,
    min_snr min(SNR, gamma) (Hang et al. 2023), sigmoid e^bias sigmoid(log SNR - bias) (Hoogeboom
    et al. 2024, arXiv 2410.19324)."""
    min_snr_gamma: float = Field(default=5.0, gt=0)
    """Used only with min_snr."""
    sigmoid_bias: float = 0.0
    """Used only with sigmoid."""
    dice: float = Field(default=0.5, ge=0)
    """Weight of the soft Dice loss on the predicted mask."""
    bce: float = Field(default=0.5, ge=0)
    """Weight of the binary cross-entropy on the predicted mask."""
    focal: float = Field(default=0.0, ge=0)
    """Weight of the focal loss (Lin et al. 2017, gamma 2) on the predicted mask."""
    tversky: float = Field(default=0.0, ge=0)
    """Weight of the Tversky loss (Salehi et al. 2017, missed pixels 0.7, false ones 0.3)."""
    boundary: float = Field(default=0.0, ge=0)
    """Weight of the boundary loss (Kervadec et al. 2019), only beside dice, bce, focal or tversky:
    alone, false lesions in slices without one would cost nothing."""
    anchor: float = Field(default=1.0, ge=0)
    """Weight of medsegdiff_v2's loss on its Condition U-Net's mask: Dice + anchor_beta * BCE."""
    anchor_alpha: int = Field(default=5, ge=1)
    """The anchor loss is paid where t is a multiple of this. As t is drawn per image, that is a
    random 1/alpha of the images; 1 is every image."""
    anchor_beta: float = Field(default=10.0, ge=0)
    """Cross-entropy's share in the anchor loss."""
    weighting: Literal["fixed", "warm_in", "learned"] = "fixed"
    """warm_in raises all weights from 0 beside the noise loss's; learned divides each term by its
    own learned variance (Kendall et al. 2018, arXiv 1705.07115), from the given weights on."""
    warm_in_shape: Literal["step", "linear", "cosine"] = "linear"
    """Used only with warm_in; step switches on at the end of warm_in_fraction."""
    warm_in_fraction: float = Field(default=0.2, gt=0, le=1)
    """Share of training over which warm_in rises; used only with it."""
    snr_gate: float = Field(default=1.0, gt=0)
    """With the eps target, the losses on the predicted mask apply where the signal-to-noise ratio
    is at least this."""

    @property
    def segmentation(self) -> dict[str, float]:
        """Weights of the losses on the predicted mask, those above 0."""
        names = ("dice", "bce", "focal", "tversky", "boundary")
        return {name: getattr(self, name) for name in names if getattr(self, name) > 0}

    @model_validator(mode="after")
    def _boundary_not_alone(self) -> Self:
        if list(self.segmentation) == ["boundary"]:
            raise ValueError(
                "boundary is the only loss on the mask, but says nothing of slices without lesion: "
                "it needs dice, bce, focal or tversky beside it"
            )
        return self


class OptimizerConfig(Section):
    lr: float = Field(default=1e-4, gt=0)
    """AdamW's peak learning rate."""
    weight_decay: float = Field(default=1e-2, ge=0)
    """AdamW's: the share of a weight that is taken off per step, times the learning rate."""
    lr_schedule: Literal["constant", "cosine", "linear"] = "cosine"
    """After the warm-up; cosine and linear fall to zero at the last image."""
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
    validation: ValidationConfig = ValidationConfig()
    sampling: SamplingConfig = SamplingConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    batch: BatchConfig = BatchConfig()
    init_from: Annotated[str, AfterValidator(absolute)] | None = None
    """Run folder or checkpoint whose averaged (EMA) weights a new run begins with; None begins with
    random ones."""
    epochs: int = Field(default=27, ge=0)
    """Training length, and the horizon of the learning-rate schedule. 0 trains nothing: the weights
    of init_from are validated once."""
    epoch_images: int = Field(default=1000, ge=1)
    """Training images per epoch, the same for every batch size."""
    seed: int = Field(default=0, ge=0)
    """Of the weights, the choice of images, the augmentation and all noise."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """auto takes the accelerator where there is one."""
    precision: Literal["auto", "fp32", "bf16", "fp64"] = "auto"
    """auto is bf16 autocast where the device is fast at it (GPUs), else fp32; fp64 is for
    proofs."""
    num_threads: int = Field(default=1, ge=1, le=4096)
    """torch's CPU threads; pinned, since another number rounds differently."""
    channels_last: bool = True
    """Memory layout; other rounding, and faster convolutions on most devices. The families that
    segment directly do not use it."""
    norm_kernel: bool = True
    """On a GPU, norms, the timestep's scale and shift, and SiLU are one kernel; elsewhere nothing
    changes. Needs channels_last, and Triton, which comes with torch for CUDA."""
    cuda_graph: bool = True
    """On a GPU, a micro-batch's forward and backward pass is launched as a whole; elsewhere nothing
    changes. Not with loss.boundary."""
    deterministic: bool = False
    """Only algorithms that give the same bits again on a GPU of the same model (on an H200 11 %
    slower). On a CPU all do."""
    gradient_checkpointing: bool = False
    """Keep only each level's input for the backward pass and compute the rest again."""
    memory_share: float = Field(default=1.0, gt=0, le=1)
    """Share of the GPU's memory that this process may take, where several trials share one."""

    @model_validator(mode="before")
    @classmethod
    def _in_new_names(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        new = in_new_names(values)
        moved = {today: new.pop(today) for today in MOVED.values() if today in new}
        return nest(moved, new) if moved else new

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.epochs and self.init_from is None:
            raise ValueError("epochs is 0, but without init_from there are no weights to validate")
        if self.batch.effective > self.epoch_images:
            raise ValueError(
                f"batch.effective is {self.batch.effective}, "
                f"but must be at most epoch_images ({self.epoch_images})"
            )
        direct = self.model.segments_directly
        if direct and not self.loss.segmentation:
            raise ValueError(
                f"loss: no loss on the mask has a weight, but model.family {self.model.family} "
                "needs one"
            )
        if not self.loss.noise and not self.loss.segmentation:
            raise ValueError("loss: all weights are 0, but one must be positive")
        num_timesteps, steps = self.diffusion.num_timesteps, self.validation.steps
        try:
            timesteps(num_timesteps, self.sampling.timestep_respacing)
        except ValueError as error:
            raise ValueError(f"sampling.{error}") from error
        if isinstance(steps, int) and steps > num_timesteps:
            raise ValueError(
                f"validation.steps is {steps}, but must be at most diffusion.num_timesteps "
                f"({num_timesteps})"
            )
        return self

    @property
    def validation_sampling(self) -> SamplingConfig:
        """How validations sample: cheaply while something is trained, else as the model is used."""
        validation = self.validation
        if not self.epochs or validation.steps == "sampling":
            return self.sampling
        few = min(EPS_STEPS, self.diffusion.num_timesteps) if self.diffusion.target == "eps" else 1
        measured = {
            "method": "ddim",
            "timestep_respacing": validation.steps or few,
            "eta": 0.0,
            "num_ensemble": validation.members,
            "fuse": "mean",
        }
        return self.sampling.model_copy(update=measured)
