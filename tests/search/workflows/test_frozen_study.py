"""A study goes on under the trainer settings and the semantics of its birth, or refuses."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

import search.study.config
import search.workflows.launch
from search.cli.main import main
from search.ledger.journal import Event, Ledger
from search.ledger.session import StudySession
from search.storage.studies import read_study
from search.study import semantics
from search.study.config import StudyConfig
from search.workflows.launch import launch
from search.workflows.replay import replay
from search.workflows.run_study import reopened
from tests.search import offline, toy
from trainer.config import OptimizerConfig, TrainConfig
from trainer.configfile import ConfigError


class LaterOptimizer(OptimizerConfig):
    weight_decay: float = 0.5


class Later(TrainConfig):
    """The trainer of a later version, which has another default."""

    optimizer: LaterOptimizer = LaterOptimizer()


@pytest.fixture(autouse=True)
def first_semantics(monkeypatch: pytest.MonkeyPatch) -> None:
    """As before the first raise, so that studies of version 0.1 can go on."""
    monkeypatch.setattr(semantics, "SEMANTICS", 1)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float]]:
    """The weight decay of everything that `launch` trains, here and without Ray."""
    found: list[tuple[str, float]] = []

    def fit(config: TrainConfig, run_dir: Path, *, received: int) -> Iterator[toy.Validation]:
        found.append((run_dir.name, config.optimizer.weight_decay))
        yield from toy.fit(config, run_dir, received=received)

    def run_study(session: StudySession, address: str, **_: Any) -> int:
        proposed = len(session.state.trials)
        for number, lr in enumerate(offline.LR[: session.study.trials.num_trials]):
            if number >= proposed:
                event = {"event": "proposed", "trial": number, "params": {"optimizer.lr": lr}}
                session.record(event | {"kind": "sampled", "protected": False})
        for trial in session.live():
            offline.train(session, trial, fit)
        return 0

    monkeypatch.setattr(search.workflows.launch, "run_study", run_study)
    return found


def study(store: Path, num_trials: int = 1, **settings: Any) -> StudyConfig:
    return offline.study(store, trials={"num_trials": num_trials}, **settings)


def events(folder: Path, kind: str) -> list[Event]:
    ledger = Ledger.open(folder / "ledger.jsonl", writer=False)
    return [event for event in ledger.events if event["event"] == kind]


def of_version_0_1(store: Path, folder: Path) -> None:
    """Write a study whose ledger has no frozen settings and no semantics."""
    offline.finished(folder, store, trials={"num_trials": 1}, frozen=False)
    assert not {"settings", "semantics"} & events(folder, "study")[0].keys()


def test_a_changed_default_changes_no_study_that_was_begun(
    store: Path,
    tmp_path: Path,
    trained: list[tuple[str, float]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    launch(study(store), tmp_path)
    [begun] = events(tmp_path / "toy", "study")
    assert begun["semantics"] == 1 and begun["settings"]["optimizer.weight_decay"] == 0.01
    assert not {"epochs", "data.store", "data.fold"} & begun["settings"].keys()

    monkeypatch.setattr(search.study.config, "TrainConfig", Later)
    launch(study(store), tmp_path)
    assert events(tmp_path / "toy", "study") == [begun], "nothing has changed"
    launch(study(store, 2), tmp_path)
    assert trained == [("0000", 0.01), ("0001", 0.01)]
    assert events(tmp_path / "toy", "study")[1]["settings"] == begun["settings"]
    config, state = read_study(tmp_path / "toy")
    assert state.trials[1].config(config).optimizer.weight_decay == 0.01

    launch(study(store, study="new"), tmp_path)
    assert trained[2:] == [("0000", 0.5)]


def test_a_study_of_its_own_settings_has_them_over_the_frozen(
    store: Path, tmp_path: Path, trained: list[tuple[str, float]]
) -> None:
    train = {"optimizer.weight_decay": 0.2, "data.windows.ncct": [0, 80]}
    launch(study(store, train=train), tmp_path)
    config, _ = read_study(tmp_path / "toy")
    assert config.frozen and config.frozen.settings["data.windows.ncct"] == [0, 80]
    params = {"optimizer.weight_decay": 0.3, "data.windows.ncct": [0, 90]}
    assert config.train_config(params) == study(store, train=train).train_config(params)
    assert trained == [("0000", 0.2)]


def test_a_searched_preset_has_its_sizes_over_the_frozen(
    store: Path, tmp_path: Path, trained: list[tuple[str, float]]
) -> None:
    space = {
        "optimizer.lr": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
        "model.preset": {"type": "categorical", "choices": ["S", "B"]},
    }
    launch(study(store, space=space), tmp_path)
    config, _ = read_study(tmp_path / "toy")
    assert config.frozen and config.frozen.settings["model.width"] == 32
    model = config.train_config({"model.preset": "B"}).model
    assert (model.width, model.depth, model.num_res_blocks) == (64, 6, 2)
    assert config.train_config({"model.preset": "B", "model.width": 16}).model.width == 16


def test_a_study_of_version_0_1_goes_on_with_its_defaults(
    store: Path,
    tmp_path: Path,
    trained: list[tuple[str, float]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "toy"
    of_version_0_1(store, folder)
    monkeypatch.setattr(search.study.config, "TrainConfig", Later)
    assert read_study(folder)[0].train_config({}).optimizer.weight_decay == 0.01
    launch(study(store, 4), tmp_path)
    assert trained == [("0003", 0.01)]
    assert events(folder, "study")[1]["settings"]["optimizer.weight_decay"] == 0.01


def test_dry_run_shows_what_a_begun_study_goes_on_with(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_version_0_1(store, tmp_path / "toy")
    monkeypatch.setattr(search.study.config, "TrainConfig", Later)
    for name, value in (("toy", "0.01"), ("new", "0.5")):
        shown = run("launch", tmp_path, store, name, "--dry-run").split()
        assert shown[shown.index("optimizer.weight_decay") + 1] == value


def run(command: str, runs: Path, store: Path, name: str, *words: str, status: int = 0) -> str:
    """Run a command on a study; return what it prints, or its only line on stderr."""
    about = name
    if command == "launch":
        about = str(runs / f"{name}.yaml")
        config = study(store, study=name).model_dump(mode="json")
        Path(about).write_text(yaml.safe_dump(config))
    result = CliRunner().invoke(main, [command, about, *words, "--runs", str(runs)])
    assert result.exit_code == status, result.output
    if not status:
        return result.stdout
    [line] = result.stderr.splitlines()
    return line


TRAIN = {
    "launch": (),
    "resume": ("--top", "1", "--epochs", "9"),
    "confirm": ("--top", "1", "--seeds", "3"),
}
READ = (("compare", "--json"), ("status", "--json"), ("explain", "0"))


def test_a_study_of_older_semantics_is_read_and_not_trained(
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "toy"
    of_version_0_1(store, folder)
    before = json.loads(run("compare", tmp_path, store, "toy", "--json"))
    monkeypatch.setattr(semantics, "SEMANTICS", 2)
    monkeypatch.setitem(semantics.RAISES, 2, "an epoch is a pass")
    [begun] = events(folder, "study")
    way = (
        f"pip install segtune=={begun['versions']['segtune']} or git checkout "
        f"{begun['commit'].removesuffix('-dirty')} to continue it"
    )
    for command, words in TRAIN.items():
        line = run(command, tmp_path, store, "toy", *words, status=2)
        assert "has semantics 1, and would be trained with 2 (an epoch is a pass): " in line
        assert line.endswith(way)
    assert events(folder, "study") == [begun] and len(events(folder, "started")) == 3
    for command, *words in READ:
        run(command, tmp_path, store, "toy", *words)
    assert json.loads(run("compare", tmp_path, store, "toy", "--json")) == before
    replay(folder, 0, fit="tests.search.toy:fit")
    assert "note       semantics: 1 then, 2 now\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("newer", "said"),
    [
        ({"semantics": 2}, "has semantics 2, newer than this version's 1: update segtune"),
        ({"settings": {"loss.novel": 1.0}}, "has the setting loss.novel, which a newer segtune"),
    ],
)
def test_a_study_of_a_newer_version_is_read_and_not_trained(
    store: Path, tmp_path: Path, newer: dict[str, Any], said: str
) -> None:
    of_version_0_1(store, tmp_path / "toy")
    with Ledger.open(tmp_path / "toy/ledger.jsonl", writer=True) as ledger:
        [begun] = [event for event in ledger.events if event["event"] == "study"]
        about = ("uid", "config", "store_hash", "commit", "versions")
        ledger.append({"event": "study", **{key: begun[key] for key in about}, **newer})
    for command, words in TRAIN.items():
        assert said in run(command, tmp_path, store, "toy", *words, status=2)
    for command, *words in READ:
        run(command, tmp_path, store, "toy", *words)


def test_a_study_that_was_begun_with_torch_compile_goes_on(
    store: Path,
    tmp_path: Path,
    trained: list[tuple[str, float]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Set in its file, frozen at its birth, and in a trial's parameters."""
    folder = tmp_path / "toy"
    of_version_0_1(store, folder)
    with Ledger.open(folder / "ledger.jsonl", writer=True) as ledger:
        [begun] = [event for event in ledger.events if event["event"] == "study"]
        config = begun["config"] | {"train": {**begun["config"]["train"], "compile": True}}
        frozen = study(store).train_config({}).model_dump(mode="json")
        settings = {"compile": True, "optimizer.weight_decay": frozen["optimizer"]["weight_decay"]}
        about = {key: begun[key] for key in ("uid", "store_hash", "commit", "versions")}
        event = {"event": "study", **about, "config": config, "semantics": 1}
        ledger.append(event | {"settings": settings})
    with reopened(folder) as session:
        assert session.state.trials[0].config(session.study)
    assert f"note: {folder}: train.compile: is gone" in capsys.readouterr().err
    launch(study(store, 4), tmp_path)
    assert [name for name, _ in trained] == ["0003"]
    assert not {"compile"} & events(folder, "study")[-1]["settings"].keys()


