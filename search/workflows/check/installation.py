"""`segtune check`: does this machine train as it should? Run it first on a new one."""

import gc
import io
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from search.report.check_table import Row

if TYPE_CHECKING:
    import torch

    from search.workflows.check.step import Step

WRITTEN_MB = 64
"""Of the file by which a disk is measured."""
LEDGER_LINES = 20
LIMITED_SHARE = 0.5
"""Of a GPU's memory, for the check of its limit."""

Check = tuple[str, Callable[[], Iterable[Row]]]
"""What is looked at, and the function that does."""


def check(runs: Path) -> list[Row]:
    """Look at this machine: torch, GPUs, an optimizer step, its speed, Ray, disks.

    Args:
        runs: Where studies are to lie.
    """
    import torch

    from search.workflows.check.gpu import build_rows, look
    from trainer.progress import tracked

    torch.set_num_threads(1)  # as trials have
    seen = look()
    rows = build_rows(seen)
    device = torch.device("cpu")
    if seen.gpus.names and (here := torch.accelerator.current_accelerator()):
        device = torch.device(here.type, 0)
    checks: list[Check] = [
        ("step", lambda: step_rows(device)),
        ("fast step", lambda: fast_rows(device)),
        ("memory limit", lambda: limit_rows(device)),
        ("NCCL", lambda: exchange_rows(device)),
        ("speed", lambda: [speed_row(device)]),
        ("Ray", lambda: [ray_row(len(seen.gpus.names))]),
        ("disk", lambda: map(disk_row, places(runs))),
    ]
    for what, run in tracked(checks, "checking"):
        try:
            rows += run()
        except Exception as error:  # whatever is wrong with a machine, the rest is looked at too
            said = str(error).strip().splitlines() or [""]
            rows.append(Row(what, f"{type(error).__name__}: {said[-1][:200]}", "wrong"))
    return rows


@contextmanager
def noise_store(image_size: int) -> Iterator[Path]:
    """Prepare a data set of noise, eight pictures with a disc as lesion, for as long as it lasts.

    Yields:
        The store's folder.
    """
    import numpy as np
    from PIL import Image
    from rich.console import Console

    from trainer.data.prepare import prepare

    random = np.random.default_rng(0)
    y, x = np.mgrid[:image_size, :image_size] / image_size
    with TemporaryDirectory(prefix="segtune-check-") as folder:
        for name in ("images", "masks"):
            Path(folder, "noise", name).mkdir(parents=True)
        for number in range(8):
            disc = (y - 0.4) ** 2 + (x - 0.6) ** 2 < (0.1 + 0.01 * number) ** 2
            noise = random.integers(0, 128, disc.shape) + 100 * disc
            for name, pixels in (("images", noise), ("masks", 255 * disc)):
                picture = Image.fromarray(pixels.astype(np.uint8))
                picture.save(Path(folder, "noise", name, f"{number}.png"))
        quiet = Console(file=io.StringIO())
        store = Path(folder, "store")
        prepare(Path(folder, "noise"), store, image_size=image_size, workers=1, console=quiet)
        yield store


def step_rows(device: "torch.device") -> Iterable[Row]:
    """Compare a step of V1 with the CPU's in full precision."""
    import torch

    from search.workflows.check.step import (
        TOLERANCES,
        settings,
        take_step,
    )

    cpu = torch.device("cpu")
    with noise_store(64) as store:
        reference = take_step(settings(store, precision="fp32"), cpu)
        for precision, most in TOLERANCES.items():
            if precision == "fp32" and device == cpu:
                continue
            step = take_step(settings(store, precision=precision), device)
            yield compared(f"step in {precision}", step, reference, most, "the CPU's in fp32")


def fast_rows(device: "torch.device") -> Iterable[Row]:
    """See that what makes steps faster on a GPU is used, and computes the same."""
    from search.workflows.check.step import PLAIN, SAME, settings, take_step

    if device.type != "cuda":
        return
    with noise_store(64) as store:
        plain = take_step(settings(store, **PLAIN), device)
        kernel = take_step(settings(store, **PLAIN | {"norm_kernel": True}), device)
        graph = take_step(settings(store, **PLAIN | {"cuda_graph": True}), device)
    unused = "" if kernel.norm_kernel else "Triton is not installed, or not for this GPU"
    for what, step, reason in (("norm kernel", kernel, unused), ("graph", graph, graph.no_graph)):
        if reason:
            yield Row(what, f"not used: {reason}", "wrong", "training is right without, and slower")
        else:
            yield compared(what, step, plain, SAME[what], "the plain step's")


def compared(
    what: str, step: "Step", reference: "Step", most: tuple[float, float], whose: str
) -> Row:
    """Return a row about a step that should compute what another does.

    Args:
        what: The step.
        step: What it computed.
        reference: What the other did.
        most: Largest relative error of its loss terms, and of its gradient.
        whose: Result the other's is.
    """
    terms, gradient = step.errors(reference)
    found = (
        f"loss terms {terms:.1e} and gradient {gradient:.1e} from {whose} "
        f"(at most {most[0]:.0e} and {most[1]:.0e})"
    )
    if terms <= most[0] and gradient <= most[1]:
        return Row(what, found, "ok")
    return Row(what, found, "wrong", "do not train here: this device computes something else")


