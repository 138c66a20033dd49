"""The first thing to try on new data: can this configuration learn four slices by heart?"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from trainer.config import TrainConfig
from trainer.data.batches import Draws, prefetch, rows_of
from trainer.data.store import Store
from trainer.devices import pick_device, set_determinism
from trainer.evaluation.ensemble import predict
from trainer.evaluation.metrics import dice
from trainer.randomness import generator
from trainer.training.train_state import TrainState

NUM_SLICES = 4
GOAL = 0.9
CHECK_EVERY_IMAGES = 400


@dataclass(frozen=True)
class Overfit:
    images: int
    """Training images seen."""
    dice: float
    """Mean slice Dice of the EMA weights on the four slices."""
    seconds: float


def overfit(config: TrainConfig, *, max_images: int = 20_000) -> Iterator[Overfit]:
    """Train on the four slices with the largest lesions until their Dice exceeds 0.9.

    Without augmentation, at a constant learning rate, each slice drawn equally often.

    Yields:
        Progress every 400 images; the last has `dice > GOAL`, or `images >= max_images`.
    """
    torch.set_num_threads(config.num_threads)
    set_determinism(config)
    config = config.model_copy(
        update={
            "data": config.data.model_copy(update={"augment": "none"}),
            "optimizer": config.optimizer.model_copy(update={"lr_schedule": "constant"}),
        }
    )
    store = Store.open(Path(config.data.store))
    training, _ = store.split(config.data.fold)
    rows = rows_of(training)
    lesion = store.masks(rows).sum((1, 2))
    rows = np.sort(rows[np.argsort(-lesion.astype(np.int64), kind="stable")[:NUM_SLICES]])

    device = pick_device(config)
    state = TrainState(config, store, device)
    truth = store.masks(rows).astype(bool)
    cond = state.inputs.window(state.inputs.gather(rows).to(device))
    batches = prefetch(Draws(store, config, rows).batches(0, device))
    begun, checked = time.monotonic(), 0
    while checked < max_images:
        state.step(next(batches))
        if state.images < checked + CHECK_EVERY_IMAGES:
            continue
        checked = state.images
        prediction = predict(
            state.ema,
            cond,
            process=state.process,
            sampling=config.validation_sampling,
            noise=[[generator(config.seed, "overfit", int(row)) for row in rows]],
            autocast=state.autocast,
        )
        predicted = prediction.probability[:, 0].cpu().numpy() >= config.sampling.threshold
        score = float(np.mean([dice(t, p) for t, p in zip(truth, predicted, strict=True)]))
        yield Overfit(checked, score, time.monotonic() - begun)
        if score > GOAL:
            return
