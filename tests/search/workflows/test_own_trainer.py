"""Studies with a trainer of one's own, in both forms, from launch to confirm."""

import math
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from search.analysis.results import compare
from search.cli.main import main
from search.ledger.journal import Ledger
from search.report.leaderboard import leaderboard
from search.storage.studies import read_study
from search.study.load import load_study
from search.workflows.confirming.confirm import confirm
from search.workflows.explain import explain, render
from search.workflows.model_ref import find_model
from search.workflows.replay import replay
from search.workflows.resume import resume
from tests.search.conftest import Driver, events
from tests.search.workflows.test_launch import curves, reported
from tests.search.workflows.test_resume import driver as driver_of
from trainer.configfile import ConfigError

MAX_T = 6
COMMON = '''
import json, os, random, sys, time
from math import log10
from pathlib import Path

def score(config, epoch):
    """Best at lr 1e-3, rising with the epoch; a case varies with the seed."""
    best = (1 - 0.2 * abs(log10(config["optimizer"]["lr"]) + 3)) * epoch / (epoch + 3)
    rng = random.Random(f"{config['seed']} {config['optimizer']['lr']}")
    return best, {f"case{i}": best + 0.02 * rng.random() for i in range(40)}

def epochs(config, run_dir):
    """Yield what a validation says, beginning with the last epoch that was written down."""
    last = run_dir / "last"
    begun = int(last.read_text()) if last.exists() else 0
    with open(run_dir / "begun", "a") as file:
        file.write(f"{os.getpid()} {begun}\\n")
    for epoch in range(max(1, begun), config["epochs"] + 1):
        value, cases = score(config, epoch)
        if epoch > begun:
            time.sleep(0.15)
            last.with_suffix(".new").write_text(str(epoch))
            last.with_suffix(".new").replace(last)
        yield {"epoch": epoch, "score": value, "train/loss": 1 - value, "cases": cases}
'''
PYTHON = """
from dataclasses import dataclass, field

@dataclass
class Optimizer:
    lr: float = 1e-4
    momentum: float = 0.9

@dataclass
class Config:
    optimizer: Optimizer = field(default_factory=Optimizer)
    batch: int = 8
    epochs: int = 1
    seed: int = 0

def fit(config: Config, run_dir, *, received=-1):
    given = {"optimizer": {"lr": config.optimizer.lr}, "seed": config.seed}
    for report in epochs({**given, "epochs": config.epochs}, run_dir):
        (run_dir / "alive").touch()
        yield report
"""
PROGRAM = """
import yaml
if __name__ == "__main__":
    for report in epochs(yaml.safe_load(open(sys.argv[1])), Path(sys.argv[2])):
        print("epoch", report["epoch"], "is over")
        print(json.dumps(report))
"""
FORMS = {
    "python": {"python": "mine:fit"},
    "command": {"command": "{python} mine.py {config} {run_dir}"},
}


@pytest.fixture
def study(tmp_path: Path) -> Callable[..., Path]:
    """Write a study with a trainer of one form; return its file."""

    def write(form: str, **settings: Any) -> Path:
        (tmp_path / "mine.py").write_text(COMMON + (PYTHON if form == "python" else PROGRAM))
        values = {
            "study": "mine",
            "trainer": FORMS[form],
            "train": {"batch": 4},
            "space": {"optimizer.lr": {"type": "float", "low": 1e-6, "high": 1e-1, "log": True}},
            "objective": {"metric": "score", "mode": "max"},
            "sampler": {"type": "tpe", "num_startup_trials": 4},
            "scheduler": {"grace_period": 2, "max_t": MAX_T, "reduction_factor": 2},
            "trials": {"num_trials": 5},
            "references": [{"name": "as-it-was", "settings": {"optimizer.lr": 3e-4}}],
            "seed": 3,
            **settings,
        }
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump(values, sort_keys=False))
        return path

    return write


