"""Where a run computes, and in which precision."""

import os

import torch

from trainer.config import TrainConfig
from trainer.configfile import ConfigError

CONTEXT_BYTES = 777 << 20
"""What a process takes of a GPU beside its tensors: measured on an H200 with torch 2.11."""


def dtype(config: TrainConfig) -> torch.dtype:
    """Return the precision of weights and images; bf16 is autocast's, the weights are float32."""
    return torch.float64 if config.precision == "fp64" else torch.float32


def pick_device(config: TrainConfig) -> torch.device:
    """Return the configured device with its index; auto takes the accelerator where there is one.

    Of several, a process that `torchrun` started has the one of its local rank, and any other the
    current one of this thread.

    Raises:
        ConfigError: This machine, or this build of torch, does not have it.
    """
    here = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    found = here.type if here else "cpu"
    if config.device not in ("auto", "cpu", found):
        raise ConfigError(
            [f"device: {config.device}: not here; auto takes what there is ({found})"]
        )
    if found == "cpu" or config.device == "cpu":
        return torch.device("cpu")
    if (local_rank := os.environ.get("LOCAL_RANK")) is None:
        return torch.device(found, torch.accelerator.current_device_index())
    if int(local_rank) >= (there := torch.accelerator.device_count()):
        raise ConfigError(
            [f"LOCAL_RANK {local_rank}: torchrun: must be below {there}, a process for each GPU"]
        )
    return torch.device(found, int(local_rank))


def limit_memory(config: TrainConfig, device: torch.device) -> None:
    """Keep this process to its share of a GPU: its neighbours' trials are not its to end.

    Of the share its CUDA context takes CONTEXT_BYTES, and its tensors may take the rest.

    Raises:
        ConfigError: Nothing would be left.
    """
    if device.type != "cuda" or config.memory_share == 1:
        return
    total = torch.cuda.get_device_properties(device).total_memory
    left = config.memory_share - CONTEXT_BYTES / total
    if left <= 0:
        raise ConfigError(
            [
                f"memory_share: {config.memory_share:g}: of {total / 2**30:.1f} GiB is less than a "
                f"process's CUDA context ({CONTEXT_BYTES / 2**20:.0f} MiB): let fewer trials share "
                "the GPU"
            ]
        )
    # Not every version takes a device without its number.
    number = torch.cuda.current_device() if device.index is None else device.index
    torch.cuda.set_per_process_memory_fraction(left, number)


def set_determinism(config: TrainConfig) -> None:
    """Let torch use deterministic algorithms alone, or any; before it starts CUDA."""
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
    torch.use_deterministic_algorithms(config.deterministic)
    torch.backends.cudnn.deterministic = config.deterministic


def wants_bf16(config: TrainConfig, device: torch.device) -> bool:
    """Say whether forward passes run under bf16 autocast; auto asks the device."""
    if config.precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return config.precision == "bf16"
