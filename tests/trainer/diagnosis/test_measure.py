"""What a diagnosis measures, against what is known of the phantom and of a tiny run."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.trainer.tiny import tiny_config
from trainer.configfile import ConfigError
from trainer.data.store import Store
from trainer.diagnosis.measure import LEVELS, measure
from trainer.diagnosis.missed_lesions import calibration, lesions
from trainer.diagnosis.slices import Slices
from trainer.diagnosis.training_data import foreground, windowed_modalities
from trainer.diagnosis.weights import newest
from trainer.evaluation.metrics import dice
from trainer.loop import fit
from trainer.saved.model_io import load


@pytest.fixture(scope="module")
def store(phantom_store: Path) -> Store:
    return Store.open(phantom_store)


@pytest.fixture(scope="module")
def run_dir(phantom_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("diagnosis") / "run"
    config = tiny_config(phantom_store, epochs=2, optimizer__ema_half_life_images=10**6)
    list(fit(config, folder))
    return folder


@pytest.fixture(scope="module")
def slices(store: Store, run_dir: Path) -> Slices:
    return Slices.choose(store, load(run_dir, "cpu"), 10**6)


def test_all_slices_or_some_of_each_case(store: Store, run_dir: Path, slices: Slices) -> None:
    cases = store.split(0)[1]
    assert slices.complete
    assert len(slices.rows) == sum(case.num_slices for case in cases)
    few = Slices.choose(store, load(run_dir, "cpu"), 8)
    assert not few.complete
    assert len(few.rows) == 8
    for number in range(len(cases)):
        lesion = few.masks[few.of(number)].any((1, 2))
        assert 0 < lesion.sum() < len(lesion)


def test_dice_by_case_is_the_trainers(slices: Slices) -> None:
    predicted = np.random.default_rng(0).random(slices.masks.shape) < 0.1
    for number, found in enumerate(slices.dice(predicted)):
        mine = slices.of(number)
        inside = slices.brain[mine]
        assert found == pytest.approx(dice(slices.masks[mine] & inside, predicted[mine] & inside))


def test_lesions_are_hit_where_they_are_predicted(store: Store, slices: Slices) -> None:
    truth = slices.masks.astype(np.float32)
    assert all(lesion.hit for lesion in lesions(store, slices, truth, 0.5))
    none = lesions(store, slices, 0.3 * truth, 0.5)
    assert none
    assert not any(lesion.hit for lesion in none)
    assert [lesion.probability for lesion in none] == pytest.approx([0.3] * len(none))
    found = calibration(slices, 0.3 * truth, 0.5)
    assert found.dice == 0
    assert found.best <= 0.3
    assert found.dice_crossed > 0.99


def test_a_window_beyond_the_values_blinds(store: Store) -> None:
    windows = {"tmax": (0.0, 1e-3), "cbf": (500.0, 900.0)}
    before = {m.modality: m for m in windowed_modalities(store, tiny_config(store.path))}
    after = {
        m.modality: m
        for m in windowed_modalities(store, tiny_config(store.path, data__windows=windows))
    }
    for name, modality in after.items():
        assert modality.auc == before[name].auc
        if name in windows:
            assert modality.clipped > 0.99
            assert modality.auc_windowed == pytest.approx(0.5, abs=0.02)
            assert modality.auc_by_default == before[name].auc_windowed > 0.8
        else:
            assert modality == before[name]


def test_foreground_is_what_was_asked_for(store: Store) -> None:
    always, never = (
        foreground(store, tiny_config(store.path, data__foreground_fraction=share), 400)
        for share in (1.0, 0.0)
    )
    assert always.images == 1
    # Drawn from all slices: binomial, 2.4 % standard error.
    assert never.images == pytest.approx(never.images_of_all, abs=0.1)
    assert always.pixels > never.pixels > 0


def test_averaged_and_raw_weights(run_dir: Path, tmp_path: Path) -> None:
    weights = newest(run_dir)
    assert weights.images == 48
    assert weights.half_life_images == pytest.approx(4.8)  # the ramp's, not the million asked for
    assert weights.raw is not None
    assert weights.motion is not None
    assert 0 < weights.motion.travel < 1
    pairs = zip(weights.ema.model.parameters(), weights.raw.model.parameters(), strict=True)
    assert any((one != other).any() for one, other in pairs)

    copy = tmp_path / "run"
    copy.mkdir()
    shutil.copy(run_dir / "ema.pt", copy)
    only_best = newest(copy)
    assert only_best.raw is None
    assert only_best.images is None
    with pytest.raises(ConfigError, match="no such file"):
        newest(tmp_path / "nothing")


@pytest.mark.slow
def test_measured_in_bounded_time(store: Store, run_dir: Path) -> None:
    whole, part = measure(run_dir, store), measure(run_dir, store, budget_s=0)
    assert whole.complete
    assert not part.complete
    assert part.num_slices == 2 * part.num_cases
    assert [level.t for level in whole.by_timestep][-1] is None
    assert len(whole.by_timestep) == len(LEVELS) + 1
    signals = [level.signal for level in whole.by_timestep]
    assert signals == sorted(signals, reverse=True)
    assert whole.dice.shape == (2, whole.num_cases)
    # The truth all but shows at t = 0, and a validation from noise has the usual Dice.
    assert np.array_equal(whole.dice, measure(run_dir, store).dice)
