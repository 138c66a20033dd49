"""A trained network of each family finds the lesion of the image that it is shown."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.trainer.models.families import FAMILIES
from tests.trainer.tiny import tiny_config
from trainer.data.batches import Draws
from trainer.data.prepare import prepare
from trainer.data.store import Store
from trainer.evaluation.ensemble import predict
from trainer.evaluation.metrics import dice
from trainer.randomness import generator
from trainer.training.train_state import TrainState

IMAGES = 2400
OFTEN = ("unet", "medsegdiff_v1")
"""One that segments directly and one that draws, in `make test-slow`; the others nightly."""


@pytest.fixture(scope="module")
def larger_store(phantom_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same phantom at 64 x 64 pixels."""
    store = tmp_path_factory.mktemp("larger") / "store"
    prepare(phantom_store.parent / "dataset", store, image_size=64)
    return store


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(f, marks=pytest.mark.slow if f in OFTEN else pytest.mark.nightly)
        for f in FAMILIES
    ],
)
def test_another_patients_image_costs_the_dice(family, phantom_store, larger_store):
    folder = larger_store if family == "swin_unetr" else phantom_store
    config = tiny_config(
        folder,
        model__family=family,
        model__depth=4,
        model__width=12,
        data__augment="none",
        epoch_images=IMAGES,
        epochs=1,
        batch__effective=8,
        optimizer__lr=2e-3,
        optimizer__warmup_images=200,
        sampling__threshold=0.5,
    )
    store = Store.open(folder)
    training, _ = store.split(0)
    # Of each patient the slice with the largest lesion.
    rows = np.sort([case.rows[np.argmax(store.masks(case.rows).sum((1, 2)))] for case in training])
    state = TrainState(config, store, torch.device("cpu"))
    draws = Draws(store, config, rows)
    while state.images < IMAGES:
        state.step(draws.batch(state.images))

    cond = state.inputs.window(state.inputs.gather(rows))
    truth = store.masks(rows).astype(bool)

    def mean_dice(cond: torch.Tensor) -> float:
        prediction = predict(
            state.ema,
            cond,
            process=state.process,
            sampling=config.sampling,
            noise=[[generator(0, "test", int(row)) for row in rows]],
            autocast=state.autocast,
        )
        predicted = prediction.probability[:, 0].numpy() >= config.sampling.threshold
        return float(np.mean([dice(t, p) for t, p in zip(truth, predicted, strict=True)]))

    own, others = mean_dice(cond), mean_dice(cond.roll(1, 0))
    print(family, own, others)
    assert own > 0.7
    assert others < own - 0.3
