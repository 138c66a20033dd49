"""The smallest run that is still real: shared by the trainer's tests."""

from pathlib import Path
from typing import Any

from trainer.config import TrainConfig
from trainer.configfile import build, nest
from trainer.loop import Validation

TINY = {
    "device": "cpu",  # where runs are equal bit for bit
    "model.width": 8,
    "model.depth": 3,
    "epochs": 4,
    "epoch_images": 24,
    "batch.effective": 4,
    "optimizer.lr": 1e-3,
    "optimizer.warmup_images": 8,
    "sampling.timestep_respacing": 3,
    "sampling.num_ensemble": 1,
    # Low, so that validations say something about weights that have learned nothing yet.
    "sampling.threshold": 0.02,
}


def tiny_config(store: Path, **settings: Any) -> TrainConfig:
    """TINY with settings on top; write dots as two underscores: `batch__micro=2`."""
    dotted = {key.replace("__", "."): value for key, value in settings.items()}
    return build(TrainConfig, nest({"data.store": str(store)} | TINY | dotted), "test")


def without_times(validations: list[Validation]) -> list[tuple[int, dict[str, float]]]:
    """What must be equal bit for bit between two runs."""
    return [
        (v.epoch, {k: x for k, x in v.metrics.items() if not k.startswith("time/")})
        for v in validations
    ]
