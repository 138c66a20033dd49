"""The weights of a run, and the one thing that changes them: an optimizer step."""

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from trainer.config import OptimizerConfig, TrainConfig
from trainer.configfile import ConfigError
from trainer.data.batches import Batch, augmented
from trainer.data.inputs import Inputs
from trainer.data.store import Store
from trainer.diffusion.process import Process
from trainer.losses import loss_terms, weights
from trainer.models import build_model
from trainer.randomness import torch_seed

EMA_RAMP = 0.1
"""The half-life is at most this share of the images seen: early averages forget the start."""


class Diverged(ArithmeticError):
    """A loss or gradient is not finite; the message names the step and the term."""


class OutOfMemory(MemoryError):
    """One image does not fit on the device."""


class TrainState:
    """Model, EMA weights, optimizer and counters: what a checkpoint holds."""

    def __init__(self, config: TrainConfig, store: Store, device: torch.device):
        self.config = config
        self.process = Process(config.diffusion)
        self.inputs = Inputs(store, config, device)
        torch.manual_seed(torch_seed(config.seed, "weights"))
        self.model = build_model(
            config.model,
            in_channels=self.inputs.num_channels,
            image_size=store.image_size,
            outputs_logits=config.diffusion.target == "x_start",
        ).to(device)
        self.ema = copy.deepcopy(self.model).requires_grad_(False).eval()
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=config.optimizer.lr,
            weight_decay=config.optimizer.weight_decay,
        )
        self.autocast = torch.autocast(
            device.type, torch.bfloat16, enabled=wants_bf16(config, device)
        )
        self.images = 0
        """Training images seen."""
        self.micro = config.batch.micro or config.batch.effective
        self.totals: dict[str, float] = {}
        """Sums since the last validation: terms by image, gradient norm by step, and counts."""

    @property
    def step_number(self) -> int:
        return self.images // self.config.batch.effective

    def step(self, batch: Batch) -> None:
        """Take one optimizer step on one effective batch.

        Raises:
            Diverged: A loss term or the gradient is not finite; weights are as before the step.
            OutOfMemory: One image does not fit.
        """
        while True:
            try:
                terms = self._accumulate(batch)
                break
            except torch.OutOfMemoryError as error:
                if self.micro == 1:
                    raise OutOfMemory("one image does not fit on the device") from error
                self.micro = next(
                    d for d in range(self.micro // 2, 0, -1) if self.config.batch.effective % d == 0
                )
        config, size = self.config.optimizer, self.config.batch.effective
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm))
        if not math.isfinite(norm):
            raise Diverged(f"step {self.step_number}: the gradient's norm is {norm}")
        lr = learning_rate(config, self.images, size, self.config.epochs * self.config.epoch_images)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.images += size
        self._average(size)
        for name, value in (
            terms | {"grad_norm": norm, "lr": lr, "steps": 1, "images": size}
        ).items():
            self.totals[name] = self.totals.get(name, 0.0) + value

    def _accumulate(self, batch: Batch) -> dict[str, float]:
        """Fill the gradients; return each raw and weighted term summed over the batch's images."""
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        torch.manual_seed(torch_seed(self.config.seed, "dropout", self.images))
        weight = weights(
            self.config.loss, self.images / (self.config.epochs * self.config.epoch_images)
        )
        sums: dict[str, Tensor] = {}
        for part in batch.micro(self.micro):
            raw = self._raw_terms(part)
            per_image = torch.stack([weight[name] * term for name, term in raw.items()]).sum(0)
            # The denominator is the effective batch's, so that the micro-batch only rounds.
            (per_image.sum() / self.config.batch.effective).backward()
            for name, term in raw.items():
                sums[name] = sums.get(name, 0.0) + term.detach().sum()
        values = dict(zip(sums, torch.stack(list(sums.values())).tolist(), strict=True))
        for name, value in values.items():
            if not math.isfinite(value):
                raise Diverged(f"step {self.step_number}: loss term {name} is {value}")
        weighted = {f"{name}_weighted": weight[name] * value for name, value in values.items()}
        return values | weighted | {"loss": sum(weighted.values())}

    def _raw_terms(self, batch: Batch) -> dict[str, Tensor]:
        cond, x_start = augmented(batch, self.inputs)
        t = batch.position.long().to(cond.device)
        x_t = self.process.q_sample(x_start, t, batch.noise)
        with self.autocast:
            output = self.model(x_t, t, self.model.condition(cond))
        return loss_terms(
            output,
            process=self.process,
            x_start=x_start,
            x_t=x_t,
            noise=batch.noise,
            t=t,
            config=self.config.loss,
            segments_directly=self.model.segments_directly,
        )

    def _average(self, size: int) -> None:
        half_life = min(self.config.optimizer.ema_half_life_images, EMA_RAMP * self.images)
        average = get_ema_multi_avg_fn(0.5 ** (size / half_life))
        average(list(self.ema.parameters()), list(self.model.parameters()), 0)

    def epoch_means(self) -> dict[str, float]:
        """Return the epoch's `train/*` means, and begin the next epoch's."""
        totals, self.totals = self.totals, {}
        steps, images = totals.pop("steps"), totals.pop("images")
        by_step = {"grad_norm", "lr"}
        return {f"train/{k}": v / (steps if k in by_step else images) for k, v in totals.items()}

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "images": self.images,
            "micro": self.micro,
            "totals": self.totals,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.images, self.micro = state["images"], state["micro"]
        self.totals = dict(state["totals"])


def learning_rate(config: OptimizerConfig, images: int, batch: int, total: int) -> float:
    """Return the learning rate of the step that begins after `images` of `total` images."""
    ramp = min(1.0, (images + batch) / max(config.warmup_images, 1))
    match config.lr_schedule:
        case "constant":
            return config.lr * ramp
        case "cosine":
            return config.lr * ramp * (1 + math.cos(math.pi * min(images / total, 1))) / 2


def pick_device(config: TrainConfig) -> torch.device:
    """Return the configured device; auto takes the accelerator where there is one.

    Raises:
        ConfigError: This machine, or this build of torch, does not have it.
    """
    here = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    found = here.type if here else "cpu"
    if config.device not in ("auto", "cpu", found):
        raise ConfigError(
            [f"device: {config.device}: not here; auto takes what there is ({found})"]
        )
    return torch.device("cpu" if config.device == "cpu" else found)


def wants_bf16(config: TrainConfig, device: torch.device) -> bool:
    """Say whether forward passes run under bf16 autocast; auto asks the device."""
    if config.precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return config.precision == "bf16"
