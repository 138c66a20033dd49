"""The groups of `python -m tests.bench gpu`: each yields rows, what and what was found."""

import importlib.util
import multiprocessing
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import repeat
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from search.workflows.check.step import (
    flops_per_image,
    matmul_flops_per_s,
    seconds,
    synchronize,
    training,
)
from tests.bench.gpu_measure import VARIANTS, Bench, clean, median_s, step_rows
from trainer.data.batches import Batch, prefetch
from trainer.data.inputs import InputSpec
from trainer.data.store import Store
from trainer.evaluation.validate import Validator
from trainer.gpus import look
from trainer.loop import fit
from trainer.models.new_network import new_network
from trainer.saved import checkpoint
from trainer.training.train_state import TrainState

Rows = Iterator[tuple[str, str]]


def about(bench: Bench) -> Rows:
    """The machine, and what its card can do at best."""
    yield "machine", f"{look()}; cuDNN {torch.backends.cudnn.version()}"
    if bench.device.type == "cuda":
        yield "memory", f"{torch.cuda.get_device_properties(0).total_memory / 2**30:.1f} GiB"
    device = bench.device
    numbers = torch.empty((1 << 20) if bench.dry else (1 << 29), device=device)
    other = torch.empty_like(numbers)
    copy_s = median_s(lambda: other.copy_(numbers), device, 5)
    yield "copy on the device, read and written", f"{8 * len(numbers) / copy_s / 1e12:.2f} TB/s"
    host = torch.empty(len(numbers) // 8)
    for what, memory in (("pageable", host), ("pinned", pinned(host, device))):
        move_s = median_s(lambda memory=memory: memory.to(device, non_blocking=True), device, 3)
        yield f"host to device, {what}", f"{4 * len(host) / move_s / 1e9:.1f} GB/s"
    empty = torch.zeros(1, device=device)
    count = bench.times(2000)
    launch_s = seconds(lambda: [empty.add_(1) for _ in range(count)], device) / count
    yield "one small kernel after the other", f"{launch_s * 1e6:.1f} µs each"


def pinned(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor in memory that the device copies from by itself."""
    return tensor.pin_memory() if device.type == "cuda" else tensor


def step(bench: Bench) -> Rows:
    """V1's step, in every variant: what matters most."""
    sizes = ((256, 32, 64), (128, 8, 64), (128, 32, 64), (256, 32, 128))
    yield from steps(
        bench,
        "V1 w{model__width} {size} px b{batch}",
        [(size, batch, {"model__width": w}) for size, batch, w in sizes],
        [*VARIANTS],
    )


def families(bench: Bench) -> Rows:
    """The steps of other families."""
    yield from steps(
        bench,
        "{model__family} w64 {size} px b{batch}",
        [
            (size, batch, {"model__family": family})
            for size, batch in ((128, 8), (256, 32), (128, 32))
            for family in ("medsegdiff_v2", "diffusion_unet", "unet")
        ],
        ["as shipped", "plain"],
    )


def steps(
    bench: Bench, name: str, sizes: list[tuple[int, int, dict[str, Any]]], variants: list[str]
) -> Rows:
    """Yield the rows of some configurations in some variants; one that breaks costs its own."""
    peak = matmul_flops_per_s(bench.device)
    yield "product of matrices, the peak of shares", f"{peak / 1e12:.4g} TFLOP/s"
    if bench.dry:
        families = {changes.get("model__family"): changes for _, _, changes in sizes}
        sizes = [(32, 4, changes | {"model__width": 8}) for changes in families.values()]
    for size, batch, changes in sizes:
        what = name.format(size=size, batch=batch, **changes)
        flops = flops_per_image(bench.config(size, batch, **changes), bench.device)
        for variant in variants:
            config = bench.config(size, batch, **changes, **VARIANTS[variant])
            rows = step_rows(
                bench,
                f"{what}, {variant}",
                config,
                flops=flops,
                peak=peak,
                detail=variant in ("as shipped", "plain"),
            )
            try:
                yield from rows
            except Exception as error:
                yield f"{what}, {variant}", broken(error)


def epoch(bench: Bench) -> Rows:
    """What an epoch spends beside its steps: sampling, scoring, checkpoints; and `fit` itself."""
    for size, batch in ((32, 4),) if bench.dry else ((128, 32), (256, 32)):
        store_path = str(bench.store(size, num_slices=40))
        config = bench.config(size, batch, data__store=store_path)
        state, draws = training(config, bench.device)
        for number in range(3):
            state.step(draws.batch(number * batch))
        store = Store.open(store_path)
        cases = store.split(0)[1]
        validator = Validator(store, cases, config, state.process, bench.device)

        def sample(
            validator: Validator = validator, state: Any = state, epoch: int = 1
        ) -> "np.ndarray[Any, Any]":
            return validator.probabilities(
                state.ema, epoch, batch_size=state.sampling_batch, autocast=state.autocast
            )

        probability = sample(epoch=0)
        sample_s = seconds(sample, bench.device) / len(cases)
        yield f"{size} px: sampling a case of 40 slices, one step", f"{sample_s:.2f} s"
        noise = np.random.default_rng(0).normal(0.5, 0.8, probability.shape).astype(np.float32)
        predictions = {
            "good": store.masks(validator.rows).astype(np.float32),
            "scattered": ndimage.gaussian_filter(noise, (0, 1.5, 1.5)),
        }
        for what, prediction in predictions.items():
            begun = time.perf_counter()
            validator.scores(prediction)
            score_s = (time.perf_counter() - begun) / len(cases)
            yield f"{size} px: scoring a case of 40 slices, {what}", f"{score_s:.2f} s"
        folder, save_s = bench.folder / "checkpoints", []
        for number in (1, 2):
            begun = time.perf_counter()
            checkpoint.save(folder, number, state.state_dict())
            save_s.append(time.perf_counter() - begun)
        num_bytes = max(file.stat().st_size for file in folder.glob("*.pt"))
        yield f"{size} px: a checkpoint", f"{min(save_s):.2f} s ({num_bytes / 1e6:.0f} MB)"
        shutil.rmtree(folder)
        del state, draws, validator
        clean(bench.device)
        yield from epochs_of_fit(bench, size, batch, store_path)


def epochs_of_fit(bench: Bench, size: int, batch: int, store: str) -> Rows:
    """Let `fit` train for three short epochs, and say where their seconds go."""
    images = 8 if bench.dry else 640
    config = bench.config(size, batch, data__store=store, epochs=3, epoch_images=images)
    folder = bench.folder / "run"
    begun = time.perf_counter()
    for validation in fit(config, folder):
        wall_s, begun = time.perf_counter() - begun, time.perf_counter()
        metrics = validation.metrics
        times = ", ".join(
            f"{name.removeprefix('time/')} {value:.2f}"
            for name, value in metrics.items()
            if name.startswith("time/")
        )
        what = f"{size} px: fit, epoch {validation.epoch} of {images} images and 2 cases"
        yield what, f"{wall_s:.2f} s: {times}; Dice {metrics['val/dice']:.3f}"
    shutil.rmtree(folder)


def data(bench: Bench) -> Rows:
    """Batches: drawn on the host, and in a thread beside the steps."""
    for size, batch in ((32, 4),) if bench.dry else ((256, 32), (128, 32), (128, 8)):
        config = bench.config(size, batch)
        state, draws = training(config, bench.device)
        batches = draws.batches(0, bench.device)
        ready = next(batches)
        begun = time.thread_time()
        count = bench.times(8)
        for _ in range(count):
            next(batches)
        draw_ms = (time.thread_time() - begun) / count * 1e3
        count = bench.times(12)

        def run(items: Iterator[Batch], state: TrainState = state, count: int = count) -> None:
            for _ in range(count):
                state.step(next(items))
            state.settle()

        run(repeat(ready))
        ready_s = seconds(lambda ready=ready, run=run: run(repeat(ready)), bench.device)
        with closing(prefetch(batches)) as ahead:
            run(ahead)
            ahead_s = seconds(lambda ahead=ahead, run=run: run(ahead), bench.device)
        yield (
            f"batches of {batch} at {size} px",
            f"drawn in {draw_ms:.1f} ms of a thread; a step takes {ready_s / count * 1e3:.1f} ms, "
            f"{ahead_s / ready_s - 1:+.0%} with the thread beside it",
        )
        del state, draws, batches, ready


Predict = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x_t, t, image) -> prediction."""
IMAGE_CHANNELS = 5


def v1(bench: Bench, size: int, **changes: Any) -> tuple[nn.Module, Predict]:
    """Return our network of depth 4, as the trainer builds it."""
    width = 16 if bench.dry else 64
    config = bench.config(size, 8, model__depth=4, model__width=width, **changes)
    spec = InputSpec(tuple("abcde"), ((0.0, 1.0),) * IMAGE_CHANNELS, 0, size)
    network = new_network(config, spec, bench.device)
    return network, lambda x, t, image: network(x, t, network.condition(image))


def monai(bench: Bench, size: int, channels_last: bool = False) -> tuple[nn.Module, Predict]:
    """Return MONAI's network of about as many parameters."""
    from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet

    width = 16 if bench.dry else 64
    network = DiffusionModelUNet(
        spatial_dims=2,
        in_channels=1 + IMAGE_CHANNELS,
        out_channels=1,
        num_res_blocks=1,
        channels=tuple(number * width // 16 for number in (16, 32, 72, 96)),
        attention_levels=(False, False, False, True),
        norm_num_groups=8,
        num_head_channels=32,
        use_flash_attention=True,
    )
    if channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network, lambda x, t, image: network(torch.cat([x, image], 1), t)


def package(bench: Bench, size: int) -> tuple[nn.Module, Predict]:
    """Return med-seg-diff-pytorch's network of about as many parameters."""
    from med_seg_diff_pytorch import Unet  # type: ignore[import-untyped]

    mults = (1, 1, 4, 4) if size <= 64 else (1, 2, 3, 4)
    width = 16 if bench.dry else 64
    network = Unet(width, size, input_img_channels=IMAGE_CHANNELS, dim_mults=mults)
    return network, network


def peers(bench: Bench) -> Rows:
    """Forward, backward and AdamW beside others' networks, each also in its other layout."""
    sides: dict[str, Callable[..., tuple[nn.Module, Predict]]] = {}
    for name, kernel, last in (
        ("V1 with its kernel, NHWC", True, True),
        ("V1 plain, NHWC", False, True),
        ("V1 plain, NCHW", False, False),
    ):
        sides[name] = lambda b, s, kernel=kernel, last=last: v1(
            b, s, channels_last=last, norm_kernel=kernel
        )
    if importlib.util.find_spec("monai"):
        sides |= {"MONAI, NCHW": monai, "MONAI, NHWC": lambda b, s: monai(b, s, True)}
    if importlib.util.find_spec("med_seg_diff_pytorch"):
        sides["med-seg-diff-pytorch"] = package
    graphs = {
        f"{name.replace(',', ' as a graph,')}": make
        for name, make in sides.items()
        if "kernel" in name or "MONAI" in name
    }
    if bench.device.type == "cuda":
        sides |= graphs
    for size, batch in ((32, 2),) if bench.dry else ((256, 16), (128, 8), (128, 32)):
        best: dict[str, float] = {}
        for side, make in sides.items():
            what = f"{side}, {size} px b{batch}"
            try:
                step_s, memory_gib, parameters = peer_step(
                    bench, make, size, batch, graph="graph" in side
                )
            except Exception as error:
                yield what, broken(error)
                continue
            name = side.split(",")[0]
            best[name] = max(best.get(name, 0.0), batch / step_s)
            yield (
                what,
                f"{batch / step_s:.0f} images/s, {step_s * 1e3:.1f} ms, {memory_gib:.1f} GiB, "
                f"{parameters / 1e6:.1f} M parameters",
            )
        for how in ("", " as a graph"):
            mine = best.get(f"V1 with its kernel{how}")
            for name in ("V1 plain", f"MONAI{how}", "med-seg-diff-pytorch"):
                if mine and (rate := best.get(name)):
                    what = f"V1 with its kernel{how} against {name}, {size} px b{batch}"
                    yield what, f"{mine / rate:.2f} times as fast"


def peer_step(
    bench: Bench,
    make: Callable[..., tuple[nn.Module, Predict]],
    size: int,
    batch: int,
    *,
    graph: bool,
) -> tuple[float, float, int]:
    """Return a step's seconds, its peak memory in GiB, and the number of parameters.

    Args:
        bench: Where.
        make: The network's builder.
        size: Image side in pixels.
        batch: Images a step.
        graph: Forward and backward are one CUDA graph.
    """
    device = bench.device
    clean(device)
    torch.manual_seed(0)
    network, predict = make(bench, size)
    network.to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    x_t, target = torch.randn(2, batch, 1, size, size, device=device)
    image = torch.rand(batch, IMAGE_CHANNELS, size, size, device=device) * 2 - 1
    t = torch.randint(1000, (batch,), device=device)

    def both() -> None:
        with torch.autocast(device.type, torch.bfloat16, cache_enabled=not graph):
            predicted = predict(x_t, t, image)
        F.mse_loss(predicted.float(), target).backward()

    def once() -> None:
        optimizer.zero_grad()
        both()
        optimizer.step()

    if graph:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                once()
        torch.cuda.current_stream().wait_stream(side)
        optimizer.zero_grad()
        recorded = torch.cuda.CUDAGraph()
        with torch.cuda.graph(recorded):
            both()

        def once() -> None:
            recorded.replay()
            optimizer.step()

    def run(steps: int) -> None:
        for _ in range(steps):
            once()

    run(bench.times(4))
    count = bench.times(8)
    step_s = min(seconds(lambda: run(count), device) for _ in range(3)) / count
    memory = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0.0
    return step_s, memory, sum(p.numel() for p in network.parameters())


def share(bench: Bench) -> Rows:
    """Several trials on one card."""
    context = multiprocessing.get_context("spawn")
    alone: dict[str, float] = {}
    for name in ("as shipped", "plain"):
        for number in (1, 2) if bench.dry else (1, 2, 4):
            barrier, answers = context.Barrier(number), context.Queue()
            arguments = (bench, name, barrier, answers)
            children = [context.Process(target=one_share, args=arguments) for _ in range(number)]
            for child in children:
                child.start()
            found = [answers.get(timeout=120) for _ in children]
            for child in children:
                child.join()
            rate = sum(rate for rate, _ in found)
            alone.setdefault(name, rate)
            beside = "" if number > 1 else f"; beside its tensors a process has {found[0][1]} MiB"
            yield (
                f"{number} trials on one card, V1 128 px b8, {name}",
                f"{rate:.0f} images/s together (x{rate / alone[name]:.2f}){beside}",
            )


def one_share(bench: Bench, variant: str, barrier: Any, answers: Any) -> None:
    """Be one of the trials on a card."""
    torch.set_num_threads(1)
    config = bench.config(32 if bench.dry else 128, 8, **VARIANTS[variant])
    state, draws = training(config, bench.device)
    batch = next(draws.batches(0, bench.device))
    for _ in range(4):
        state.step(batch)
    synchronize(bench.device)
    beside_mib = 0
    if bench.device.type == "cuda":
        free, total = torch.cuda.mem_get_info()
        beside_mib = (total - free - torch.cuda.memory_reserved()) >> 20
    barrier.wait(timeout=100)
    steps, begun, limit_s = 0, time.perf_counter(), 1 if bench.dry else 6
    while time.perf_counter() < begun + limit_s:
        state.step(batch)
        steps += 1
    state.settle()
    synchronize(bench.device)
    answers.put((8 * steps / (time.perf_counter() - begun), beside_mib))


def broken(error: Exception) -> str:
    """Return an error as a row's finding."""
    said = str(error).strip().splitlines() or [""]
    return f"BROKEN: {type(error).__name__}: {said[-1][:160]}"


GROUPS: dict[str, tuple[Callable[[Bench], Rows], float]] = {
    "about": (about, 40),
    "step": (step, 200),
    "peers": (peers, 110),
    "epoch": (epoch, 150),
    "families": (families, 120),
    "data": (data, 50),
    "share": (share, 110),
}
"""By name, what matters most first: the function, and its seconds at most."""
