"""How much a validation varies with its noise, by steps and members."""

from pathlib import Path

import pytest
import torch

from tests.trainer.tiny import tiny_config
from trainer.data.phantom import write_phantom
from trainer.data.prepare import prepare
from trainer.data.store import Store
from trainer.evaluation.validation_noise import Spread, validation_noise
from trainer.loop import fit
from trainer.saved.model_io import TrainedModel, load, with_settings


def trained(store: Path, run_dir: Path, **settings: object) -> TrainedModel:
    list(fit(tiny_config(store, optimizer__lr=3e-3, **settings), run_dir))
    return load(run_dir, "cpu")


def dice(model: TrainedModel, store: Path, draws: int = 5, **how: object) -> Spread:
    data = Store.open(store)
    changed = {f"validation.{name}": value for name, value in how.items()}
    cases = data.split(0)[1]
    return validation_noise(with_settings(model, changed), data, cases, draws)["val/dice"]


@pytest.fixture(scope="module")
def many_cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty cases: of the two that a fold of ten has, a tiny lesion is half of the mean."""
    folder = tmp_path_factory.mktemp("many")
    write_phantom(folder / "dataset", num_cases=40, seed=0)
    return prepare(folder / "dataset", folder / "store", image_size=32).path


@pytest.mark.nightly
@pytest.mark.parametrize("target", ["x_start", "v", "eps"])
def test_noise_and_mean_by_steps_and_members(many_cases: Path, tmp_path: Path, target: str) -> None:
    """Of weights that have learned little: there the mean of one step may be below that of ten."""
    settings = {"epochs": 6, "epoch_images": 400, "sampling__threshold": 0.5}
    model = trained(many_cases, tmp_path, diffusion__target=target, **settings)
    few, ten = dice(model, many_cases), dice(model, many_cases, steps=10)
    many = dice(model, many_cases, members=8)
    print(f"{target}: {few}, ten steps {ten}, 8 members {many}")
    assert few.std > 0 and ten.std > 0
    if target == "eps":  # by which its number of steps was chosen
        assert few.mean >= ten.mean - 0.01
    else:
        assert many.std < few.std < ten.std


def test_a_validation_of_the_training_is_no_draw(phantom_store: Path, tmp_path: Path) -> None:
    """Weights of epoch 1 were validated with its noise; mean and deviation tell two draws."""
    model = trained(phantom_store, tmp_path, epochs=1, epoch_images=4, model__width=4)
    spread = dice(model, phantom_store, draws=2)
    own = torch.load(model.path, weights_only=True)["metrics"]["val/dice"]
    draws = [spread.mean + sign * spread.std / 2**0.5 for sign in (-1, 1)]
    assert spread.std > 0 and own not in map(pytest.approx, draws)


def test_a_network_that_draws_nothing_repeats_itself(phantom_store: Path, tmp_path: Path) -> None:
    model = trained(phantom_store, tmp_path, model__family="unet", epochs=1)
    assert dice(model, phantom_store, draws=2).std == 0
