"""What a device makes of training: its step against the CPU's, its speed, its memory's limit.

Imports nothing but torch and the trainer, so that the tests of GPUs run where there is no more.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.spawn import spawn
from torch.utils.flop_counter import FlopCounterMode

from trainer.config import TrainConfig
from trainer.configfile import build, nest
from trainer.data.batches import Draws, rows_of
from trainer.data.store import Store
from trainer.devices import limit_memory
from trainer.models.norm_silu import Norm
from trainer.training.distributed import group
from trainer.training.train_state import TrainState

TOLERANCES = {"fp32": (1e-5, 1e-4), "bf16": (1e-2, 5e-2)}
"""Largest relative error of the loss terms, and of the gradient; an H200 had a tenth to a third."""

PLAIN = {"norm_kernel": False, "cuda_graph": False}
"""Settings of a step that is torch's own operations, one launch each."""

SAME = {"norm kernel": TOLERANCES["bf16"], "graph": (1e-4, 1e-3)}
"""As TOLERANCES, of what makes a step faster against the plain step on the same device."""

NCCL_S = 90.0
"""Longer than two processes take to start and to meet."""

EXCHANGED = 64 << 20
"""float32 numbers: 256 MiB."""


def settings(store: Path, **changes: Any) -> TrainConfig:
    """Return V1 at a size that a CPU computes in a second; dots are two underscores."""
    values = {
        "data.store": str(store),
        "model.width": 16,
        "batch.effective": 4,
        "epochs": 1,
        "epoch_images": 100_000,
        "optimizer.clip_norm": 1e9,  # else the gradient is not as it was computed
    }
    changed = {key.replace("__", "."): value for key, value in changes.items()}
    return build(TrainConfig, nest(values | changed), "check")


def training(config: TrainConfig, device: torch.device) -> tuple[TrainState, Draws]:
    """Return what a run begins with on a device, and its batches."""
    store = Store.open(config.data.store)
    draws = Draws(store, config, rows_of(store.split(config.data.fold)[0]))
    return TrainState(config, store, device), draws


@dataclass(frozen=True)
class Step:
    """What one optimizer step computed, and by what."""

    terms: dict[str, float]
    gradient: Tensor
    """(parameters,) float64, on the CPU."""
    norm_kernel: bool
    """The network's norms were a kernel."""
    no_graph: str | None
    """Why it was no CUDA graph; None if it was one."""

    def errors(self, reference: "Step") -> tuple[float, float]:
        """Return the largest relative error of a loss term, and the gradient's."""
        terms = max(
            abs(self.terms[name] - value) / max(abs(value), 1e-9)
            for name, value in reference.terms.items()
        )
        gradient = (self.gradient - reference.gradient).norm() / reference.gradient.norm()
        return terms, float(gradient)


def take_step(config: TrainConfig, device: torch.device) -> Step:
    """Take a run's first step, from weights, images and noise that are equal on every device."""
    state, draws = training(config, device)
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():  # branches that begin at zero would hide what their layers compute
        for parameter in state.model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=random).to(parameter))
    # The noise as a GPU draws it: it differs between devices in the last bits.
    state.step(draws.batch(0, draws_noise=False))
    means = state.epoch_means()
    by_step = {"train/grad_norm", "train/lr"}
    norms = [module for module in state.model.modules() if isinstance(module, Norm)]
    return Step(
        {name: mean for name, mean in means.items() if name not in by_step},
        torch.cat(
            [
                p.grad.flatten().double().cpu()
                for p in state.model.parameters()
                if p.grad is not None
            ]
        ),
        bool(norms) and all(norm.fused for norm in norms),
        state.graphs.refused,
    )


def images_per_s(config: TrainConfig, device: torch.device, steps: int) -> float:
    """Return the images a second of so many steps, after some to warm up."""
    state, draws = training(config, device)
    batch = next(draws.batches(0, device))

    def run(steps: int) -> None:
        for _ in range(steps):
            state.step(batch)
        state.settle()

    run(3)
    return steps * config.batch.effective / seconds(lambda: run(steps), device)


def flops_per_image(config: TrainConfig, device: torch.device) -> float:
    """Return the FLOPs of convolutions and products, forward and backward, as torch counts them."""
    one = config.batch.model_copy(update={"effective": 1, "micro": None})
    state, draws = training(config.model_copy(update={"batch": one} | PLAIN), device)
    with FlopCounterMode(display=False) as counter:
        state.step(draws.batch(0, draws_noise=False))
    return float(counter.get_total_flops())


def matmul_flops_per_s(device: torch.device) -> float:
    """Return the FLOPs a second of a large product of matrices: what this device can do at best."""
    on_gpu = device.type != "cpu"
    size, kind = (8192, torch.bfloat16) if on_gpu else (1024, torch.float32)
    a, b = torch.randn(2, size, size, device=device).to(kind)
    a @ b
    return float(2 * size**3 / min(seconds(lambda: a @ b, device) for _ in range(5)))


def seconds(function: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of a call and of all that it began on the device."""
    synchronize(device)
    begun = time.perf_counter()
    function()
    synchronize(device)
    return time.perf_counter() - begun


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def limit_holds(config: TrainConfig, device: torch.device) -> bool:
    """Say whether a GPU refuses this process more than its configured share of the memory.

    Raises:
        torch.OutOfMemoryError: It refuses the half of the share too.
    """
    share = round(config.memory_share * torch.cuda.get_device_properties(device).total_memory)
    limit_memory(config, device)
    try:
        torch.empty(share // 2, dtype=torch.uint8, device=device)
        torch.cuda.empty_cache()
        try:
            torch.empty(share, dtype=torch.uint8, device=device)
        except torch.OutOfMemoryError:
            return True
        return False
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device.index)
        torch.cuda.empty_cache()


def exchange_bytes_per_s(devices: list[torch.device]) -> float:
    """Sum numbers over devices, a process each, and return the bytes a second.

    Raises:
        TimeoutError: They did not meet, or did not finish.
        Exception: As it was raised in a process.
    """
    with TemporaryDirectory(prefix="segtune-check-") as folder:
        workers = spawn(_exchange, (folder, devices), nprocs=len(devices), join=False)
        assert workers is not None
        deadline = time.monotonic() + NCCL_S
        try:
            while not workers.join(timeout=1):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{len(devices)} processes did not end in {NCCL_S:g} s")
        finally:
            for process in workers.processes:
                process.kill()
        return float(Path(folder, "bytes_per_s").read_text())


def _exchange(rank: int, folder: str, devices: list[torch.device]) -> None:
    device, numbers = devices[rank], EXCHANGED if devices[rank].type != "cpu" else EXCHANGED >> 6
    if device.type != "cpu":
        torch.accelerator.set_device_index(device.index)
    meeting = torch.distributed.FileStore(str(Path(folder, "meeting")), len(devices))
    with group(device, meeting, rank, len(devices)):
        mine = torch.full((numbers,), float(rank + 1), device=device)
        torch.distributed.all_reduce(mine)
        total = sum(range(1, len(devices) + 1))
        if not bool((mine == total).all()):
            raise ArithmeticError(f"the sum over the processes is {mine[0]:g}, not {total}")
        times_s = [seconds(lambda: torch.distributed.all_reduce(mine), device) for _ in range(5)]
    if rank == 0:
        Path(folder, "bytes_per_s").write_text(str(4 * numbers / min(times_s)))
