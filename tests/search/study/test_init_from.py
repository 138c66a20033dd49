"""Studies that train nothing: settings from a finished run, and what they may not say."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from search.study.config import StudyConfig
from search.study.load import load_study
from trainer.config import TrainConfig
from trainer.configfile import ConfigError

RUN = {
    "data": {"store": "/elsewhere", "store_hash": "0" * 64, "modalities": ["ncct", "tmax"]},
    "model": {"width": 12, "depth": 2},
    "diffusion": {"target": "v"},
    "sampling": {"eta": 0.5, "threshold": 0.4},
    "init_from": "/older",
    "epochs": 9,
    "seed": 5,
    "device": "cpu",
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The configuration that a finished run has in its folder."""
    folder = tmp_path / "runs" / "first" / "trials" / "0007"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "best.pt").touch()
    (folder / "checkpoints" / "000000000024.pt").touch()
    config = TrainConfig.model_validate(RUN).model_dump(mode="json")
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.fixture
def space(tmp_path: Path, run: Path) -> Path:
    path = tmp_path / "respacing.yaml"
    study: dict[str, Any] = {
        "study": "respacing",
        "data": {"store": "store"},
        "train": {"init_from": str(run), "sampling": {"threshold": 0.6}},
        "space": {"sampling.eta": {"type": "float", "low": 0, "high": 1}},
        "scheduler": {"type": "none", "max_t": 0},
        "trials": {"num_trials": 4},
        "seed": 2,
    }
    path.write_text(yaml.safe_dump(study))
    return path


def problems(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_study(path, overrides)
    return [line.removeprefix(f"{path}: ") for line in caught.value.lines]


@pytest.mark.parametrize("which", ["", "best.pt", "checkpoints/000000000024.pt"])
def test_what_is_not_named_is_the_runs(space: Path, run: Path, which: str) -> None:
    study = load_study(space, [f"train.init_from={run / which}"])
    config = study.train_config({"sampling.eta": 0.25})
    assert config.init_from == str(run / which)
    assert (config.model.width, config.diffusion.target) == (12, "v")
    assert config.data.modalities == ("ncct", "tmax")
    assert (config.sampling.eta, config.sampling.threshold) == (0.25, 0.6)
    assert config.data.store == str(Path("store").resolve())
    assert (config.data.store_hash, config.epochs, config.seed) == (None, 0, 2)
    assert config.device == "auto"
    assert not study.has_control
    assert StudyConfig.model_validate(study.model_dump(mode="json")) == study


def test_one_that_trains_inherits_nothing(space: Path, run: Path, tmp_path: Path) -> None:
    study = load_study(space, ["scheduler.max_t=3", "train.validation.steps=sampling"])
    assert (
        study.train_config({}).model == TrainConfig.model_validate({"data": {"store": "x"}}).model
    )
    assert study.train_config({}).init_from == str(run)


def test_the_path_is_absolute(
    space: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    relative = [f"train.init_from={run.relative_to(tmp_path)}"]
    assert load_study(space, relative).train["init_from"] == str(run)


WRONG = """\
train.init_from=/no/such/run
    command line: train.init_from: /no/such/run: no such file or folder
train.init_from=null
    command line: train.init_from: required where scheduler.max_t is 0, which trains nothing
data.fold=1
    command line: data.fold: 1: {run} was trained with fold 0 held out, and so on the cases
control={{model.width: 8}}
    command line: control: there is none where scheduler.max_t is 0
stall={{patience: 3}}
    command line: stall: nothing can stall where
objective={{metric: train/loss, mode: min}}
    command line: objective: there is no train/loss where
space.optimizer.lr={{type: float, low: 0.1, high: 1}}
    command line: space.optimizer.lr: only sampling settings make a difference where
enqueue=[{{model.width: 8, protected: true}}]
    command line: enqueue.0.model.width: only sampling settings make a difference
"""


@pytest.mark.parametrize(
    ("override", "expected"),
    [*zip(WRONG.splitlines()[::2], WRONG.splitlines()[1::2], strict=True)],
)
def test_one_line_says_what_is_wrong(space: Path, run: Path, override: str, expected: str) -> None:
    lines = problems(space, override.format())
    assert len(lines) == 1, lines
    assert lines[0].startswith(expected.format(run=run).strip())


def test_weights_without_a_run_are_refused(space: Path, tmp_path: Path) -> None:
    (tmp_path / "weights.pt").touch()
    [line] = problems(space, f"train.init_from={tmp_path / 'weights.pt'}")
    assert line.endswith("weights.pt: not of a run: there is no config.yaml")


def test_exported_weights_of_another_program_have_no_fold(space: Path, run: Path) -> None:
    [line] = problems(space, "data.fold=1")
    assert line.startswith(f"command line: data.fold: 1: {run} was trained with fold 0 held out")
    (run / "provenance.json").write_text(json.dumps({"layout": "improved-diffusion's U-Net"}))
    assert load_study(space, ["data.fold=1"]).data.fold == 1
