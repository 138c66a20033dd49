"""A run that begins with another's weights, and one that only validates them."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from click.testing import CliRunner

from tests.trainer.tiny import tiny_config, without_times
from trainer.__main__ import cli
from trainer.config import TrainConfig
from trainer.configfile import ConfigError
from trainer.data.store import Store
from trainer.loop import fit
from trainer.saved.checkpoint import load_latest
from trainer.saved.model_io import load
from trainer.training.train_state import TrainState


@pytest.fixture(scope="module")
def source(phantom_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two epochs."""
    folder = tmp_path_factory.mktemp("source")
    list(fit(tiny_config(phantom_store, epochs=2), folder))
    return folder


def test_zero_epochs_validate_the_weights_once(
    source: Path, phantom_store: Path, tmp_path: Path
) -> None:
    config = tiny_config(phantom_store, epochs=0, init_from=str(source))
    [validation] = fit(config, tmp_path)
    assert validation.epoch == 0
    assert not [key for key in validation.metrics if key.startswith("train/")]
    assert 0 < validation.metrics["time/case_s"] < validation.metrics["time/validate_s"]
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["epoch"] == 0
    assert set(pq.read_table(tmp_path / "cases.parquet")["epoch"].to_pylist()) == {0}
    # Its own ema.pt holds the very weights, so that it is of use as any run is.
    found, expected = load(tmp_path).model.state_dict(), load(source).model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())
    # A reader that lost it is told again, one that has it is not.
    assert list(fit(config, tmp_path)) == [validation]
    assert list(fit(config, tmp_path, received=0)) == []
    again = list(fit(config, tmp_path / "again"))
    assert without_times(again) == without_times([validation])


def test_the_command_validates_too(source: Path, tmp_path: Path) -> None:
    words = ["train", str(source / "config.yaml"), f"init_from={source}", "epochs=0"]
    result = CliRunner().invoke(cli, [*words, "--out", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    assert result.output.startswith("epoch    0/0  dice 0.") and "loss" not in result.output


def test_sampling_settings_alone_change_a_validation(
    source: Path, phantom_store: Path, tmp_path: Path
) -> None:
    def metrics(name: str, **settings: object) -> dict[str, float]:
        config = tiny_config(phantom_store, epochs=0, init_from=str(source), **settings)
        [[_, values]] = without_times(list(fit(config, tmp_path / name)))
        return values

    same = metrics("same", optimizer__lr=1.0, seed=0)
    assert same == metrics("twice")
    assert same != metrics("steps", sampling__timestep_respacing=7)


def test_a_new_run_begins_with_the_weights_and_a_resumed_one_with_its_own(
    source: Path, phantom_store: Path, tmp_path: Path
) -> None:
    config = tiny_config(phantom_store, epochs=2, init_from=str(source))
    begun = [next(fit(config, tmp_path / "killed"))]
    whole = list(fit(config, tmp_path / "whole"))
    rest = list(fit(config, tmp_path / "killed", received=1))
    assert without_times(begun + rest) == without_times(whole)
    fresh = list(fit(tiny_config(phantom_store, epochs=2), tmp_path / "fresh"))
    assert whole[0].metrics["train/loss"] < fresh[0].metrics["train/loss"]
    one, other = (load_latest(tmp_path / name / "checkpoints") for name in ("whole", "killed"))
    assert one is not None and other is not None
    assert all(torch.equal(value, other["model"][name]) for name, value in one["model"].items())


def test_both_the_trained_and_the_averaged_weights_begin_so(
    source: Path, phantom_store: Path
) -> None:
    state = TrainState(tiny_config(phantom_store), Store.open(phantom_store), torch.device("cpu"))
    weights = dict(load(source).model.state_dict())
    state.start_from(weights)
    for network in (state.model, state.ema):
        for name, value in network.state_dict().items():
            assert torch.equal(value, weights[name])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"model__width": 12}, "its weights do not fit: model.width is 8 there, but 12 here"),
        ({"model__family": "unet"}, "model.family is medsegdiff_v1 there, but unet here"),
        ({"data__modalities": ["ncct", "tmax"]}, "inputs.modalities is ['ncct', "),
        ({"data__windows": {"ncct": (0, 60)}}, "inputs.windows is [[0.0, 80.0], "),
        ({"data__context_slices": 1}, "inputs.context_slices is 0 there, but 1 here"),
        ({"diffusion__target": "v"}, "diffusion.target is x_start there, but v here"),
        (
            {"diffusion__variance": "learned_range"},
            "diffusion.variance learned_range is False there, but True here",
        ),
        ({"diffusion__input_scale": 0.5}, "diffusion.input_scale is 1.0 there, but 0.5 here"),
        ({"data__fold": 1}, "was trained with fold 0 held out, and so on the cases of fold 1"),
    ],
)
def test_one_line_says_why_weights_do_not_fit(
    source: Path, phantom_store: Path, tmp_path: Path, settings: dict[str, object], expected: str
) -> None:
    config = tiny_config(phantom_store, epochs=0, init_from=str(source), **settings)
    with pytest.raises(ConfigError) as caught:
        next(fit(config, tmp_path))
    [line] = caught.value.lines
    assert line.startswith(f"init_from: {source}: ") and expected in line


def test_training_further_may_change_the_noise_and_the_dropout(
    source: Path, phantom_store: Path, tmp_path: Path
) -> None:
    changed = {"diffusion__noise_schedule": "linear", "model__dropout": 0.1}
    config = tiny_config(phantom_store, epochs=1, init_from=str(source), **changed)
    assert len(list(fit(config, tmp_path))) == 1


def test_no_such_weights(phantom_store: Path, tmp_path: Path) -> None:
    config = tiny_config(phantom_store, init_from=str(tmp_path / "none"))
    with pytest.raises(ConfigError, match=r"^init_from: .*none: no such file or folder$"):
        next(fit(config, tmp_path / "run"))


def test_epochs_of_zero_need_weights() -> None:
    with pytest.raises(ValueError, match="epochs is 0, but without init_from"):
        TrainConfig.model_validate({"data": {"store": "x"}, "epochs": 0})


def test_a_run_goes_on_from_no_other_weights(
    source: Path, phantom_store: Path, tmp_path: Path
) -> None:
    next(fit(tiny_config(phantom_store, init_from=str(source)), tmp_path / "run"))
    shutil.copytree(source, tmp_path / "other")
    with pytest.raises(ValueError, match=r"config.yaml: init_from: .* this run was begun so"):
        next(fit(tiny_config(phantom_store, init_from=str(tmp_path / "other")), tmp_path / "run"))


def test_the_path_is_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    config = tiny_config(Path("store"), init_from="runs/best")
    assert config.init_from == str(tmp_path / "runs/best")
    assert yaml.safe_load(yaml.safe_dump(config.model_dump(mode="json"))) is not None
