"""A stand-in for `trainer.loop.fit` that keeps its contract and trains nothing.

Its Dice depends on lr, the epoch and the fold alone, so every test knows the right numbers; on a
fold that is not 0, where only `confirm` trains, it also writes cases.parquet. Faults are
ordered by files in the study's folder `toy`: `slow` holds the seconds of an epoch, and `diverge`,
`oom`, `unsuited`, `raise` and `hang` (the first time) the numbers of the trials that meet it in
their second epoch.
"""

import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from math import log10
from pathlib import Path

from trainer.config import TrainConfig
from trainer.configfile import ConfigError


@dataclass(frozen=True)
class Validation:
    """As `trainer.loop.Validation`."""

    epoch: int
    metrics: dict[str, float]
    path: str = ""


def dice(lr: float, epoch: int, fold: int = 0) -> float:
    """Best at lr 1e-3, rising with the epoch, a little better on later folds."""
    return round((1 - 0.2 * abs(log10(lr) + 3)) * epoch / (epoch + 3) + 0.002 * fold, 6)


def fit(config: TrainConfig, run_dir: Path, *, received: int = 0) -> Iterator[Validation]:
    """Yield one validation an epoch, continuing from the newest checkpoint."""
    checkpoints = run_dir / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    with open(run_dir / "begun", "a") as file:
        gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "all") or "none"
        file.write(f"{os.getpid()} {config.memory_share} {config.device} {gpus}\n")
    done = max((int(path.stem) for path in checkpoints.glob("*.pt")), default=0)
    for epoch in range(max(1, received + 1), done + 1):
        yield Validation(epoch, _metrics(config, epoch))
    for epoch in range(done + 1, config.epochs + 1):
        if (run_dir / "stop").exists():
            return
        _fault(run_dir, epoch)
        time.sleep(float(_order(run_dir, "slow") or 0))
        temporary = checkpoints / f".{epoch}.{os.getpid()}"
        temporary.write_text(str(epoch))
        temporary.replace(checkpoints / f"{epoch}.pt")
        if config.data.fold and epoch == config.epochs:
            _write_cases(config, run_dir)
        yield Validation(epoch, _metrics(config, epoch))


def broken(config: TrainConfig, run_dir: Path, *, received: int = 0) -> Iterator[Validation]:
    """Fail at once, as any trial would with a bug or a missing package."""
    raise RuntimeError("no such thing")
    yield


def _metrics(config: TrainConfig, epoch: int) -> dict[str, float]:
    value = dice(config.optimizer.lr, epoch, config.data.fold)
    return {"val/dice": value, "train/loss": 1 - value}


def _write_cases(config: TrainConfig, run_dir: Path) -> None:
    """Six cases with a lesion whose mean is the Dice of the last epoch, and an empty one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    spread = [-0.05, -0.03, -0.01, 0.01, 0.03, 0.05]
    random.Random(f"{config.seed}/{config.optimizer.lr}").shuffle(spread)
    mean = dice(config.optimizer.lr, config.epochs, config.data.fold)
    table = {
        "epoch": [config.epochs] * 7,
        "case_id": [f"fold{config.data.fold}-{case}" for case in range(7)],
        "dice": [*(mean + deviation for deviation in spread), 1.0],
        "has_lesion": [True] * 6 + [False],
    }
    pq.write_table(pa.table(table), run_dir / "cases.parquet")


def _order(run_dir: Path, name: str) -> str:
    path = run_dir.parents[1] / "toy" / name
    return path.read_text() if path.exists() else ""


def _fault(run_dir: Path, epoch: int) -> None:
    trial = str(int(run_dir.name))
    if epoch == 2 and trial in _order(run_dir, "diverge").split():
        from trainer.loop import Diverged

        raise Diverged("step 7: dice is nan")
    if epoch == 2 and trial in _order(run_dir, "unsuited").split():
        raise ConfigError(["image_size is 50"])
    if epoch == 2 and trial in _order(run_dir, "oom").split():
        from trainer.loop import OutOfMemory

        raise OutOfMemory("one image does not fit")
    if epoch == 2 and trial in _order(run_dir, "hang").split() and not (run_dir / "hung").exists():
        (run_dir / "hung").touch()
        time.sleep(3600)
    if epoch == 2 and trial in _order(run_dir, "raise").split():
        raise RuntimeError(f"trial {trial} is broken")
