"""What the benchmarks of GPUs share: configurations, stores of noise, times and profiles."""

import gc
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.profiler import ProfilerActivity
from torch.profiler import profile as recorder

from search.workflows.check.step import PLAIN, seconds, synchronize, training
from tests.gpu.noise import write_store
from trainer.config import TrainConfig
from trainer.configfile import build, nest

VARIANTS: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "plain": PLAIN,
    "norm kernel alone": PLAIN | {"norm_kernel": True},
    "graph alone": PLAIN | {"cuda_graph": True},
}
"""Settings of TrainConfig under which the same step is measured, by name; what matters first."""

KINDS = {
    "optimizer": r"[Aa]dam|lerp|LpNorm|lpnorm|multi_tensor",
    "FFT": r"fft",
    "attention": r"flash|fmha|attention",
    "norm": r"norm_silu|group_?norm|layer_?norm|RowwiseMoments|ComputeFusedParams|GammaBeta"
    r"|ComputeInternalGradients|welford",
    "layout": r"nchwToNhwc|nhwcToNchw|[Tt]ranspose|permute",
    "convolution": r"conv|cudnn|xmma|implicit|wgrad|dgrad|fprop|cutlass|gemm|nvjet|sm90_|sm80_|mm_",
    "copy and cast": r"[Mm]emcpy|copy",
    "elementwise": r"elementwise|vectorized|reduce|fill|cat|triton|index|upsample|[Mm]emset"
    r"|grid_sampler|where",
}
"""Kernels by what their names have, the first that does."""

WAITS = r"cuda(Stream|Device|Event)Synchronize"


class Bench(NamedTuple):
    """Where and how large it is measured."""

    device: torch.device
    dry: bool
    folder: Path
    """Where stores are written, for all groups."""

    def store(self, image_size: int, num_slices: int = 12, native_size: int = 512) -> Path:
        """Return a store of noise, the same for all groups."""
        if self.dry:
            num_slices, native_size = 6, 64
        folder = self.folder / f"{image_size}-{num_slices}-{native_size}"
        if not folder.exists():
            unfinished = folder.with_name(f"{folder.name}.{os.getpid()}")
            write_store(
                unfinished,
                image_size=image_size,
                num_cases=10,
                num_slices=num_slices,
                native_size=native_size,
            )
            unfinished.rename(folder)  # a group may be ended meanwhile
        return folder

    def config(self, image_size: int, batch: int, **changes: Any) -> TrainConfig:
        """Return a configuration as of the table in docs/gpu.md; dots are two underscores."""
        values = {
            "data.store": str(self.store(image_size)),
            "batch.effective": batch,
            "epoch_images": 4000,
            "epochs": 81,
            "model.width": 8 if self.dry else 64,
            "model.depth": 4 if self.dry else 5,
            "optimizer.warmup_images": 4000,
            "optimizer.ema_half_life_images": 8000,
            "device": self.device.type,
        }
        changed = {key.replace("__", "."): value for key, value in changes.items()}
        return build(TrainConfig, nest(values | changed), "bench")

    def times(self, number: int) -> int:
        """Return how often to repeat something, twice when dry."""
        return 2 if self.dry else number


def clean(device: torch.device) -> None:
    """Give memory back, and count its peak anew."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def median_s(function: Callable[[], object], device: torch.device, repeat: int) -> float:
    """Return the median of a call's seconds."""
    return sorted(seconds(function, device) for _ in range(repeat))[repeat // 2]


class Profile(NamedTuple):
    """Where a call's time goes on the device."""

    busy_ms: float
    kernels: int
    waits: float
    by_kind: dict[str, float]
    """Milliseconds."""
    longest: list[tuple[float, int, str]]
    """Milliseconds, how often, and the kernel's name."""


def profile(function: Callable[[], object], device: torch.device, repeat: int = 3) -> Profile:
    """Record some calls; on a CPU its operations count as kernels."""
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu
    with recorder(activities=activities) as recorded:
        for _ in range(repeat):
            function()
        synchronize(device)
    kernels, waits = 0, 0
    by_kind: dict[str, float] = {}
    longest: list[tuple[float, int, str]] = []
    for event in recorded.key_averages():
        waits += event.count if re.search(WAITS, event.key) else 0
        if getattr(event, "is_user_annotation", False) or re.match(
            r"Optimizer\.|ProfilerStep|## ", event.key
        ):
            continue  # spans over kernels, which would count twice
        if on_gpu and not str(event.device_type).endswith("CUDA"):
            continue
        self_us = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        if not self_us:
            continue
        ms = self_us / 1000 / repeat
        kind = next((name for name, word in KINDS.items() if re.search(word, event.key)), "other")
        by_kind[kind] = by_kind.get(kind, 0.0) + ms
        kernels += event.count
        longest.append((ms, event.count // repeat, event.key[:70]))
    return Profile(
        sum(by_kind.values()),
        kernels // repeat,
        waits / repeat,
        dict(sorted(by_kind.items(), key=lambda item: -item[1])),
        sorted(longest, reverse=True)[:6],
    )


def step_rows(
    bench: Bench, what: str, config: TrainConfig, *, flops: float, peak: float, detail: bool
) -> Iterator[tuple[str, str]]:
    """Measure optimizer steps on batches that are ready.

    Args:
        bench: Where.
        what: Name of the row.
        config: What is trained.
        flops: Of one image.
        peak: FLOPs a second of the device at best.
        detail: Also say which kinds of kernels and which kernels take the time.

    Yields:
        Rows: what, and what was found.
    """
    device, batch = bench.device, config.batch.effective
    clean(device)
    begun = time.perf_counter()
    state, draws = training(config, device)
    batches = draws.batches(0, device)
    ready = [next(batches) for _ in range(bench.times(4))]

    def run(steps: int) -> None:
        for number in range(steps):
            state.step(ready[number % len(ready)])
        state.settle()

    run(len(ready))
    synchronize(device)
    first_s = time.perf_counter() - begun
    few = bench.times(3)
    repeat = bench.times(max(5, min(30, round(1.5 * few / seconds(lambda: run(few), device)))))
    step_s = min(seconds(lambda: run(repeat), device) for _ in range(2)) / repeat
    memory = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0.0
    notes = [f"first four steps {first_s:.1f} s"]
    if state.micro < batch:
        notes.append(f"micro-batch {state.micro}")
    if config.cuda_graph and state.graphs.refused:
        notes.append(f"no graph: {state.graphs.refused}")
    found = (
        f"{step_s * 1e3:.1f} ms, {batch / step_s:.0f} images/s, "
        f"{flops * batch / step_s / peak:.1%} of the peak, {memory:.1f} GiB"
    )
    yield what, "; ".join([found, *notes])
    profiled = profile(lambda: state.step(ready[0]), device)
    state.settle()
    yield (
        f"{what}: profile",
        f"busy {profiled.busy_ms / (step_s * 1e3):.0%}, {profiled.kernels} kernels, "
        f"{profiled.waits:.1f} waits a step; ms by kind: "
        + ", ".join(f"{kind} {ms:.1f}" for kind, ms in profiled.by_kind.items()),
    )
    for ms, count, name in profiled.longest if detail else ():
        yield f"{what}: long kernel", f"{ms:.2f} ms in {count} x {name}"
