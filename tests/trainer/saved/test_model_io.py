"""Trained models: loaded as they were saved, and one clear line for anything else."""

import pickle
from pathlib import Path

import pytest
import torch

from tests.trainer.tiny import tiny_config
from trainer.configfile import ConfigError
from trainer.data.store import Store
from trainer.saved.model_io import load, with_settings
from trainer.training.train_state import TrainState

CPU = torch.device("cpu")


def shaken_state(store: Path, **settings: object) -> TrainState:
    """A network whose averaged weights are no initial ones, nor equal to the others."""
    state = TrainState(tiny_config(store, **settings), Store.open(store), CPU)
    torch.manual_seed(1)
    for parameter in state.ema.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return state


@pytest.fixture(scope="module")
def state(phantom_store: Path) -> TrainState:
    return shaken_state(phantom_store, data__modalities=["ncct", "tmax"], data__context_slices=1)


def save(state: TrainState, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state.for_use(), path)
    return path


def test_a_file_gives_the_averaged_weights_and_what_they_need(
    state: TrainState, tmp_path: Path
) -> None:
    before = torch.get_rng_state()
    trained = load(save(state, tmp_path / "any name.pt"), CPU)
    assert torch.equal(before, torch.get_rng_state())
    assert trained.config == state.config
    assert trained.inputs == state.inputs.spec
    assert not trained.model.training
    x_t, cond = torch.randn(2, 1, 32, 32), torch.randn(2, 6, 32, 32)
    t = torch.tensor([3, 500])
    with torch.no_grad():
        expected = state.ema(x_t, t, state.ema.condition(cond))
        raw = state.model(x_t, t, state.model.condition(cond))
        found = trained.model(x_t, t, trained.model.condition(cond))
    assert torch.equal(found, expected)
    assert not torch.equal(found, raw)


def test_a_run_folder_gives_its_last_weights_else_its_best_else_its_newest_readable(
    state: TrainState, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    old = save(state, folder / "checkpoints" / "000000000024.pt")
    new = save(state, folder / "checkpoints" / "000000000048.pt")
    assert load(folder).path == new
    new.write_bytes(new.read_bytes()[:5000])
    assert load(folder).path == old
    best = save(state, folder / "best.pt")
    assert load(folder).path == best
    assert capsys.readouterr().err == (
        f"note: {best}: of version 0.1: the weights of the run's best single validation, not of "
        "its last\n"
    )
    last = save(state, folder / "ema.pt")
    assert load(folder).path == last
    assert not capsys.readouterr().err


def broken(kind: str, state: TrainState, path: Path) -> Path:
    match kind:
        case "missing":
            return path
        case "empty folder":
            path.mkdir()
        case "truncated":
            save(state, path).write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        case "empty":
            path.touch()
        case "text":
            path.write_text("hello")
        case "tensor":
            torch.save(torch.zeros(3), path)
        case "whole module":
            torch.save(state.ema, path)
        case "pickle":
            path.write_bytes(pickle.dumps({"ema": print}))
        case "other program's":
            torch.save({"model": state.ema.state_dict(), "epoch": 3}, path)
        case "nothing inside":
            torch.save({"config": None, "inputs": None, "ema": None}, path)
        case "unknown setting":
            saved = state.for_use()
            saved["config"]["model"]["heads"] = 3
            torch.save(saved, path)
        case "other weights":
            saved = state.for_use()
            saved["config"]["model"]["width"] = 16
            torch.save(saved, path)
    return path


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("missing", "no such file or folder"),
        ("empty folder", r"no checkpoint in it \(ema.pt or checkpoints/\*.pt\)"),
        ("truncated", "damaged"),
        ("empty", "not a segtune checkpoint"),
        ("text", "not a segtune checkpoint"),
        ("tensor", "not a segtune checkpoint"),
        ("whole module", "not a segtune checkpoint"),
        ("pickle", "not a segtune checkpoint"),
        ("other program's", "not a segtune checkpoint"),
        ("nothing inside", "not a segtune checkpoint"),
        ("unknown setting", "model.heads: no such key"),
        ("other weights", "weights do not fit"),
    ],
)
def test_anything_else_is_one_line_with_its_path(
    state: TrainState, tmp_path: Path, kind: str, line: str
) -> None:
    path = broken(kind, state, tmp_path / "model.pt")
    with pytest.raises(ConfigError, match=line) as caught:
        load(path)
    assert len(caught.value.lines) == 1
    assert "\n" not in caught.value.lines[0]
    assert caught.value.lines[0].startswith(str(path))


def test_no_code_of_a_file_runs(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return (Path.touch, (tmp_path / "harm",))

    path = tmp_path / "model.pt"
    torch.save({"config": Harmful(), "inputs": {}, "ema": {}}, path)
    with pytest.raises(ConfigError, match="not a segtune checkpoint"):
        load(path)
    assert not (tmp_path / "harm").exists()


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is an accelerator")
def test_a_device_that_is_not_here_is_one_line(state: TrainState, tmp_path: Path) -> None:
    path = save(state, tmp_path / "model.pt")
    assert load(path, "auto").device == CPU
    with pytest.raises(ConfigError, match="device: cuda: not here"):
        load(path, "cuda")
    with pytest.raises(ConfigError, match="command line: device: 'gpu': must be"):
        load(path, "gpu")


def test_settings_are_checked_as_in_a_configuration(state: TrainState, tmp_path: Path) -> None:
    trained = load(save(state, tmp_path / "model.pt"))
    other = with_settings(trained, {"sampling.num_ensemble": 3, "sampling.threshold": None})
    assert other.config.sampling.num_ensemble == 3
    assert other.config.sampling.threshold == state.config.sampling.threshold
    assert other.model is trained.model
    with pytest.raises(ConfigError, match=r"sampling\.num_ensemble: 0"):
        with_settings(trained, {"sampling.num_ensemble": 0})
