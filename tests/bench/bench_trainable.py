"""What warm processes and the shared store save, measured on the real trainer.

Start: from a trial's assignment (its `proposed` line in the ledger) to its first optimizer step
(the checkpoint right after it), in a real study that runs one trial after the other; against a
attempt in a fresh process, from the request to the same checkpoint. The model is small, so that
the numbers are those of starting and not of the step.

Memory: what the pages of the store take in four attempts that train at once, every page divided
by the number of processes that share it (PSS, from /proc/PID/smaps); against four times one
attempt alone, which is what four copies would take.
"""

import io
import json
import os
import re
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Any

from search.execution.session import quiet_ray
from search.study.config import StudyConfig
from search.workflows.launch import launch
from tests.bench.row import Row, show
from trainer.data.phantom import write_phantom
from trainer.data.prepare import prepare

NUM_WARM = 8
NUM_FRESH = 3
NUM_TOGETHER = 4
SMALL = {
    "model.width": 8,
    "model.depth": 2,
    "model.attention_levels": 0,
    "diffusion.num_timesteps": 50,
    "sampling.timestep_respacing": 1,
    "batch.effective": 1,
}


def run() -> Iterator[Row]:
    """Yield rows."""
    quiet_ray()
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with redirect_stdout(io.StringIO()):
            write_phantom(folder / "dataset", num_cases=8, seed=0)
            prepare(folder / "dataset", folder / "store")
        yield _starts(folder)
        yield from _memory(folder)


def _study(folder: Path, **train: Any) -> StudyConfig:
    return StudyConfig.model_validate(
        {
            "study": "bench",
            "data": {"store": str(folder / "store")},
            "train": SMALL | train,
            "space": {"optimizer.lr": {"type": "float", "low": 1e-4, "high": 1e-3}},
            "sampler": {"type": "random"},
            "scheduler": {"type": "none", "max_t": 1},
            "trials": {"num_trials": NUM_WARM, "cpus_per_trial": os.cpu_count() or 1},
        }
    )


def _starts(folder: Path) -> Row:
    """The study's first trial is the control, in a cold process; the second one is not counted."""
    study = _study(folder, epoch_images=1)  # so that the first checkpoint follows the first step
    with redirect_stdout(io.StringIO()):
        assert launch(study, folder / "runs") == 0
    lines = (folder / "runs" / "bench" / "ledger.jsonl").read_text().splitlines()
    assigned = {e["trial"]: e["time"] for e in map(json.loads, lines) if e["event"] == "proposed"}
    trials = folder / "runs" / "bench" / "trials"
    warm = [_first_step(trials / f"{n:04d}") - assigned[n] for n in assigned if n > 1]

    fresh = []
    with _attempts(study, folder / "fresh") as start:
        for number in range(NUM_FRESH):
            begun = time.time()
            start()
            fresh.append(_first_step(folder / "fresh" / f"{number:04d}") - begun)
    ours, theirs = statistics.median(warm), statistics.median(fresh)
    return Row("assignment to first step, warm / fresh process", "s", ours, theirs)


def _first_step(run_dir: Path) -> float:
    """Return when the first checkpoint was written, in unix seconds."""
    return min(path.stat().st_mtime for path in (run_dir / "checkpoints").glob("*.pt"))


def _memory(folder: Path) -> Iterator[Row]:
    study = _study(folder, **{"epoch_images": 400, "data.foreground_fraction": 0.0})
    store = str(folder / "store")
    with _attempts(study, folder / "together") as start:
        pids = [start()]
        alone = [_pss_mib(pids[0], below) for below in (store, "")]
        pids += [start() for _ in range(NUM_TOGETHER - 1)]
        together = [sum(_pss_mib(pid, below) for pid in pids) for below in (store, "")]
    for what, ours, one in zip(("the store", "all memory"), together, alone, strict=True):
        theirs = NUM_TOGETHER * one
        name = f"{what} in {NUM_TOGETHER} trials / {NUM_TOGETHER} x one"
        yield Row(name, "MiB", ours, theirs)


@contextmanager
def _attempts(study: StudyConfig, folder: Path) -> Iterator[Any]:
    """Yield a function that starts an attempt in a fresh process, trains one epoch, and stays.

    The function returns the process's id.
    """
    import ray

    from search.execution.trainable import Trainable
    from search.tuning.searcher import TrialSpec

    ray.init(
        address="local",
        num_cpus=1,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    attempts: list[Any] = []  # a handle that is dropped ends its process

    def start() -> int:
        told = TrialSpec(
            trial=len(attempts),
            attempt=1,
            train=study.train_config({}).model_dump(mode="json"),
            run_dir=str(folder / f"{len(attempts):04d}"),
            received=0,
            fit="trainer.loop:fit",
            cpus=1,
            gpus=0,
        )
        attempts.append(ray.remote(num_cpus=0)(Trainable).remote(asdict(told)))
        assert ray.get(attempts[-1].train.remote())["epoch"] == 1
        pid: int = ray.get(attempts[-1].get_current_ip_pid.remote())[1]
        return pid

    try:
        yield start
    finally:
        ray.shutdown()


def _pss_mib(pid: int, below: str) -> float:
    """Return a process's proportional share of memory, in the files below a folder or ("") all."""
    total_kib, counts = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            counts = below in line
        elif counts and line.startswith("Pss:"):
            total_kib += int(line.split()[1])
    return total_kib / 1024


if __name__ == "__main__":
    show(run())
