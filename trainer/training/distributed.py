"""One training over several processes (torch.distributed): each has a share of every batch.

Started by `torchrun`, by Ray (search/execution/worker_group.py) or by anyone else who initialises
the process group; without one, all of this is one process. Every process keeps the whole state and
takes the same step, so that a checkpoint of one is a checkpoint of all, for any number of
processes.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

TIMEOUT = timedelta(minutes=30)
"""Longer than any validation: the others wait while the first process scores."""

Item = TypeVar("Item")


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return this process's number, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


@contextmanager
def processes(device: torch.device) -> Iterator[None]:
    """Join the processes that `torchrun` started, if it did, and leave them at the end."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or not dist.is_available():
        yield
        return
    if device.index is not None:
        torch.accelerator.set_device_index(device.index)
    with group(device):
        yield


@contextmanager
def group(
    device: torch.device,
    store: "dist.Store | None" = None,
    rank: int = -1,
    world_size: int = -1,
) -> Iterator[None]:
    """Be one of several processes for as long as this lasts, with the device's own backend.

    Args:
        device: What this process computes on.
        store: Where the processes find each other; None asks the environment, as for `torchrun`,
            for this and the rest.
        rank: This process's number.
        world_size: How many there are.
    """
    backend = dist.get_default_backend_for_device(device)
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=TIMEOUT)
    try:
        yield
    finally:
        dist.destroy_process_group()


def sum_over_processes(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its sum over all processes, in one message.

    Every process gets the same bits, so that their weights stay equal for ever.
    """
    if world_size() == 1:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    for tensor, total in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(total.view_as(tensor))


def gather(item: Item) -> list[Item]:
    """Return every process's item, in order of their numbers, in the first process.

    The others get a list with their own item only.
    """
    if world_size() == 1:
        return [item]
    items: list[Item | None] = [None] * world_size() if rank() == 0 else []
    dist.gather_object(item, items if rank() == 0 else None)
    return [found for found in items if found is not None] if rank() == 0 else [item]


def first_says(yes: bool, device: torch.device) -> bool:
    """Return the first process's answer in every process; a few bytes, for every step."""
    if world_size() == 1:
        return yes
    answer = torch.tensor([yes], dtype=torch.uint8, device=device)
    dist.broadcast(answer, 0)
    return bool(answer.item())


def from_first(item: Item) -> Item:
    """Return the first process's item in every process."""
    if world_size() == 1:
        return item
    items = [item]
    dist.broadcast_object_list(items)
    return items[0]
