"""What the campaigns consist of, and what whoever carries one out by hand needs."""

import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.chaos import faults
from tests.chaos.campaign import Stage
from tests.chaos.faults import Fault
from tests.chaos.hosts import obstacle
from tests.chaos.study import REAL, Plan

LRS = tuple(10 ** (-1 - number / 4) for number in range(12))
TOY = Plan("toy", LRS, epochs=60)
ASHA = Plan(
    "asha",
    tuple(10 ** (-1 - number / 8) for number in range(24)),
    epochs=48,
    asha={"grace_period": 6, "reduction_factor": 2, "brackets": 2, "smoothing": 2},
)
PHANTOM = Plan(
    "phantom",
    LRS[8:11],
    epochs=80,
    fit=REAL,
    hang_timeout_s=90,
    settings={
        "model.family": "medsegdiff_v1",
        "model.width": 8,
        "model.depth": 2,
        "model.attention_levels": 0,
        "sampling.timestep_respacing": 2,
        "sampling.threshold": 0.02,
        "optimizer.warmup_images": 8,
        "batch.effective": 4,
        "epoch_images": 8,
    },
)


def short() -> list[Stage]:
    """Eight faults of seven kinds on one toy study."""
    times: dict[Fault, int] = {
        faults.kill_process: 2,
        faults.corrupt_checkpoint: 1,
        faults.stop_process: 1,
        faults.power_off: 1,
        faults.flicker: 1,
        faults.kill_driver: 1,
        faults.kill_mlflow(10): 1,
    }
    return [
        Stage(Plan("toy", LRS[:6], epochs=40, hang_timeout_s=10, slow_s=0.4), _mixed(times, 0), 2)
    ]


def longer() -> list[Stage]:
    """Every kind once or twice."""
    times: dict[Fault, int] = {
        faults.kill_process: 2,
        faults.corrupt_checkpoint: 2,
        faults.stop_process: 1,
        faults.hang: 1,
        faults.kill_raylet: 2,
        faults.power_off: 1,
        faults.flicker: 1,
        faults.cut: 1,
        faults.kill_driver: 2,
        faults.restart_head: 1,
        faults.kill_mlflow(30): 1,
        faults.fill_storage: 1,
    }
    return [Stage(TOY, _mixed(times, 1))]


def pruned(seed: int) -> list[Stage]:
    """Sixteen faults while ASHA stops trials; twice a driver that was asleep wakes up."""
    times: dict[Fault, int] = {
        faults.kill_process: 2,
        faults.corrupt_checkpoint: 1,
        faults.stop_process: 1,
        faults.kill_raylet: 1,
        faults.power_off: 1,
        faults.flicker: 1,
        faults.cut: 1,
        faults.kill_driver: 3,
        faults.suspend_driver: 2,
        faults.restart_head: 1,
        faults.kill_mlflow(30): 1,
        faults.fill_storage: 1,
    }
    return [Stage(ASHA, _mixed(times, seed))]


def full(seed: int) -> list[Stage]:
    """76 faults: 10 on the real trainer, 16 beside ASHA, and 50 on toys that nobody stops."""
    toy: dict[Fault, int] = {
        faults.kill_process: 8,
        faults.corrupt_checkpoint: 6,
        faults.stop_process: 3,
        faults.hang: 3,
        faults.kill_raylet: 5,
        faults.power_off: 4,
        faults.flicker: 4,
        faults.cut: 4,
        faults.kill_driver: 5,
        faults.restart_head: 3,
        faults.kill_mlflow(60): 2,
        faults.fill_storage: 3,
    }
    real: dict[Fault, int] = {
        faults.kill_process: 2,
        faults.corrupt_checkpoint: 2,
        faults.stop_process: 1,
        faults.cut: 1,
        faults.power_off: 1,
        faults.kill_driver: 1,
        faults.restart_head: 1,
        faults.fill_storage: 1,
    }
    return [Stage(PHANTOM, _mixed(real, seed)), *pruned(seed), Stage(TOY, _mixed(toy, seed))]


@contextmanager
def equipped() -> Iterator[tuple[Path, Callable[[str], None]]]:
    """Yield a small prepared phantom, and what prints a line with the seconds so far.

    Raises:
        SystemExit: There can be no hosts here; the line says why.
    """
    from trainer.data.phantom import write_phantom
    from trainer.data.prepare import prepare

    if reason := obstacle():
        sys.exit(f"chaos cannot be made here: {reason}")
    begun_s = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - begun_s:6.0f} s  {line}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        write_phantom(Path(folder, "dataset"), num_cases=10, seed=0)
        prepare(Path(folder, "dataset"), Path(folder, "store"), image_size=32)
        yield Path(folder, "store"), say


def _mixed(times: Mapping[Fault, int], seed: int) -> list[Fault]:
    """Return every fault so many times, in a seeded random order."""
    mixed = [fault for fault, number in times.items() for _ in range(number)]
    random.Random(seed).shuffle(mixed)
    return mixed
