"""What pictures cost: CPU seconds of painting against those of the trials, in one run.

A network of width 16 and depth 4 on a phantom of 64 x 64 with the default sampling, trained for two
short epochs (200 images where 1000 are the default) on one thread. The pictures of its best weights
(3 cases at most, 5 masks each) take what `one` says, against one epoch with its validation; `start`
is the painting process with its imports, once in a launch. `share` lets a study of 12 such trials
and 27 epochs go by in simulated time, every epoch a new best, by the driver's own rule
(`search.execution.image_worker.PaintQueue`): what it spends on pictures against what the attempts
took.
"""

import io
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path

import torch

from search.execution.image_worker import PaintQueue
from search.ledger.journal import Ledger
from search.ledger.session import StudySession
from search.study.config import StudyConfig
from tests.bench.row import Row, show
from trainer.config import TrainConfig
from trainer.data.phantom import write_phantom
from trainer.data.prepare import prepare
from trainer.data.store import Store
from trainer.images.sample_images import paint
from trainer.loop import fit
from trainer.saved.model_io import load

TRIALS, EPOCHS = 12, 27
CPU = torch.device("cpu")


def run() -> list[Row]:
    """Return rows of pictures against trials."""
    threads = torch.get_num_threads()
    try:
        with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
            return _run(Path(folder))
    finally:
        torch.set_num_threads(threads)


def _run(folder: Path) -> list[Row]:
    write_phantom(folder / "dataset", num_cases=15, seed=0)
    prepare(folder / "dataset", folder / "store", image_size=64)
    config = TrainConfig.model_validate(
        {
            "data": {"store": str(folder / "store")},
            "model": {"width": 16},
            "epochs": 2,
            "epoch_images": 200,
            "device": "cpu",
        }
    )
    begun_s = time.process_time()
    for _ in fit(config, folder / "run"):
        pass
    epoch_s = (time.process_time() - begun_s) / 2
    store, trained = Store.open(folder / "store"), load(folder / "run", CPU)
    paint(trained, store, folder / "first")
    begun_s = time.process_time()
    paint(trained, store, folder / "second")
    paint_s = time.process_time() - begun_s
    start_s = _start_s(folder) - paint_s
    spent_s, attempt_s = _study(folder, epoch_s, paint_s, start_s)
    return [
        Row("pictures: one / an epoch and its validation", "s", paint_s, epoch_s),
        Row("pictures: start / an epoch and its validation", "s", start_s, epoch_s),
        Row(f"pictures: share / {TRIALS} trials of {EPOCHS} epochs", "s", spent_s, attempt_s),
    ]


def _start_s(folder: Path) -> float:
    """Return the CPU time of a process that paints once."""
    code = "import sys; from search.storage.trials.images import _paint; from pathlib import Path; "
    code += "_paint(*map(Path, sys.argv[1:3]), sys.argv[3], None, 1e9)"
    words = [str(folder / "run"), str(folder / "run"), str(folder / "store")]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code, *words], check=True, env=env)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _study(folder: Path, epoch_s: float, paint_s: float, start_s: float) -> tuple[float, float]:
    """Return what a study spends on pictures and on its trials, one after the other."""
    study = StudyConfig.model_validate(
        {
            "study": "share",
            "data": {"store": str(folder / "store")},
            "space": {"optimizer.lr": {"type": "float", "low": 1e-5, "high": 1e-3}},
            "scheduler": {"type": "none", "max_t": EPOCHS},
            "trials": {"num_trials": TRIALS},
        }
    )
    with Ledger.open(folder / "share" / "ledger.jsonl", writer=True) as ledger:
        session = StudySession(study, folder / "share", ledger)
        queue = PaintQueue(session)
        next_s, now, value = start_s + paint_s, 0.0, 0.0
        for trial in range(TRIALS):
            proposed = {"trial": trial, "params": {}, "kind": "sampled", "protected": False}
            session.state.apply({"event": "proposed", **proposed, "time": now})
            session.state.apply({"event": "started", "trial": trial, "attempt": 1, "time": now})
            for epoch in range(1, EPOCHS + 1):
                now, value = now + epoch_s, value + 1e-4
                about = {"trial": trial, "epoch": epoch, "value": value, "time": now}
                event = {"event": "reported", **about, "metrics": {"val/dice": value}}
                session.state.apply(event)
                queue.observe(event)
                if (number := queue.take_next()) is not None:
                    queue.expected_s = paint_s
                    painted = {"trial": number, "epoch": epoch, "seconds": next_s}
                    queue.observe({"event": "painted", **painted})
                    next_s = paint_s
    return queue.spent_s, session.state.meter.attempt_s


if __name__ == "__main__":
    show(run())
