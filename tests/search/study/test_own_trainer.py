"""`trainer:` in a study file: what is checked, resolved, frozen, and told in a line."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from search.study.changes import changes
from search.study.frozen import birth, frozen_of, study_of
from search.study.load import load_study
from search.workflows.preview.dry_run import preview, store_problems
from trainer.configfile import ConfigError

MODULE = """
from dataclasses import dataclass, field
from typing import Any, Literal
from pydantic import BaseModel, Field

class Optimizer(BaseModel):
    lr: float = Field(default=1e-3, gt=0)
    name: Literal["adam", "sgd"] = "adam"

class Model(BaseModel):
    optimizer: Optimizer = Optimizer()
    width: int
    tags: dict[str, Any] = {}
    epochs: int = 1

@dataclass
class Inner:
    lr: float = 1e-3
    momentum: float = 0.9

@dataclass
class Data:
    optimizer: Inner = field(default_factory=Inner)
    width: int = 8

@dataclass
class Odd:
    lr: float = 1e-3
    def __post_init__(self):
        raise KeyError("odd")

@dataclass
class Unknown:
    lr: "Flaot" = 1e-3

DEFAULTS = {"optimizer": {"lr": 0.001, "name": "adam"}, "width": 8, "flag": False, "free": {}}

def typed(config: Model, run_dir, *, received=-1): yield
def plain(config, run_dir, *, received=-1): yield
def wrong(config, run_dir): yield
"""


@pytest.fixture
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a module `own_module`, and a script, as the current one."""
    (tmp_path / "own_module.py").write_text(MODULE)
    (tmp_path / "train.py").touch()
    (tmp_path / "conf.yaml").write_text("optimizer: {lr: 0.001}\nwidth: 8\n")
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    yield tmp_path
    sys.path[:] = path
    sys.modules.pop("own_module", None)


def write(where: Path, trainer: dict[str, Any], **settings: Any) -> Path:
    values: dict[str, Any] = {
        "study": "mine",
        "trainer": trainer,
        "space": {"optimizer.lr": {"type": "float", "low": 1e-5, "high": 1e-1, "log": True}},
        "objective": {"metric": "auc"},
        "scheduler": {"max_t": 9},
        "trials": {"num_trials": 3},
        **settings,
    }
    path = where / "study.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def refusal(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load_study(path, overrides)
    return [line.removeprefix(f"{path}: ") for line in error.value.lines]


def test_settings_are_the_trainer_s_and_what_is_segtune_s_is_not_there(where: Path) -> None:
    study = load_study(write(where, {"python": "own_module:typed"}, train={"width": 4}))
    assert study.settings({"optimizer.lr": 0.1}, seed=5, epochs=3) == {
        "optimizer": {"lr": 0.1, "name": "adam"},
        "width": 4,
        "tags": {},
        "seed": 5,
        "epochs": 3,
    }
    assert not (study.has_control or study.has_data or study.num_protected)
    assert store_problems(study) == []
    shown = preview(study)
    assert "data       the trainer's" in shown and "images of a trial" not in shown
    recorded = study.model_dump(mode="json")
    assert recorded["trainer"]["folder"] == str(where)


