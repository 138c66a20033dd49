"""A run's newest weights, averaged and raw, and how far training has moved them."""

from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from trainer.configfile import ConfigError
from trainer.devices import pick_device, wants_bf16
from trainer.models.new_network import new_network
from trainer.randomness import torch_seed
from trainer.saved import checkpoint
from trainer.saved.model_io import TrainedModel, load
from trainer.training.optimizer import decaying
from trainer.training.train_state import EMA_RAMP


@dataclass(frozen=True)
class Motion:
    """How the optimizer moves the weights, as medians over the kernels."""

    travel: float
    """Distance from the initial weights over their norm."""
    step: float
    """Length of one step at the peak learning rate over the weights' norm."""


@dataclass(frozen=True)
class Weights:
    """What a run folder has of one moment of training."""

    ema: TrainedModel
    """Averaged weights: those that validations judge and that are kept."""
    raw: TrainedModel | None
    """Weights as the optimizer has them; None where only ema.pt is here."""
    images: int | None
    """Training images seen; None likewise."""
    motion: Motion | None

    @property
    def half_life_images(self) -> float | None:
        """The half-life that the average has now: as configured, or what its ramp allows."""
        if self.images is None:
            return None
        return min(self.ema.config.optimizer.ema_half_life_images, EMA_RAMP * self.images)

    @property
    def moment(self) -> str:
        """The moment in words."""
        if self.images is None:
            return "the last validation"
        return f"epoch {self.images / self.ema.config.epoch_images:.3g}"


def newest(run_dir: Path, device: str = "cpu") -> Weights:
    """Load the newest readable checkpoint, or else the weights of the last validation.

    Args:
        run_dir: The run's folder.
        device: Where to predict, as the setting `device`.

    Raises:
        ConfigError: There is neither.
    """
    found = _newest(run_dir)
    place = pick_device(found.ema.config.model_copy(update={"device": device}))
    raw = found.raw and _moved(found.raw, place)
    return replace(found, ema=_moved(found.ema, place), raw=raw)


def _moved(trained: TrainedModel, device: torch.device) -> TrainedModel:
    bf16 = wants_bf16(trained.config, device)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=bf16)
    return replace(trained, model=trained.model.to(device), device=device, autocast=autocast)


def _newest(run_dir: Path) -> Weights:
    for path in sorted((run_dir / "checkpoints").glob("*.pt"), reverse=True):
        try:
            ema, saved = load(path, "cpu"), checkpoint.read(path)
        except (ConfigError, OSError):  # damaged, or the run that goes on has just replaced it
            continue
        model = new_network(ema.config, ema.inputs, ema.device)
        model.load_state_dict(saved["model"])
        raw = replace(ema, model=model.requires_grad_(False).eval())
        return Weights(ema, raw, saved["images"], _motion(raw, saved["optimizer"]))
    return Weights(load(run_dir, "cpu"), None, None, None)


def _motion(raw: TrainedModel, optimizer: dict[str, Any]) -> Motion | None:
    """Compare the weights with those that training began with, and with AdamW's next step."""
    config = raw.config
    torch.manual_seed(torch_seed(config.seed, "weights"))
    initial = dict(new_network(config, raw.inputs, raw.device).named_parameters())
    states, beta = optimizer["state"], optimizer["param_groups"][0]["betas"]
    travels, steps = [], []
    parts = decaying(raw.model)
    if len(optimizer["param_groups"][0]["params"]) > len(parts[0]):  # of version 0.1
        parts = [*raw.model.parameters()], []
    number_of = {weight: number for number, weight in enumerate(chain(*parts))}
    for name, weight in raw.model.named_parameters():
        number = number_of[weight]
        norm = float(initial[name].detach().norm())
        if weight.ndim < 2 or not norm or number not in states:
            continue
        state = states[number]
        count = float(state["step"])
        mean = state["exp_avg"] / (1 - beta[0] ** count)
        square = state["exp_avg_sq"] / (1 - beta[1] ** count)
        direction = (mean / (square.sqrt() + 1e-8)).norm()
        travels.append(float((weight - initial[name]).detach().norm()) / norm)
        steps.append(config.optimizer.lr * float(direction) / max(float(weight.norm()), 1e-12))
    if not travels or config.init_from:
        return None
    return Motion(float(torch.tensor(travels).median()), float(torch.tensor(steps).median()))
