"""`segtune respace`: what it evaluates, what it chooses, and what it leaves with the model."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

import search.workflows.respace
from search.analysis.sampling_options import Setting, choose, evaluated
from search.report.sampling_plot import table
from search.workflows.respace import parse
from tests.search import trained_study
from tests.search.conftest import ROOT, events
from tests.search.trained_study import segtune
from trainer.config import DiffusionConfig, SamplingConfig
from trainer.configfile import ConfigError
from trainer.saved.model_io import fingerprint, load

GRID = ("--methods", "ddim,dpmpp_2m", "--steps", "1,2", "--eta", "0,0.5", "--ensemble", "1")


@pytest.fixture(scope="module")
def place(trained_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained study below runs, and what respacing its best trial printed."""
    place = tmp_path_factory.mktemp("respace")
    shutil.copytree(trained_runs, place / "runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search.workflows.respace, "launch", trained_study.launch)
        said = segtune("respace", "demo", "--runs", place / "runs", *GRID)
    (place / "said").write_text(said)
    return place


@pytest.fixture
def runs(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(search.workflows.respace, "launch", trained_study.launch)
    return place / "runs"


@pytest.mark.slow
def test_every_setting_of_the_grid_is_evaluated_once(place: Path) -> None:
    settings = evaluated(place / "runs/demo-0001-respacing")
    ways = {(s.sampling.method, s.sampling.timestep_respacing, s.sampling.eta) for s in settings}
    assert ways == {("ddim", steps, eta) for steps in (1, 2) for eta in (0.0, 0.5)} | {
        ("dpmpp_2m", 1, 0.0), ("dpmpp_2m", 2, 0.0)
    }  # fmt: skip
    assert len(settings) == len(ways)
    assert [s.dice for s in settings] == sorted((s.dice for s in settings), reverse=True)
    assert settings[0].difference_to_best == {"mean": 0.0, "std_error": 0.0, "interval": None}
    for s in settings:
        assert s.difference_to_best and s.difference_to_best["mean"] == pytest.approx(
            s.dice - settings[0].dice
        )
        assert s.is_pareto != any(
            (o.dice, -o.case_s) != (s.dice, -s.case_s) and o.dice >= s.dice and o.case_s <= s.case_s
            for o in settings
        )


def test_the_chosen_setting_and_threshold_are_the_models_now(place: Path, tmp_path: Path) -> None:
    folder, run_dir = place / "runs/demo-0001-respacing", place / "runs/demo/trials/0001"
    chosen = choose(evaluated(folder), "fast", 0.01, "")
    frozen = json.loads((run_dir / "threshold.json").read_text())
    assert frozen["weights"] == fingerprint(load(run_dir).model)
    assert SamplingConfig(**frozen["sampling"]) == SamplingConfig(
        **chosen.sampling.model_dump(exclude={"threshold"})
    )
    assert (run_dir / "evaluate_val" / "cases.csv").exists()
    said = (place / "said").read_text()
    assert f">  chosen: trial {chosen.trial}" in said.replace("*>", "  >")
    assert f"threshold {frozen['threshold']:g} with Dice" in said
    assert said.count("selected on, optimistic") == 2
    with Image.open(folder / "respacing.png") as picture:
        assert picture.width > 600 and len(picture.convert("RGB").getcolors(1 << 20) or []) > 50
    segtune("export", "demo", tmp_path / "out", "--runs", place / "runs")
    exported = yaml.safe_load((tmp_path / "out/config.yaml").read_text())["sampling"]
    assert exported == {**frozen["sampling"], "threshold": frozen["threshold"]}


def test_the_same_command_again_evaluates_nothing(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = runs / "demo-0001-respacing"
    before = events(folder, "reported")
    monkeypatch.setattr(
        "trainer.evaluation.evaluate.evaluate", lambda *_, **__: pytest.fail("paid again")
    )
    assert "stored" in segtune("respace", "demo", "--runs", runs, *GRID)
    assert events(folder, "reported") == before


def test_another_grid_or_other_weights_are_another_study(runs: Path) -> None:
    folder = runs / "demo-0001-respacing"
    said = segtune("respace", "demo", "--runs", runs, *GRID[:-1], "1,2", status=2)
    assert said == f"--ensemble: {folder} was begun with 1; --name begins another study\n"
    record = folder / "respacing.json"
    before = record.read_text()
    record.write_text(json.dumps(json.loads(before) | {"weights": "f" * 16}))
    said = segtune("respace", "demo", "--runs", runs, *GRID, status=2)
    assert len(said.splitlines()) == 1 and "was begun with other weights (ffff" in said
    record.write_text(before)


@pytest.mark.slow
def test_more_trials_go_on_where_fewer_ended(runs: Path, tmp_path: Path) -> None:
    """Of an exported model, whose data are named; without --trials no fewer than before."""
    store = load(runs / "demo/trials/0001").config.data.store
    segtune("export", "demo", tmp_path / "model", "--runs", runs)
    words = ["respace", tmp_path / "model", "--runs", tmp_path, *GRID, "--store", store]
    segtune(*words, "--trials", "2")
    folder = tmp_path / "model-respacing"
    first = [s.trial for s in evaluated(folder)]
    assert len(first) == 2
    segtune(*words, "--trials", "3", "--choose", "best")
    assert {*first} < {s.trial for s in evaluated(folder)} and len(evaluated(folder)) == 3
    frozen = json.loads((tmp_path / "model/threshold.json").read_text())
    assert frozen["sampling"]["method"] == evaluated(folder)[0].sampling.method
    load(tmp_path / "model")  # its checksums hold: what was chosen later stands beside them


def test_mistakes_are_one_line(runs: Path, tmp_path: Path) -> None:
    def refused(*words: str | Path) -> str:
        said = segtune("respace", *words, "--runs", runs, status=2)
        assert len(said.splitlines()) == 1, said
        return said

    before = sorted(runs.iterdir())
    assert "unet segments directly: there is nothing to sample" in refused("demo", "--trial", "0")
    assert "demo:3: has not ended" in refused("demo", "--trial", "3")
    assert "demo:4: failed: no ema.pt" in refused("demo", "--trial", "4")
    assert "no such study" in refused("nothing.pt")
    assert "must be fast, best or the number" in refused("demo", "--choose", "slow")
    assert "only ddim has it" in refused("demo", "--methods", "ddpm", "--eta", "0")
    assert "did you mean ddim?" in refused("demo", "--methods", "dim")
    assert "not a prepared store" in refused("demo", "--store", str(tmp_path))
    (tmp_path / "text.pt").write_text("hello")
    assert "not a segtune checkpoint" in refused(tmp_path / "text.pt")
    assert sorted(runs.iterdir()) == before
    said = segtune("respace", "demo", "--runs", runs, *GRID, "--choose", "77", status=2)
    assert "has no such setting: it has" in said


@pytest.mark.parametrize(
    ("option", "name", "text", "found"),
    [
        ("--methods", "sampling.method", "ddpm, ddim,ddpm", ["ddpm", "ddim"]),
        ("--steps", "sampling.timestep_respacing", "1,20,ddim50", [1, 20, "ddim50"]),
        ("--eta", "sampling.eta", "0,1e-1", [0.0, 0.1]),
        ("--ensemble", "sampling.num_ensemble", "4", [4]),
        ("--methods", "sampling.method", "", "--methods: '': must be"),
        ("--steps", "sampling.timestep_respacing", "2000", "--steps: 2000, but must be in 1.."),
        ("--steps", "sampling.timestep_respacing", "1.5", "--steps: '1.5', but must be a number"),
        ("--eta", "sampling.eta", "1.5", "--eta: 1.5: must be less than or equal to 1"),
        ("--eta", "sampling.eta", "nan", "--eta: nan: must be a finite number"),
        ("--ensemble", "sampling.num_ensemble", "0", "--ensemble: 0: must be greater"),
    ],
)
def test_options_are_lists(option: str, name: str, text: str, found: list[object] | str) -> None:
    if isinstance(found, list):
        assert parse(option, text, name, DiffusionConfig()) == found
    else:
        with pytest.raises(ConfigError) as caught:
            parse(option, text, name, DiffusionConfig())
        [line] = caught.value.lines
        assert line.startswith(found)


def setting(trial: int, dice: float, case_s: float, low: float, high: float, **more) -> Setting:
    difference = {"mean": (low + high) / 2, "interval": [low, high], "std_error": (high - low) / 4}
    sampling = SamplingConfig(timestep_respacing=trial)
    return dataclasses.replace(
        Setting(trial, sampling, dice, None, case_s, True, difference), **more
    )


def test_fast_is_the_fastest_that_is_as_good() -> None:
    settings = [
        setting(10, 0.50, 9.0, 0, 0),
        setting(8, 0.49, 1.0, -0.03, 0.01, is_pareto=False),
        setting(5, 0.485, 4.0, -0.04, 0.02),  # within a standard error
        setting(4, 0.495, 3.0, -0.008, -0.002),  # worse for sure, by less than matters
        setting(2, 0.45, 2.0, -0.08, -0.02),
        setting(1, 0.40, 0.5, 0, 0, difference_to_best=None),  # nobody can tell
    ]
    assert choose(settings, "fast", 0.01, "").trial == 4
    assert choose(settings, "fast", 0.0, "").trial == 5
    assert choose(settings, "best", 0.01, "").trial == 10
    assert choose(settings, "2", 0.01, "").trial == 2
    assert choose(settings[-1:], "fast", 0.01, "").trial == 1
    text = table(settings, "fast", 0.01, "")
    [line] = [line for line in text.splitlines() if line.startswith("*>")]
    assert line.split()[1] == "4"
    assert table([], "fast", 0.01, "") == "no setting was evaluated"


def run(*command: str | Path, **settings) -> str:
    result = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, **settings
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.slow
def test_on_a_real_ray(place: Path, cluster: str, tmp_path: Path) -> None:
    """The same study as without, from the command line; again, it continues."""
    shutil.copytree(place / "runs/demo", tmp_path / "runs/demo")
    env = {**os.environ, "RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "search.cli.main", "respace", "demo", *GRID]
    command += ["--runs", str(tmp_path / "runs"), "--address", cluster]
    said = run(*command, env=env, cwd=ROOT)
    assert "stored     threshold" in said
    real, offline = (evaluated(folder / "runs/demo-0001-respacing") for folder in (tmp_path, place))
    assert {(s.sampling, s.dice) for s in real} == {(s.sampling, s.dice) for s in offline}
    assert "stored     threshold" in run(*command, env=env, cwd=ROOT)
    assert len(events(tmp_path / "runs/demo-0001-respacing", "reported")) == len(real) == 6