@pytest.mark.parametrize(
    ("trainer", "override", "line"),
    [
        ({"python": "own_module:typed"}, "train.widht=3", "did you mean width?"),
        ({"python": "own_module:typed"}, "train.width=a", "train.width: 'a': must be a valid int"),
        ({"python": "own_module:typed"}, "space.optimizer.lr.low=-1", "low is -1, but must be abo"),
        ({"python": "own_module:typed"}, "train.optimizer=1", "is a section; its settings are op"),
        (
            {"python": "own_module:typed"},
            "space.optimizer.name={type: categorical, choices: [adam, sdg]}",
            "space.optimizer.name: 'sdg': must be 'adam' or 'sgd'",
        ),
        (
            {"python": "own_module:typed"},
            "enqueue=[{optimizer.lr: 7}]",
            "enqueue.0.optimizer.lr: 7: outside space.optimizer.lr",
        ),
        (
            {"python": "own_module:typed"},
            "references=[{name: r, settings: {widht: 3}}]",
            "references.0.settings.widht: no such setting of own_module:typed's Model; did you",
        ),
        (
            {"python": "own_module:plain", "settings": "own_module:Odd"},
            "space={lr: {type: float, low: 1, high: 2}}",
            "own_module:Odd: KeyError: 'odd'",
        ),
        (
            {"python": "own_module:plain", "settings": "own_module:Unknown"},
            "trials.num_trials=4",
            "trainer.settings: own_module:Unknown: NameError: name 'Flaot' is not defined",
        ),
        ({"python": "own_module:typ"}, "train.width=3", "has no typ; did you mean typed"),
        ({"python": "own_modul:fit"}, "train.width=3", "no module own_modul in "),
        ({"python": "own_module:wrong"}, "train.width=3", "must be callable as fit(config,"),
        ({"python": "own_module:DEFAULTS"}, "train.width=3", "must be a function"),
        ({"python": "search.mine:fit"}, "train.width=3", "segtune has a package of that name"),
        ({"python": "own_module"}, "train.width=3", "must be module:name, as in my_package"),
        (
            {"python": "own_module:plain", "settings": "own_module:DEFAULTS"},
            "train.flag=3",
            "train.flag: 3: must be true or false",
        ),
        (
            {"python": "own_module:plain", "settings": "own_module:DEFAULTS"},
            "train.width=3.5",
            "must be a whole number, as its default 8 is; 8.0 takes any",
        ),
        (
            {"python": "own_module:plain", "settings": "own_module:Data"},
            "train.optimizer.momentum=x",
            "train.optimizer.momentum: 'x': must be a valid number",
        ),
        (
            {"command": "{python} train.py", "settings": "conf.yaml"},
            "train.width=x",
            "train.width: 'x': must be a number, as its default 8",
        ),
        ({"command": "{python} trian.py"}, "train.a=1", "trian.py: no such file in "),
        ({"command": "no-such-program x"}, "train.a=1", "no-such-program: no such program"),
        ({"command": "{python} train.py {confg}"}, "train.a=1", "did you mean {config}?"),
        ({"command": "{python} train.py --x={overrides}"}, "train.a=1", "it must stand alone"),
        ({"command": "{python} 'train.py"}, "train.a=1", "no closing quotation"),
        ({"command": "{python} train.py"}, "train.epochs=3", "it is scheduler.max_t"),
        ({"command": "{python} train.py"}, "control.width=3", "there is none with a trainer of"),
        ({"command": "{python} train.py"}, "data.fold=3", "data.fold: 3: is of a store"),
        ({"command": "{python} train.py"}, "data.store=x", "has neither {fold} nor {config}"),
        ({"command": "{python} train.py"}, "trials.cpus_per_trial=2 trials.workers_per_trial=2",
         "starts its own processes"),
        ({"command": "{python} train.py"}, "objective={metric: val/dice, mode: min}", "other way"),
        ({"command": "{python} train.py"}, "objective.metric=epoch", "must be a metric's name"),
        ({"command": "{python} train.py"}, "trainer.python=a:b", "but both are given"),
        ({"command": "{python} train.py"}, "trainer.comand=x", "did you mean trainer.command?"),
        ({"command": "{python} train.py"}, "trainer=null", "data: required, but not given"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(
    where: Path, trainer: dict[str, Any], override: str, line: str
) -> None:
    more = {"train": {"width": 8}} if "python" in trainer and "settings" not in trainer else {}
    words = override.split(" ") if " trials." in override else [override]
    lines = refusal(write(where, trainer, **more), *words)
    assert any(line in each for each in lines), lines
    if "trainer" not in override:
        assert len(lines) == 1, lines


def test_a_required_setting_that_nobody_gives(where: Path) -> None:
    assert refusal(write(where, {"python": "own_module:typed"})) == [
        "train.width: required, but not given"
    ]
    searched = {"width": {"type": "int", "low": 1, "high": 4}}
    study = load_study(write(where, {"python": "own_module:typed"}, space=searched))
    assert study.settings({"width": 3})["optimizer"] == {"lr": 1e-3, "name": "adam"}


def test_later_defaults_change_no_study(where: Path) -> None:
    path = write(where, {"command": "{python} train.py {config}", "settings": "conf.yaml"})
    begun = load_study(path)
    event = {"config": begun.model_dump(mode="json"), **birth(begun)._asdict()}
    (where / "conf.yaml").write_text("optimizer: {lr: 0.001}\nwidth: 99\n")
    study = load_study(path, begun=lambda name: frozen_of(event))
    assert study.settings({})["width"] == 8
    read = study_of(event, "ledger")  # without a look at the file
    assert read.settings({"optimizer.lr": 0.5}) == study.settings({"optimizer.lr": 0.5})
    assert changes(read, study) == ([], [])
    (where / "conf.yaml").write_text("optimizer: {lr: 0.001}\n")
    with pytest.raises(ConfigError, match=r"trainer\.settings: has no width any more"):
        load_study(path, begun=lambda name: frozen_of(event))


def test_the_folder_is_the_study_s_or_the_current_one(
    where: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(where, {"command": "{python} train.py"})
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    assert load_study(path).trainer.folder == str(where)
    (elsewhere / "train.py").touch()
    assert load_study(path).trainer.folder == str(where)
    (where / "train.py").unlink()
    study = load_study(path)
    assert study.trainer.folder == str(elsewhere)
    (where / "train.py").touch()
    refused, notes = changes(load_study(path, [f"trainer.folder={where}"]), study)
    assert not refused and notes[0].startswith("trainer.folder: ")
    away = load_study(path, ["trainer.folder=/no/such/folder"], runs_here=False)
    assert away.trainer.folder == "/no/such/folder"
    with pytest.raises(ConfigError, match=r"trainer\.folder: required with --submit"):
        load_study(path, runs_here=False)
    with pytest.raises(ConfigError, match=r"trainer\.folder: /no/such/folder: no such folder"):
        load_study(path, ["trainer.folder=/no/such/folder"])
