"""Validation: masks that depend on no batch, ensembles, averages with empty cases, thresholds."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.trainer.tiny import tiny_config
from trainer.config import TrainConfig
from trainer.data.store import Store
from trainer.evaluation.metrics import CaseScore
from trainer.evaluation.threshold_baseline import best_threshold
from trainer.evaluation.validate import Validator, summarize
from trainer.models.medsegdiff_v1 import MedSegDiffV1
from trainer.training.train_state import TrainState

CPU = torch.device("cpu")
FP32 = torch.autocast("cpu", torch.bfloat16, enabled=False)


@pytest.fixture(scope="module")
def store(phantom_store: Path) -> Store:
    return Store.open(phantom_store)


def untrained(config: TrainConfig, store: Store) -> tuple[TrainState, Validator]:
    """A network whose output varies, and what judges it."""
    state = TrainState(config, store, CPU)
    torch.manual_seed(0)
    for parameter in state.ema.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return state, Validator(store, store.split(0)[1], config, state.process, CPU)


@pytest.mark.parametrize(
    "sampling",
    [
        {"sampling__method": "ddpm"},
        {"sampling__eta": 1.0, "sampling__num_ensemble": 2},
        {"model__family": "unet"},
    ],
)
def test_a_mask_does_not_depend_on_its_batch(store: Store, sampling: dict[str, object]) -> None:
    state, validator = untrained(tiny_config(store.path, **sampling), store)
    alone, together = (
        validator.probabilities(state.ema, 1, batch_size=size, autocast=FP32) for size in (1, 16)
    )
    np.testing.assert_allclose(alone, together, atol=1e-4)
    assert alone.std() > 0.01


def test_noise_is_fresh_at_each_epoch_and_equal_between_trials(store: Store) -> None:
    state, validator = untrained(tiny_config(store.path), store)
    _, other_trial = untrained(tiny_config(store.path, optimizer__lr=1.0), store)
    first, again, later = (
        judge.probabilities(state.ema, epoch, batch_size=8, autocast=FP32)
        for judge, epoch in ((validator, 1), (other_trial, 1), (validator, 2))
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, later)


def test_a_batch_that_does_not_fit_is_halved(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    state, validator = untrained(tiny_config(store.path), store)
    expected = validator.probabilities(state.ema, 1, batch_size=2, autocast=FP32)
    forward = MedSegDiffV1.forward

    refused = []

    def small_device(self: MedSegDiffV1, x_t: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        if len(x_t) > 2:
            refused.append(len(x_t))
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`")
        return forward(self, x_t, *rest)

    monkeypatch.setattr(MedSegDiffV1, "forward", small_device)
    halved = validator.probabilities(state.ema, 1, batch_size=8, autocast=FP32)
    assert np.array_equal(halved, expected)
    assert refused == [8, 4]
    validator.probabilities(state.ema, 2, batch_size=8, autocast=FP32)
    assert refused == [8, 4], "the next validation does not begin with what did not fit"


def test_the_true_mask_scores_high_on_the_native_grid(store: Store) -> None:
    """Not 1: the store's pixels are coarser than the reference's, and that is what is told."""
    _, validator = untrained(tiny_config(store.path, sampling__threshold=0.5), store)
    scores = validator.scores(store.masks(validator.rows).astype(np.float32))
    assert [s.case_id for s in scores] == [case.case_id for case in validator.cases]
    for case, score in zip(validator.cases, scores, strict=True):
        assert score.lesion_ml == pytest.approx(case.lesion_ml, rel=0.05)
        if score.has_lesion:
            assert score.dice > 0.7
    everything = validator.scores(np.ones_like(store.masks(validator.rows), np.float32))
    for case, score in zip(validator.cases, everything, strict=True):
        brain_ml = store.native_brain(case).sum() * np.prod(case.native_spacing_mm) / 1000
        assert score.predicted_ml <= brain_ml + 1e-9  # nothing outside the brain counts


def score(case_id: str, dice: float, lesion_ml: float, false_positive_ml: float) -> CaseScore:
    has_lesion = lesion_ml > 0
    return CaseScore(case_id, dice, 1.0, 0.5, 2, 8.0, lesion_ml, 3.0, false_positive_ml, has_lesion)


def test_cases_without_lesion_stay_out_of_dice() -> None:
    scores = [score("a", 0.4, 5, 1), score("b", 0.6, 5, 1), score("c", 0.0, 0, 7)]
    metrics = summarize(scores)
    assert metrics["val/dice"] == pytest.approx(0.5)
    assert metrics["val/dice_official"] == pytest.approx(1 / 3)
    assert metrics["val/false_positive_ml"] == 7
    assert metrics["val/hd95_mm"] == 8
    assert "val/false_positive_ml" not in summarize(scores[:2])


def test_the_best_threshold_is_the_best_of_all(store: Store) -> None:
    """Against a brute force over each modality's values, direction by direction."""
    found = best_threshold(store, 0)
    training, _ = store.split(0)

    def training_dice(modality: str, above: bool, threshold: float) -> float:
        scores = []
        for case in training:
            brain = store.brain(case.rows).astype(bool)
            image = store.images(case.rows, (modality,))[:, 0].astype(np.float32)[brain]
            lesion = store.masks(case.rows)[brain].astype(bool)
            if lesion.any():
                predicted = (image >= threshold) == above
                scores.append(2 * (predicted & lesion).sum() / (predicted.sum() + lesion.sum()))
        return float(np.mean(scores))

    best = training_dice(found["modality"], found["above"], found["threshold"])
    for modality in store.modalities:
        inside = store.images(np.arange(store.num_slices), (modality,)).astype(np.float32)
        for threshold in np.quantile(inside, np.linspace(0.02, 0.98, 25)):
            for above in (True, False):
                assert training_dice(modality, above, float(threshold)) <= best + 0.01
    assert 0 < found["dice"] < 1
