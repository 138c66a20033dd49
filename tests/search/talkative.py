"""A stand-in for `trainer.loop.fit` that prints in every way there is, and dies if it is told to.

The file `toy/dies` in the study's folder holds the numbers of the trials whose first attempt is
ended by SIGKILL in its second epoch, right after it printed.
"""

import ctypes
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

from tests.search import toy
from trainer.config import TrainConfig


def fit(config: TrainConfig, run_dir: Path, *, received: int = 0) -> Iterator[toy.Validation]:
    """Train as the toy does, and print."""
    trial = int(run_dir.name)
    print(f"python says {trial}")
    subprocess.run(["sh", "-c", f"echo a program says {trial} >&2"], check=True)
    libc = ctypes.CDLL(None)
    libc.write(2, text := f"a library says {trial}\n".encode(), len(text))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(f"a warning about {trial}", stacklevel=1)
    for validation in toy.fit(config, run_dir, received=received):
        died, dies = run_dir / "died", run_dir.parents[1] / "toy" / "dies"
        told = dies.exists() and str(trial) in dies.read_text().split()
        if validation.epoch == 2 and told and not died.exists():
            died.touch()
            os.write(1, b"last words\n")
            os.kill(os.getpid(), signal.SIGKILL)
        if validation.epoch == 2 and trial == 2:
            print("\x1b[31mred\x1b[0m", file=sys.stderr, flush=True)
        yield validation
