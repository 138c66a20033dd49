"""Checkpoints written while the training goes on: copied to the host, then saved by a thread."""

import copy
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from trainer.saved import checkpoint

State = TypeVar("State")


class CheckpointWriter:
    """Saves one checkpoint at a time; on the CPU, which the training needs, in the caller's thread.

    As a context it ends with the last checkpoint written, and raises what kept it from that unless
    something else was raised before.

    Args:
        device: Where the training is.
        check: Called where a checkpoint is about to be written, which what it raises prevents.
    """

    def __init__(self, device: torch.device, check: Callable[[], None] = lambda: None):
        self.device = device
        self._check = check
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._writing: Future[None] | None = None

    def save(self, folder: Path, images: int, state: dict[str, Any]) -> None:
        """Begin to save what `checkpoint.save` would; the state may change once this returns.

        Raises:
            OSError: The disk is full or fails; of a thread, the checkpoint before this one did.
            Exception: What `check` raised, likewise.
        """
        self.wait()
        if self.device.type == "cpu":
            self._save(folder, images, state)
        else:
            on_host = host_copy(state, self.device)
            self._writing = self._thread.submit(self._save, folder, images, on_host)

    def _save(self, folder: Path, images: int, state: dict[str, Any]) -> None:
        self._check()
        checkpoint.save(folder, images, state)

    def wait(self) -> None:
        """Wait until the checkpoint is on the disk.

        Raises:
            OSError: It could not be written.
            Exception: What `check` raised.
        """
        writing, self._writing = self._writing, None
        if writing:
            writing.result()

    def __enter__(self) -> "CheckpointWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._thread.shutdown()
        if kind is None:
            self.wait()


def host_copy(state: State, device: torch.device) -> State:
    """Copy nested dictionaries and lists to the host, tensors by pinned memory where CUDA has it.

    Args:
        state: What may change afterwards.
        device: Where its tensors are; some may be on the host.
    """
    pinned = device.type == "cuda"

    def copied(value: Any) -> Any:
        if isinstance(value, Tensor):
            own = torch.empty_like(value, device="cpu", pin_memory=pinned)
            return own.copy_(value.detach(), non_blocking=pinned)
        if isinstance(value, dict):
            own_dict = copy.copy(value)  # of a module's state, also what it knows of versions
            own_dict.update((key, copied(each)) for key, each in value.items())
            return own_dict
        if isinstance(value, list | tuple):
            return type(value)(copied(each) for each in value)
        return value

    with torch.no_grad():
        on_host: State = copied(state)
    if pinned:
        torch.accelerator.synchronize(device)
    return on_host
