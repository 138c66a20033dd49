"""A study of real, small trainings with planted faults: its ledger by hand, its runs by `fit`."""

from pathlib import Path
from typing import Any

from search.ledger.journal import Ledger
from search.study.config import StudyConfig
from trainer.data.store import Store
from trainer.evaluation.threshold_baseline import best_threshold
from trainer.exceptions import Diverged
from trainer.loop import fit

FIXED: dict[str, Any] = {
    "device": "cpu",
    "model.width": 8,
    "model.depth": 3,
    "epoch_images": 200,
    "optimizer.warmup_images": 100,
    "optimizer.ema_half_life_images": 200,
    "sampling.timestep_respacing": 3,
}
HEALTHY: dict[str, Any] = {
    "diffusion.target": "v",
    "diffusion.input_scale": 0.15,
    "optimizer.lr": 4e-3,
}
CONTROL: dict[str, Any] = {"model.family": "unet", "optimizer.lr": 4e-3}
# Every modality: lesions show in all of them.
WINDOWS = {name: [900.0, 1000.0] for name in ("ncct", "cta", "cbf", "cbv", "mtt", "tmax")}
FAULTS: dict[str, tuple[str, dict[str, Any]]] = {
    "eps": ("timesteps", {"diffusion.target": "eps", "diffusion.input_scale": 1.0}),
    "lr": ("learning rate", {"optimizer.lr": 0.3, "optimizer.lr_schedule": "constant"}),
    "window": ("inputs", {"data.windows": WINDOWS}),
    "one window": ("inputs", {"data.windows": {"mtt": [0.0, 0.1], "cbf": [0.0, 0.1]}}),
}
"""The finding that must come first, and what is set otherwise than in HEALTHY."""


def study(store: Path, epochs: int, **fixed: Any) -> StudyConfig:
    """A study of that many epochs."""
    return StudyConfig.model_validate(
        {
            "study": "planted",
            "data": {"store": str(store)},
            "train": FIXED | fixed,
            "space": {
                "optimizer.lr": {"type": "float", "low": 1e-5, "high": 0.5, "log": True},
                "diffusion.target": {"type": "categorical", "choices": ("v", "x_start", "eps")},
                "diffusion.input_scale": {"type": "float", "low": 0.1, "high": 1.0, "log": True},
            },
            "scheduler": {"grace_period": 1, "max_t": epochs, "reduction_factor": 3},
            "trials": {"num_trials": 99},
        }
    )


def train(folder: Path, config: StudyConfig, trials: list[dict[str, Any]]) -> Path:
    """Train each trial's parameters, the first of them the control, and write the ledger."""
    with Ledger.open(folder / "ledger.jsonl", writer=True) as ledger:
        ledger.append({"event": "study", "config": config.model_dump(mode="json")})
        ledger.append({"event": "threshold", **best_threshold(Store.open(config.data.store), 0)})
        for number, params in enumerate(trials):
            kind = "enqueued" if number else "control"
            about = {"event": "proposed", "trial": number, "kind": kind, "optuna": {}}
            ledger.append(about | {"params": params, "protected": not number})
            ledger.append(
                {"event": "started", "trial": number, "attempt": 1, "host": "h", "pid": 1}
            )
            ending, reason, epoch = "completed", "", 0
            try:
                for validation in fit(
                    config.train_config(params), folder / "trials" / f"{number:04d}"
                ):
                    epoch = validation.epoch
                    value = validation.metrics["val/dice"]
                    ledger.append(
                        {"event": "reported", "trial": number, "epoch": epoch, "value": value,
                         "metrics": validation.metrics}
                    )  # fmt: skip
            except Diverged as error:
                ending, reason = "diverged", str(error)
            ledger.append(
                {"event": "ended", "trial": number, "ending": ending, "epoch": epoch,
                 "reason": reason}
            )  # fmt: skip
    return folder
