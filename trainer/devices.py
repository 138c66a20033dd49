"""Where a run computes, and in which precision."""

import torch

from trainer.config import TrainConfig
from trainer.configfile import ConfigError


def dtype(config: TrainConfig) -> torch.dtype:
    """Return the precision of weights and images; bf16 is autocast's, the weights are float32."""
    return torch.float64 if config.precision == "fp64" else torch.float32


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


def limit_memory(config: TrainConfig, device: torch.device) -> None:
    """Keep this process to its share of a GPU: its neighbours' trials are not its to end."""
    if device.type == "cuda" and config.memory_share < 1:
        torch.cuda.set_per_process_memory_fraction(config.memory_share)


def wants_bf16(config: TrainConfig, device: torch.device) -> bool:
    """Say whether forward passes run under bf16 autocast; auto asks the device."""
    if config.precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return config.precision == "bf16"
