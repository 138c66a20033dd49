"""The toy's `fit`, which does not survive on the node that the file `toy/bad_node` names."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import ray

from tests.search import toy
from trainer.config import TrainConfig


def fit(config: TrainConfig, run_dir: Path, *, received: int = 0) -> Iterator[toy.Validation]:
    """Train as the toy does, or die as a process does without memory."""
    bad = (run_dir.parents[1] / "toy" / "bad_node").read_text()
    if ray.get_runtime_context().get_node_id() == bad:
        os.kill(os.getpid(), signal.SIGKILL)
    yield from toy.fit(config, run_dir, received=received)