def limit_rows(device: "torch.device") -> Iterable[Row]:
    """See that a GPU refuses a process more memory than its share."""
    import torch

    from search.workflows.check.step import limit_holds, settings

    if device.type != "cuda":
        return
    gc.collect()
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info(device)
    what = f"{LIMITED_SHARE:.0%} of {total / 2**30:.1f} GiB"
    if free < LIMITED_SHARE * total:
        yield Row("memory limit", f"not tried: {free / 2**30:.1f} GiB are free, others have more")
        return
    with noise_store(64) as store:
        holds = limit_holds(settings(store, memory_share=LIMITED_SHARE), device)
    if holds:
        yield Row("memory limit", f"{what}: more is refused", "ok")
    else:
        remedy = "trials that share this GPU can end each other: gpus_per_trial must be 1"
        yield Row("memory limit", f"{what}: more is given all the same", "wrong", remedy)


def exchange_rows(device: "torch.device") -> Iterable[Row]:
    """Let two GPUs sum their numbers, as a trial on both does at every step."""
    import torch

    from search.workflows.check.step import exchange_bytes_per_s

    if device.type != "cuda" or torch.cuda.device_count() < 2:
        return
    pair = [torch.device("cuda", number) for number in range(2)]
    try:
        rate = exchange_bytes_per_s(pair)
    except Exception as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        remedy = "gpus_per_trial: 1 does without; NCCL_DEBUG=INFO tells more"
        yield Row("NCCL", f"two GPUs: {said[-1][:200]}", "wrong", remedy)
    else:
        yield Row("NCCL", f"two GPUs sum {rate / 1e9:.1f} GB/s", "ok")


def speed_row(device: "torch.device") -> Row:
    """Measure how many images a second V1 trains on, and what share of the device that is."""
    from search.workflows.check.step import (
        flops_per_image,
        images_per_s,
        matmul_flops_per_s,
        settings,
    )

    small = device.type == "cpu"
    size, width, depth, batch, steps = (64, 16, 4, 4, 4) if small else (128, 64, 5, 8, 12)
    with noise_store(size) as store:
        sizes = {"model__width": width, "model__depth": depth, "batch__effective": batch}
        config = settings(store, **sizes)
        rate = images_per_s(config, device, steps)
        flops = flops_per_image(config, device)
    best = matmul_flops_per_s(device)
    kind = "one thread's fp32" if small else "bf16"
    return Row(
        "speed",
        f"V1 of width {width}, {size} px, batch {batch}: {rate:.0f} images/s, "
        f"{rate * flops / best:.1%} of {best / 1e12:.3g} TFLOP/s (products in {kind})",
    )


def ray_row(num_gpus: int) -> Row:
    """Start Ray as `launch` does, and see whether it counts the GPUs that torch sees."""
    from search.execution.extra import need_search
    from search.execution.session import before_ray, ray_session

    need_search()
    begun = time.perf_counter()
    before_ray("local")
    import ray

    with ray_session("local"):
        resources = ray.cluster_resources()
    cpus, gpus = (int(resources.get(name, 0)) for name in ("CPU", "GPU"))
    found = (
        f"{ray.__version__} counts {cpus} CPUs and {gpus} GPUs "
        f"(began and ended in {time.perf_counter() - begun:.0f} s)"
    )
    if gpus == num_gpus:
        return Row("Ray", found, "ok")
    return Row(
        "Ray",
        f"{found}, torch {num_gpus}",
        "wrong",
        "trials are placed by Ray's count: look at CUDA_VISIBLE_DEVICES and at the rows above",
    )


@dataclass(frozen=True)
class Place:
    """A folder whose disk is measured."""

    what: str
    folder: Path


def places(runs: Path) -> list[Place]:
    """Return where studies are to lie, and this machine's temporary folder if that is elsewhere."""
    above = runs.absolute()
    while not above.is_dir():
        above = above.parent
    own = Path(tempfile.gettempdir())
    found = [Place("disk of --runs", above), Place("disk of this machine", own)]
    return found[: 1 if above.stat().st_dev == own.stat().st_dev else 2]


def disk_row(place: Place) -> Row:
    """Write and read a file, and append lines to one as a ledger does."""
    data = os.urandom(1 << 20)
    try:
        with tempfile.NamedTemporaryFile(dir=place.folder, prefix=".segtune-check-") as file:
            begun = time.perf_counter()
            for _ in range(WRITTEN_MB):
                file.write(data)
            file.flush()
            os.fsync(file.fileno())
            written = WRITTEN_MB * 1.048576 / (time.perf_counter() - begun)
            if hasattr(os, "posix_fadvise"):  # so that the disk is read, not memory
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            begun = time.perf_counter()
            with open(file.name, "rb") as again:
                while again.read(1 << 20):
                    pass
            read = WRITTEN_MB * 1.048576 / (time.perf_counter() - begun)
            begun = time.perf_counter()
            for _ in range(LEDGER_LINES):
                file.write(b"{}\n")
                file.flush()
                os.fsync(file.fileno())
            line_ms = (time.perf_counter() - begun) / LEDGER_LINES * 1e3
    except OSError as error:
        remedy = "make room there, or name another folder"
        return Row(place.what, f"{place.folder}: {error.strerror}", "wrong", remedy)
    found = (
        f"{place.folder}: {written:.0f} MB/s written, {read:.0f} MB/s read, "
        f"{line_ms:.1f} ms a line of a ledger"
    )
    return Row(place.what, found, "ok")
