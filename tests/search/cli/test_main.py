"""The commands as a person meets them."""

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import search.workflows.launch
from search.cli.main import main
from search.ledger.journal import Ledger
from search.storage.studies import find_study
from tests.search.analysis.test_results import TRIALS, write
from trainer.configfile import ConfigError

SMOKE = Path(__file__).resolve().parents[3] / "spaces" / "smoke.yaml"


def invoke(*arguments: str | Path):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    write(tmp_path / "runs" / "demo", TRIALS)
    return tmp_path / "runs"


def test_status_and_compare(runs):
    for name in ("status", "compare"):
        text = invoke(name, "demo", "--runs", runs)
        assert text.exit_code == 0, text.output
        assert "0.5000" in text.output
        values = invoke(name, runs / "demo", "--json", "--runs", runs)  # a path does as well
        assert json.loads(values.output)["study"] == "demo"


def test_runs_from_the_environment(runs, monkeypatch):
    by_option = invoke("status", "demo", "--json", "--runs", runs)
    monkeypatch.setenv("SEGTUNE_RUNS", str(runs))
    result = invoke("status", "demo", "--json")
    assert result.exit_code == 0 and result.output == by_option.output


def test_an_unknown_study_is_refused_with_the_nearest_name(runs):
    result = invoke("status", "dmo", "--runs", runs)
    assert (result.exit_code, result.stderr) == (
        2,
        f"{runs}: dmo: no such study; did you mean demo?\n",
    )
    with pytest.raises(ConfigError):
        find_study(str(runs), runs)


def test_a_damaged_ledger_is_refused_with_its_line(runs):
    path = runs / "demo" / "ledger.jsonl"
    path.write_bytes(b"{}\n" + path.read_bytes())
    result = invoke("compare", "demo", "--runs", runs)
    assert result.exit_code == 2
    again = "segtune check demo says whether it can be mended"
    assert result.stderr == f"{path}: line 1: damaged: b'{{}}': {again}\n"


def test_debug_shows_the_traceback(runs):
    result = invoke("--debug", "status", "dmo", "--runs", runs)
    assert isinstance(result.exception, ConfigError)


def test_stop_asks_a_running_driver_and_leaves_no_file_for_none(runs):
    idle = invoke("stop", "demo", "--runs", runs)
    assert idle.exit_code == 0 and "is not running" in idle.output
    assert not (runs / "demo" / "stop").exists()
    with Ledger.open(runs / "demo" / "ledger.jsonl", writer=True):
        asked = invoke("stop", "demo", "--runs", runs)
    assert asked.exit_code == 0 and f"asked pid {os.getpid()} on" in asked.output
    assert (runs / "demo" / "stop").exists()


def test_dry_run_prints_settings_and_problems(tmp_path):
    store = tmp_path / "none"
    result = invoke("launch", SMOKE, f"data.store={store}", "trials.num_trials=7", "--dry-run")
    assert result.exit_code == 2
    assert "7 searched" in result.stdout and "rungs" in result.stdout
    [line] = result.stderr.splitlines()
    assert line.startswith(f"{SMOKE}: data.store: {store}: not a prepared store")


def test_dry_run_of_a_sound_study(phantom_store):
    result = invoke("launch", SMOKE, f"data.store={phantom_store}", "--dry-run")
    assert (result.exit_code, result.stderr) == (0, "")


def test_dry_run_of_a_wrong_study(tmp_path):
    result = invoke("launch", SMOKE, "scheduler.mxt=3", "train.model.width=3", "--dry-run")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines() == [
        "command line: scheduler.mxt: no such key; did you mean scheduler.max_t?",
        "command line: train.model.width: 3: must be greater than or equal to 4",
    ]
    missing = invoke("launch", tmp_path / "none.yaml", "--dry-run")
    assert missing.exit_code == 2
    assert missing.stderr == f"{tmp_path}/none.yaml: No such file or directory\n"


def test_launch_hands_over(monkeypatch, tmp_path, phantom_store):
    handed = []

    def launch(study, runs, address, **_):
        handed.append((study.trials.num_trials, runs, address))
        return 1

    monkeypatch.setattr(search.workflows.launch, "launch", launch)
    overrides = [f"data.store={phantom_store}", "trials.num_trials=2"]
    result = invoke("launch", SMOKE, *overrides, "--runs", tmp_path, "--address", "host:6379")
    assert result.exit_code == 1, result.output
    assert handed == [(2, tmp_path, "host:6379")]


