"""What every process of a trial does: load what trains it, name how it ended, give memory back."""

import gc
import importlib
import sys
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any

from trainer.config import TrainConfig
from trainer.configfile import ConfigError

WORKSPACE_BYTES = 128 << 20
"""GPU memory that CUDA's libraries may keep in a process for good."""


def load(spec: dict[str, Any]) -> Callable[[], Generator[Any, None, None]]:
    """Import what trains a trial, and return it ready to begin."""
    module, _, name = spec["fit"].partition(":")
    fit = getattr(importlib.import_module(module), name)
    gc.freeze()  # what is imported stays: to search it for garbage at each reset costs 0.1 s
    config = TrainConfig.model_validate(spec["train"])
    # Of a GPU that trials share, a trial may take no more than what was reserved for it.
    share = min(config.memory_share, spec["gpus"] or 1)
    config = config.model_copy(update={"memory_share": share})
    return partial(fit, config, Path(spec["run_dir"]), received=spec["received"])


def ending_of(error: Exception) -> str | None:
    """Return how a trial ends by what `fit` raised; None if that is no measurement but a fault."""
    if isinstance(error, ConfigError):  # these settings, on these data
        return "infeasible"
    loop = sys.modules.get("trainer.loop")  # it imports torch: where it is absent it raised nothing
    if loop and isinstance(error, loop.Diverged):
        return "diverged"
    if loop and isinstance(error, loop.OutOfMemory):
        return "infeasible"
    return None


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
