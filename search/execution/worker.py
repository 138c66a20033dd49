"""What every process of a trial does: load what trains it, name how it ended, give memory back."""

import gc
import importlib
import os
import sys
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any

from search.execution.own_validations import own_fit
from search.storage.modes import use_modes_of
from trainer.config import TrainConfig
from trainer.configfile import ConfigError
from trainer.exceptions import Diverged, OutOfMemory, StoreError

WORKSPACE_BYTES = 128 << 20
"""GPU memory that CUDA's libraries may keep in a process for good."""


def load(spec: dict[str, Any]) -> Callable[[], Generator[Any, None, None]]:
    """Import what trains a trial, and return it ready to begin.

    Raises:
        RuntimeError: Ray gave this process a GPU, and torch sees none here.
    """
    use_modes_of(Path(spec["run_dir"]).parents[1])
    train = on_its_devices(spec["train"], spec["gpus"])
    if spec["trainer"]:
        return own_fit(spec)
    module, _, name = spec["fit"].partition(":")
    fit = getattr(importlib.import_module(module), name)
    gc.freeze()  # what is imported stays: to search it for garbage at each reset costs 0.1 s
    config = TrainConfig.model_validate(train)
    if spec["gpus"] and module.startswith("trainer.") and config.device != "cpu":
        check_accelerator()
    # Of a GPU that trials share, a trial may take no more than what was reserved for it.
    share = min(config.memory_share, spec["gpus"] or 1)
    config = config.model_copy(update={"memory_share": share})
    return partial(fit, config, Path(spec["run_dir"]), received=spec["received"])


def on_its_devices(train: dict[str, Any], gpus: float) -> dict[str, Any]:
    """Keep this process to the CPU if it has no GPU, before torch starts CUDA.

    Ray shows a process that asked for no GPU all of the machine's.

    Args:
        train: A TrainConfig's settings.
        gpus: That Ray gave to this process.

    Returns:
        The settings, `device: auto` as the CPU where that is meant.
    """
    if gpus:
        return train
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    return {**train, "device": "cpu"} if train.get("device", "auto") == "auto" else train


def check_accelerator() -> None:
    """Check that torch sees what Ray gave to this process: a trial is not to go on the CPU instead.

    Raises:
        RuntimeError: It does not: the node is at fault, not the trial's settings.
    """
    import torch

    if not torch.accelerator.is_available():
        given = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        raise RuntimeError(f"Ray gave this process GPU {given}, but torch sees none")


def ending_of(error: BaseException) -> str | None:
    """Return how a trial ends by what `fit` raised; None if that is no measurement but a fault."""
    if isinstance(error, StoreError):  # of every trial, whatever its settings
        return None
    if isinstance(error, ConfigError):  # these settings, on these data
        return "infeasible"
    if isinstance(error, Diverged):
        return "diverged"
    return "infeasible" if isinstance(error, OutOfMemory) else None


def check_memory(before: int = 0) -> None:
    """Check that a trial's GPU memory came back.

    Raises:
        RuntimeError: It did not.
    """
    if (held := gpu_memory_bytes()) > before + WORKSPACE_BYTES:
        raise RuntimeError(f"a trial left {held - before} bytes of GPU memory behind")


def gpu_memory_bytes() -> int:
    """Return the bytes that torch's tensors hold on the GPU, without importing torch."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return 0
    torch.cuda.empty_cache()
    held: int = torch.cuda.memory_allocated()
    return held
