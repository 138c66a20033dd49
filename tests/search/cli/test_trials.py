"""A trial by its name, `STUDY:7`, in each command that takes one; what it becomes inside."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

import search.workflows.confirming.confirm
import search.workflows.explain
import search.workflows.export
import search.workflows.replay
import search.workflows.respace
import search.workflows.resume
from search.cli.main import main
from search.storage.trials.names import split_trial
from search.workflows.model_ref import find_model
from tests.search.analysis.test_results import TRIALS, write
from trainer.configfile import ConfigError

LAST = max(TRIALS) if isinstance(TRIALS, dict) else len(TRIALS) - 1


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("trials") / "runs"
    write(runs / "demo", TRIALS)
    return runs


@pytest.fixture
def best(runs: Path) -> int:
    origin = find_model("demo", None, runs).origin
    assert origin
    return origin.trial.number


def invoke(runs: Path, *words: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, [*words, "--runs", str(runs)])
    return result.exit_code, result.stderr


def test_what_a_name_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert split_trial("demo:7") == ("demo", 7)
    assert split_trial("demo-7") == ("demo-7", None)
    assert split_trial("demo", 7) == ("demo", 7)
    assert split_trial("runs/demo:12") == ("runs/demo", 12)
    assert split_trial("s3://bucket/runs/demo:7") == ("s3://bucket/runs/demo", 7)
    assert split_trial("s3://bucket/runs/demo") == ("s3://bucket/runs/demo", None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd:3").mkdir()
    assert split_trial("odd:3") == ("odd:3", None)


@pytest.mark.parametrize("words", ["demo:x", "demo:", "demo:-1", "demo:1.5", "demo:²", ":7"])
def test_what_names_no_trial_is_said(words: str) -> None:
    with pytest.raises(ConfigError) as error:
        split_trial(words)
    [line] = error.value.lines
    study = words.partition(":")[0] or "STUDY"
    assert line == f"{words}: after the colon comes a trial's number, as in {study}:7"


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a command hands to its workflow, which does nothing: (folder, trial or trials)."""
    calls: list[Any] = []

    def handing(take: Callable[..., Any]) -> Callable[..., Any]:
        def workflow(*positional: Any, **named: Any) -> int:
            calls.append(take(*positional, **named))
            return 0

        return workflow

    one = handing(lambda folder, number, *_, **__: (folder.name, number))
    monkeypatch.setattr(search.workflows.explain, "explain", one)
    monkeypatch.setattr(search.workflows.explain, "render", str)
    monkeypatch.setattr(search.workflows.replay, "replay", one)
    several = handing(lambda folder, *, top, trials, **_: (folder.name, top, trials))
    monkeypatch.setattr(search.workflows.resume, "resume", several)
    monkeypatch.setattr(search.workflows.confirming.confirm, "confirm", several)
    return calls


@pytest.mark.parametrize("command", ["explain", "replay"])
def test_one_trial_of_a_study(command: str, runs: Path, best: int, called: list[Any]) -> None:
    other = (best + 1) % LAST
    invoke(runs, command, f"demo:{other}")
    invoke(runs, command, f"{runs}/demo:{other}")
    invoke(runs, command, "demo", str(other))
    invoke(runs, command, "demo")
    assert called == [*[("demo", other)] * 3, ("demo", best)]


def test_resume_and_confirm_that_trial_alone(runs: Path, called: list[Any]) -> None:
    assert invoke(runs, "resume", "demo:2", "--epochs", "9")[0] == 0
    assert invoke(runs, "resume", "demo:2", "--trial", "1", "--epochs", "9")[0] == 0
    assert invoke(runs, "confirm", "demo:2")[0] == 0
    assert invoke(runs, "confirm", "demo:2", "--top", "1")[0] == 0
    assert invoke(runs, "confirm", "demo", "--trial", "2")[0] == 0
    assert called == [
        ("demo", None, (2,)), ("demo", None, (2, 1)),
        ("demo", 0, (2,)), ("demo", 1, (2,)), ("demo", 3, (2,)),
    ]  # fmt: skip


def test_a_model_is_that_trials(runs: Path, best: int) -> None:
    named = find_model(f"demo:{best}", None, runs)
    for words, trial in ((f"{runs}/demo:{best}", None), ("demo", best), ("demo", None)):
        found = find_model(words, trial, runs)
        assert (found.path, found.name) == (named.path, named.name)
    assert named.path == runs.resolve() / "demo" / "trials" / f"{best:04d}"


MODELS = {
    "evaluate": ("evaluate", "MODEL"),
    "predict": ("predict", "MODEL", "DATASET:CASE", "mask.nii.gz"),
    "samples": ("samples", "MODEL"),
    "export": ("export", "MODEL", "out"),
    "respace": ("respace", "MODEL"),
    "explain": ("explain", "MODEL"),
    "replay": ("replay", "MODEL"),
}


@pytest.mark.parametrize("command", MODELS)
def test_bad_names_are_one_line_everywhere(
    command: str, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def said(model: str, *more: str) -> tuple[int, str]:
        words = [model if word == "MODEL" else word for word in MODELS[command]]
        return invoke(runs, *words, *more)

    assert said("demo:99") == (2, f"demo:99: no such trial; there are 0 to {LAST}\n")
    assert said("demo:x") == (2, "demo:x: after the colon comes a trial's number, as in demo:7\n")
    assert said("dmo:1") == (2, f"{runs}: dmo: no such study; did you mean demo?\n")
    assert said("demo-1") == (2, f"{runs}: demo-1: no such study; did you mean demo?\n")
    if command in ("export", "respace"):
        twice = (2, "demo:1: names a trial already: leave 2 out\n")
        assert said("demo:1", "--trial", "2") == twice


def test_masks_that_are_not_there_are_no_folder_before_they_are_no_study(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = f"dmo: no such folder of masks; as a study, {runs}: dmo: no such study"
    assert invoke(runs, "evaluate", "dmo", "store") == (2, f"{said}; did you mean demo?\n")
    assert invoke(runs, "evaluate", "demo:99", "store")[1].startswith("demo:99: no such trial")


@pytest.mark.parametrize("command", ["evaluate", "predict", "samples"])
def test_the_trainers_commands_get_a_trials_folder(
    command: str, runs: Path, best: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its path where it is here, a copy where it lies in S3, as on_this_machine decides."""
    import trainer.saved.model_io as model_io

    asked: list[str] = []

    def load(path: str, device: str) -> SimpleNamespace:
        asked.append(path)
        raise ValueError("seen")

    monkeypatch.setattr(model_io, "load", load)
    folder = runs / "demo" / "trials" / f"{best:04d}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ema.pt").touch()
    words = [f"demo:{best}" if word == "MODEL" else word for word in MODELS[command]]
    assert invoke(runs, *words) == (2, "seen\n")
    words = [str(folder) if word == "MODEL" else word for word in MODELS[command]]
    assert invoke(runs, *words) == (2, "seen\n")
    assert [Path(path).resolve() for path in asked] == [folder.resolve()] * 2


def test_status_takes_a_study_and_says_so(runs: Path) -> None:
    assert invoke(runs, "status", "demo:1") == (
        2,
        f"{runs}: demo:1: no such study; did you mean demo?\n",
    )