@pytest.mark.slow
def test_prepare_and_phantom(tmp_path):
    assert invoke("phantom", tmp_path / "data", "--num-cases", "6").exit_code == 0
    options = ["--image-size", "16", "--format", "isles24", "--workers", "1"]
    result = invoke("prepare", tmp_path / "data", tmp_path / "store", *options)
    assert result.exit_code == 0, result.output
    manifest = json.loads((tmp_path / "store" / "manifest.json").read_text())
    assert (len(manifest["cases"]), manifest["image_size"]) == (6, 16)
    empty = tmp_path / "empty"
    empty.mkdir()
    result = invoke("prepare", empty, tmp_path / "other")
    assert result.exit_code == 2 and str(empty) in result.stderr
    assert not (tmp_path / "other").exists()


BLOCK = """
import sys
for name in sys.argv[1].split(","):
    sys.modules[name] = None
"""


def run_blocked(blocked: str, code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BLOCK + code, blocked]
    root = Path(__file__).parents[3]
    return subprocess.run(command, capture_output=True, text=True, cwd=root)


def test_no_command_imports_ray_before_it_has_the_token() -> None:
    """Ray reads at its import whether a token is wanted."""
    modules = "launch, resume, respace, replay, explain, export"
    looks = "from search.workflows.preview import cost_probe, dry_run"
    confirms = "from search.workflows.confirming import confirm"
    own = f"from search.workflows import {modules}; {looks}; {confirms}"
    result = run_blocked("ray,torch", own)
    assert result.returncode == 0, result.stderr


def test_the_light_modules_import_without_torch_and_ray():
    modules = "trainer.config, search.study.load, search.pruning.asha, search.pruning.stall"
    blocked = "torch,monai,ray,optuna,mlflow"
    result = run_blocked(blocked, f"import {modules}")
    assert result.returncode == 0, result.stderr


def test_the_trainer_imports_without_the_search():
    """Every module of it, except the command lines that packages run as scripts."""
    code = """
import importlib, pkgutil, trainer
for module in pkgutil.walk_packages(trainer.__path__, "trainer."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""
    result = run_blocked("ray,optuna,mlflow,search", code)
    assert result.returncode == 0, result.stderr


def test_dry_run_takes_under_a_second_and_neither_ray_nor_torch():
    code = f"""
sys.argv = ["segtune", "launch", {str(SMOKE)!r}, "--dry-run"]
from search.cli.main import main
main()
"""
    times_s = []  # of processor time, which other processes do not change
    for _ in range(3):
        before_s = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
        result = run_blocked("torch,monai,ray,optuna,mlflow,pyarrow", code)
        times_s.append(sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - before_s)
        assert "rungs" in result.stdout, result.stderr
        assert "Traceback" not in result.stderr
    assert min(times_s) < 1


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_signs_that_a_locale_lacks_are_escaped(encoding: str) -> None:
    code = (
        "import click; from trainer.__main__ import Commands\n"
        "main = Commands(commands=[click.Command('say', callback=lambda: print('…ä≥'))])\n"
        "main(['say'])\n"
    )
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True)
    assert done.stdout.startswith(b"\\u2026") and done.stdout.endswith(b"\\u2265\n")


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    name = os.fsdecode(b"M\xfcller")
    result = CliRunner().invoke(main, ["compare", "demo", "--runs", str(tmp_path / name)])
    assert result.exit_code == 2
    assert r"M\xfcller': its name is not UTF-8: rename it, for example with convmv" in result.output


def test_a_command_that_lacks_a_package_of_the_extra_says_so(tmp_path: Path) -> None:
    """As after `pip install .` alone: what needs none of it works."""
    fixture = Path(__file__).parents[3] / "tests/fixtures/semantics_2"
    for name in ("runs", "export"):
        shutil.copytree(fixture / name, tmp_path / name)
    before = {path for path in tmp_path.rglob("*")}
    code = f"""
import os
os.chdir({str(tmp_path)!r})
from click.testing import CliRunner
from search.cli.main import main
for words in {EXTRA!r} + {BASE!r}:
    result = CliRunner().invoke(main, [*words.split(), "--runs", "runs"])
    print(words, result.exit_code, result.stderr.strip(), sep="|")
"""
    result = run_blocked("ray,mlflow,optuna,requests,sklearn,sqlalchemy", code)
    assert result.returncode == 0, result.stderr
    said = [line.split("|") for line in result.stdout.splitlines()]
    assert [words for words, *_ in said] == [*EXTRA, *BASE]
    for words, status, line in said[: len(EXTRA)]:
        remedy = "is not installed: pip install '.[search]' in segtune's folder brings"
        assert status == "2" and remedy in line, (words, line)
    assert {status for _, status, _ in said[len(EXTRA) :]} == {"0"}
    assert {path for path in tmp_path.rglob("*")} == before


EXTRA = (
    "resume finished --top 1 --epochs 9",
    "retry finished",
    "confirm finished",
    "sync finished",
    "status finished --submit http://127.0.0.1:9",
)
BASE = ("list", "status finished", "logs finished", "compare finished --csv")
