"""Training steps of V1, against med-seg-diff-pytorch and MONAI's DiffusionModelUNet.

All have 16 channels at full resolution, four levels, one residual block a level (the package has
two, always), attention at the coarsest, and the numbers of channels in between that bring the
parameters nearest to V1's. The package also has linear attention at every level, 4 heads of 32
channels by default; with one head and dim_mults (1, 2, 4, 4) at 64 x 64, the same parameters again,
it took 0.6 of the time. Each takes the step that its user would: V1 in the layout that the
trainer gives it, the others in torch's own; all with the same loss (mean squared error), the same
optimizer (fused AdamW) and one thread.

Each is a process of its own. They take turns, and the best turn's CPU time counts: neighbours on
the machine slow a turn down, and nothing makes one faster. Memory is the largest resident size of
a process less what it had after its imports.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.bench.row import Row, show

IMAGE_CHANNELS = 3
SIZES = ((64, 8), (128, 4))
"""Image side in pixels, and images a step."""
DIM_MULTS = {64: (1, 1, 4, 4), 128: (1, 2, 3, 4)}
MONAI_CHANNELS = {64: (16, 32, 64, 96), 128: (16, 32, 72, 96)}
PACKAGE, MONAI = "med-seg-diff-pytorch", "MONAI DiffusionModelUNet"
OPTIONAL = ("med_seg_diff_pytorch", "beartype")
TURNS = 4
TURN_S = 1.0


def run() -> Iterator[Row]:
    """Yield rows, of each image size as it is measured."""
    others = [MONAI]
    if missing := [name for name in OPTIONAL if not importlib.util.find_spec(name)]:
        print(f"{PACKAGE}: not measured: no module {' or '.join(missing)} (`make bench` installs)")
    else:
        others.insert(0, PACKAGE)
    for size, batch in SIZES:
        yield from _compare(others, size, batch)


def _compare(others: list[str], size: int, batch: int) -> Iterator[Row]:
    workers = {side: _Worker(side, size, batch) for side in ("V1", *others)}
    best = dict.fromkeys(workers, float("inf"))
    try:
        steps = {
            side: max(1, round(TURN_S / worker(2)["step_s"])) for side, worker in workers.items()
        }
        for _ in range(TURNS):
            for side, worker in workers.items():
                best[side] = min(best[side], worker(steps[side])["step_s"])
        last = {side: worker(1) for side, worker in workers.items()}
    finally:
        for worker in workers.values():
            worker.end()
    for side in others:
        what = f"{size} x {size}, batch {batch}: V1 / {side}"
        ours, theirs = batch / best["V1"], batch / best[side]
        yield Row(f"training, {what}", "images/s", ours, theirs, "more")
        for name, unit in (("peak memory", "MiB"), ("parameters", "thousands")):
            ours, theirs = last["V1"][name], last[side][name]
            yield Row(f"{name}, {what}", unit, ours, theirs)


class _Worker:
    """A process that takes as many training steps as it is told, and then says how it went."""

    def __init__(self, side: str, size: int, batch: int):
        self.name = f"{side}, {size} x {size}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.bench_step", side, str(size), str(batch)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )

    def __call__(self, steps: int) -> dict[str, float]:
        assert self.process.stdin is not None and self.process.stdout is not None
        print(steps, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.name}: the process ended")
        return json.loads(answer)

    def end(self) -> None:
        self.process.communicate()  # closes its standard input, at which it ends


def _work(side: str, size: int, batch: int) -> None:
    """Be a worker: take as many steps as each line of standard input says."""
    torch.set_num_threads(1)
    build = BUILDERS[side]()
    Path("/proc/self/clear_refs").write_text("5")  # else the peak of the imports hides the steps'
    imported_mib = _peak_mib()
    torch.manual_seed(0)
    model, predict = build(size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    x_t, target = torch.randn(2, batch, 1, size, size)
    image = torch.rand(batch, IMAGE_CHANNELS, size, size) * 2 - 1
    t = torch.randint(1000, (batch,))
    for line in sys.stdin:
        begun = time.process_time()
        for _ in range(int(line)):
            optimizer.zero_grad()
            F.mse_loss(predict(x_t, t, image), target).backward()
            optimizer.step()
        answer = {
            "step_s": (time.process_time() - begun) / int(line),
            "peak memory": _peak_mib() - imported_mib,
            "parameters": sum(p.numel() for p in model.parameters()) / 1e3,
        }
        print(json.dumps(answer), flush=True)


def _peak_mib() -> float:
    """Return the largest resident size since the last write of 5 to clear_refs."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) / 1024  # type: ignore[index]


Predict = Callable[[Tensor, Tensor, Tensor], Tensor]
Build = Callable[[int], tuple[torch.nn.Module, Predict]]
"""Makes a network for an image side, and the function (x_t, t, image) -> prediction."""


def _v1() -> Build:
    from trainer.model_config import ModelConfig
    from trainer.models import build_model

    def build(size: int) -> tuple[torch.nn.Module, Predict]:
        config = ModelConfig(family="medsegdiff_v1", width=16, depth=4)
        model = build_model(
            config, in_channels=IMAGE_CHANNELS, image_size=size, outputs_logits=False
        )
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model, lambda x_t, t, image: model(x_t, t, model.condition(image))

    return build


def _package() -> Build:
    from med_seg_diff_pytorch import Unet  # type: ignore[import-untyped]

    def build(size: int) -> tuple[torch.nn.Module, Predict]:
        model = Unet(16, size, input_img_channels=IMAGE_CHANNELS, dim_mults=DIM_MULTS[size])
        return model, model

    return build


def _monai() -> Build:
    from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet

    def build(size: int) -> tuple[torch.nn.Module, Predict]:
        model = DiffusionModelUNet(
            spatial_dims=2,
            in_channels=1 + IMAGE_CHANNELS,
            out_channels=1,
            num_res_blocks=1,
            channels=MONAI_CHANNELS[size],
            attention_levels=(False, False, False, True),
            norm_num_groups=8,
            num_head_channels=32,
        )
        return model, lambda x_t, t, image: model(torch.cat([x_t, image], dim=1), t)

    return build


BUILDERS: dict[str, Callable[[], Any]] = {"V1": _v1, PACKAGE: _package, MONAI: _monai}
"""By side: imports what it needs, and returns its Build."""


if __name__ == "__main__":
    if sys.argv[1:]:
        _work(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    else:
        show(run())
