"""A stand-in for `trainer.loop.fit` whose every report depends on every bit of its checkpoints.

Its state follows the logistic map, which doubles a wrong bit at each step: a run continued from
a wrong, lost or doubled epoch ends with other numbers. Files in the study's folder `toy` order:
`slow` holds the seconds of an epoch, and `hang` the number of the trial that hangs next, once.
"""

import json
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.search.toy import Validation
from trainer.config import TrainConfig
from trainer.files.atomic import write_atomically

STEPS = 10
"""Of an epoch; `alive` is touched and `stop` looked for after each."""


def fit(config: TrainConfig, run_dir: Path, *, received: int = -1) -> Iterator[Validation]:
    """Yield one validation an epoch, continuing from the newest sound checkpoint."""
    checkpoints = run_dir / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    values: list[float] = _latest(checkpoints)
    for epoch, value in enumerate(values, start=1):
        if epoch > received:
            yield _validation(epoch, value)
    state = values[-1] if values else 0.1 + config.optimizer.lr / 2
    for epoch in range(len(values) + 1, config.epochs + 1):
        for _ in range(STEPS):
            (run_dir / "alive").touch()
            if (run_dir / "stop").exists():
                return
            _hang(run_dir)
            time.sleep(float(_order(run_dir, "slow") or 0) / STEPS)
            state = 3.99 * state * (1 - state)
        values.append(state)
        _save(checkpoints, values)
        if epoch > received:
            yield _validation(epoch, state)


def _validation(epoch: int, value: float) -> Validation:
    return Validation(epoch, {"val/dice": value, "train/loss": 1 - value})


def _save(folder: Path, values: list[float]) -> None:
    """Write a checkpoint and keep the newest two, as the trainer does."""
    text = json.dumps(values)
    text = f"{zlib.crc32(text.encode()):08x}{text}"
    path = folder / f"{len(values):012d}.pt"
    write_atomically(path, lambda temporary: temporary.write_text(text))
    for old in sorted(folder.glob("*.pt"))[:-2]:
        old.unlink(missing_ok=True)


def _latest(folder: Path) -> Any:
    for path in sorted(folder.glob("*.pt"), reverse=True):
        content = path.read_bytes()
        if content[:8] == b"%08x" % zlib.crc32(content[8:]):
            return json.loads(content[8:])
        print(f"{path}: damaged, the checkpoint before it is used")
    return []


def _order(run_dir: Path, name: str) -> str:
    path = run_dir.parents[1] / "toy" / name
    return path.read_text() if path.exists() else ""


def _hang(run_dir: Path) -> None:
    if _order(run_dir, "hang") == run_dir.name:
        (run_dir.parents[1] / "toy" / "hang").unlink()
        while True:
            time.sleep(1)