def _gone(pid: int) -> bool:
    end_s = time.monotonic() + 80
    while time.monotonic() < end_s:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize(
    "form",
    [
        pytest.param("python", marks=pytest.mark.nightly),
        pytest.param("command", marks=pytest.mark.slow),  # which Python's `fit` runs, too
    ],
)
def test_from_launch_to_confirm(
    form: str,
    study: Callable[..., Path],
    tmp_path: Path,
    cluster: str,
    empty_database: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A kill of a worker and of the driver lose nothing; then pruning, MLflow, page, verdicts."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    (tmp_path / "mlflow.db").write_bytes(empty_database.read_bytes())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    path = study(form)
    driver = Driver(path, tmp_path, cluster, env={"MLFLOW_TRACKING_URI": uri})
    driver.wait_for(lambda: len(driver.events("reported")) >= 2)
    os.kill(driver.events("started")[-1]["pid"], signal.SIGKILL)
    driver.wait_for(lambda: len(driver.events("reported")) >= 8)
    driver.kill()
    driver = Driver(path, tmp_path, cluster, env={"MLFLOW_TRACKING_URI": uri})
    driver.finish()
    folder = driver.folder

    # Every epoch once, whatever the program repeated; pruned as its numbers say.
    proposed = {event["trial"]: event["params"] for event in events(folder, "proposed")}
    ended = {event["trial"]: event["ending"] for event in events(folder, "ended")}
    for trial, reports in reported(folder).items():
        lr = proposed[trial]["optimizer.lr"]
        best = [(1 - 0.2 * abs(math.log10(lr) + 3)) * t / (t + 3) for t in range(1, MAX_T + 1)]
        assert reports == [(t + 1, pytest.approx(best[t])) for t in range(len(reports))]
    assert ended[0] == "completed" and {*ended.values()} == {"completed", "stopped"}
    assert any(event["cause"] == "process" for event in events(folder, "interrupted"))
    for begun in folder.glob("trials/*/begun"):
        for line in begun.read_text().splitlines():
            if form == "command":
                assert _gone(int(line.split()[0]))
    assert {len(c) for c in curves(folder, uri, "score").values()} >= {MAX_T}

    result = compare(folder)
    assert result["trainer"] == {"python": "mine:fit", "command": "python mine.py"}[form]
    assert result["threshold"] is None and result["data"] is None and result["fold"] is None
    [reference] = result["references"]
    assert reference["name"] == "as-it-was" and result["trials"][0]["value"] > 0.4
    usual = {"python": 8, "command": None}[form]
    assert result["trials"][0]["changed"]["batch"] == [usual, 4]
    text = leaderboard(folder)
    assert "mine: score of each trial's last epoch (selected on" in text and "Dice" not in text
    page = (folder / "report.html").read_text()
    assert "as-it-was" in page and '"trainer"' in page

    worst = result["trials"][-1]["trial"]
    found = explain(folder, worst)
    assert "only what the ledger tells" in render(found)
    assert {"ending", "neighbours"} <= {finding["name"] for finding in found["findings"]}
    with pytest.raises(ConfigError, match=r"only its own program knows its weights"):
        find_model("mine:0", None, tmp_path)

    capsys.readouterr()
    assert replay(folder, 0, epochs=2)
    assert "whether the same seed gives the same" in capsys.readouterr().out

    again = driver_of(folder, cluster, resume, epochs=MAX_T + 1, trials=[0])
    assert again.wait(480) == 0, again.log.read_text()
    assert [epoch for epoch, _ in reported(folder)[0]] == [*range(1, MAX_T + 2)]

    judge = driver_of(folder, cluster, confirm, top=1, seeds=3)
    assert judge.wait(480) == 0, judge.log.read_text()
    confirming = [event for event in events(folder, "proposed") if event["kind"] == "confirm"]
    assert {(event["seed"], event["fold"]) for event in confirming} == {(4, 0), (5, 0), (6, 0)}
    [verdict] = read_study(folder)[1].verdicts
    assert verdict["metric"] == "score" and "optimistic" in verdict["where"]
    against = {(c["family"], c["verdict"]) for c in verdict["comparisons"]}
    assert ("reference", "better") in against, verdict
    assert verdict["scores"][0]["interval"]
    with pytest.raises(ConfigError, match="--test: reads the sealed test set with segtune's"):
        confirm(folder, top=1, seeds=3, test=True, address=cluster)


def test_a_look_runs_nothing_of_a_study_file(
    study: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A study folder of somebody's: status, compare and explain import and run nothing of it."""
    monkeypatch.chdir(tmp_path)
    config = load_study(study("python"))
    folder = tmp_path / "theirs"
    folder.mkdir()
    (tmp_path / "mine.py").write_text("raise SystemExit('was imported')")
    with Ledger.open(folder / "ledger.jsonl", writer=True) as ledger:
        ledger.append(
            {
                "event": "study",
                "uid": "u",
                "config": config.model_dump(mode="json"),
                "config_hash": config.config_hash(),
                "settings": {"optimizer.lr": 1e-4, "batch": 8},
                "semantics": 2,
                "store_hash": "",
                "commit": "",
                "versions": {},
            },
            {"event": "proposed", "trial": 0, "params": {"optimizer.lr": 1e-3}, "kind": "sampled",
             "protected": False},
            {"event": "started", "trial": 0, "attempt": 1, "host": "h", "pid": 1},
            {"event": "reported", "trial": 0, "epoch": 1, "value": 0.5, "metrics": {"score": 0.5}},
        )  # fmt: skip
    sys.modules.pop("mine", None)
    words = [["status", str(folder)], ["compare", str(folder)], ["explain", f"{folder}:0"]]
    words += [["export", f"{folder}:0", str(tmp_path / "out")], ["list", "--runs", str(tmp_path)]]
    for each in words:
        answer = CliRunner().invoke(main, each)
        assert "was imported" not in answer.output
        assert answer.exit_code == (2 if each[0] == "export" else 0), answer.output
        assert len(answer.stderr.splitlines()) == (each[0] == "export"), answer.stderr