def test_a_study_is_continued_in_either_spelling(
    store: Path, tmp_path: Path, trained: list[tuple[str, float]]
) -> None:
    """Begun with the keys of version 0.1, as its ledger has them."""
    folder = tmp_path / "toy"
    of_version_0_1(store, folder)
    old = offline.study(store, trials={"num_trials": 1, "silence_s": 9})
    [reference] = old.references
    settings = reference.settings
    with Ledger.open(folder / "ledger.jsonl", writer=True) as ledger:
        [begun] = [event for event in ledger.events if event["event"] == "study"]
        config = old.model_dump(mode="json", exclude={"references"})
        config["enqueue"] = [settings | {"protected": True}]
        config["trials"]["silence_s"] = config["trials"].pop("hang_timeout_s")
        about = {key: begun[key] for key in ("uid", "store_hash", "commit", "versions")}
        ledger.append({"event": "study", **about, "config": config})
    launch(old, tmp_path)
    named = study(store, enqueue=(), references=[{"name": "baseline", "settings": settings}])
    launch(named, tmp_path)
    config, state = read_study(folder)
    assert state.reference_name(config, state.trials[1]) == "baseline"
    assert not trained, "all is trained already"
    other = [{"name": "baseline", "settings": {"optimizer.lr": 2e-4}}]
    with pytest.raises(ConfigError, match=r"references: .*: this study was begun with"):
        launch(study(store, enqueue=(), references=other), tmp_path)
