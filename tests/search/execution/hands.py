"""What may happen to pictures: hands in the place of `execution.image_worker.Hand`, and a fit."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from search.storage.trials.images import Painted
from search.storage.trials.noise import Noise
from tests.search import toy
from trainer.config import TrainConfig

Answer = tuple[Painted, float]


class Hand:
    """What every process that paints is told."""

    def __init__(self, gpus: float):
        assert gpus == 0

    def noise(self, *_: Any) -> Noise:
        return Noise(None, 5, {}, {})


class Crashing(Hand):
    """Dies at once."""

    def paint(self, *_: Any) -> Answer:
        os._exit(1)


class Hanging(Hand):
    """Never answers."""

    def paint(self, *_: Any) -> Answer:
        time.sleep(3600)
        raise AssertionError


class Failing(Hand):
    """Can paint trial 3 alone."""

    def paint(self, run_dir: Path, *_: Any) -> Answer:
        if run_dir.name == "0003":
            return Painted(1, ["samples/a.png"], 0.1), 0.2
        raise OSError("the disk is\nfull")


class Measuring(Hand):
    """Paints nothing, and measures 0.3 with a deviation of 0.01."""

    def paint(self, *_: Any) -> Answer:
        return Painted(None, [], 0.0), 0.0

    def noise(self, run_dir: Path, *_: Any) -> Noise:
        return Noise(1, 5, {"val/dice": 0.3}, {"val/dice": 0.01})


class Uncertain(Measuring):
    """Never tells the noise."""

    def noise(self, *_: Any) -> Noise:
        time.sleep(3600)
        raise AssertionError


def fit(config: TrainConfig, run_dir: Path, *, received: int = 0) -> Iterator[toy.Validation]:
    """Train as the toy does, and leave weights that no one can read."""
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "ema.pt").write_text("no weights")
    yield from toy.fit(config, run_dir, received=received)
