"""`segtune list`: one line a study, whatever the others are like."""

import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from search.cli.main import main
from search.ledger.journal import Ledger
from search.monitor.study_list import list_studies
from search.report.text import age
from tests.search import offline
from tests.search.conftest import Moto


def said(runs: Path | str, *words: str) -> list[str]:
    result = CliRunner().invoke(main, ["list", "--runs", str(runs), *words])
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


@pytest.fixture
def runs(tmp_path: Path, store: Path) -> Path:
    """A finished study, one that was interrupted, one out of budget, and a damaged one."""
    runs = tmp_path / "runs"
    offline.finished(runs / "a-finished", store, study="a-finished")
    trials = {"num_trials": 2, "gpus_per_trial": 0.5, "cpus_per_trial": 3}
    for name, budget in (("b-interrupted", {}), ("c-spent", {"epochs": 3})):
        config = offline.study(store, study=name, trials=trials, budget=budget)
        with offline.opened(config, runs / name) as session:
            offline.propose(session)
            offline.train(session, session.state.trials[2])
    (runs / "d-damaged").mkdir()
    (runs / "d-damaged" / "ledger.jsonl").write_bytes(b"hello\n")
    (runs / "mlflow.db").touch()
    return runs


def test_a_line_a_study(runs: Path) -> None:
    head, *lines = said(runs)
    assert head.split() == ["study", "state", "trials", "best", "trial", "cost", "last", "event"]
    assert [line.split("  ")[0] for line in lines[:3]] == ["a-finished", "b-interrupted", "c-spent"]
    assert " finished " in lines[0] and " CPU-hours " in lines[0]
    assert "  5 completed; control completed; references: 1 completed  " in lines[0]
    assert " interrupted " in lines[1]
    assert "  1 completed, 1 waiting; control waiting; references: 1 waiting  " in lines[1]
    assert " out of budget " in lines[2] and " GPU-hours " in lines[2]
    assert lines[3:] == [
        f"d-damaged: {runs}/d-damaged/ledger.jsonl: line 1: damaged: b'hello': "
        "segtune check d-damaged says whether it can be mended",
    ]


def test_json_has_the_numbers(runs: Path) -> None:
    result = json.loads("\n".join(said(runs, "--json")))
    finished, interrupted, spent, damaged = result["studies"]
    best = {"trial": 4, "epoch": 3, "value": pytest.approx(0.495424), "epochs": [3]}
    assert finished["best"] == best
    assert finished["trials"] == {"completed": 5} and finished["references"] == {"completed": 2}
    assert (finished["state"], finished["driver"]) == ("finished", None)
    assert (interrupted["state"], spent["state"]) == ("interrupted", "out of budget")
    assert "gpu_hours" in spent and "cpu_hours" not in spent and "cpu_hours" in finished
    assert damaged["state"] == "unreadable" and "damaged" in damaged["problem"]


def test_who_runs_it_and_whether_trials_do(runs: Path) -> None:
    path = runs / "b-interrupted" / "ledger.jsonl"
    with Ledger.open(path, writer=True) as ledger:
        line = said(runs)[2]
        assert " waiting by pid " in line
        ledger.append({"event": "started", "trial": 3, "attempt": 1, "host": "h", "pid": 1})
        line = said(runs)[2]
        assert " running by pid " in line and "1 running" in line
    assert " interrupted " in said(runs)[2]


@pytest.mark.parametrize(("gpus", "key", "hours"), [(0.5, "gpu_hours", 0.5), (0, "cpu_hours", 3.0)])
def test_cost_is_in_hours_of_what_the_trials_have(
    tmp_path: Path,
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    gpus: float,
    key: str,
    hours: float,
) -> None:
    """One trial ran for an hour, with half a GPU or with three CPUs, and ended an hour ago."""
    now = time.time()
    trials = {"num_trials": 2, "cpus_per_trial": 3, "gpus_per_trial": gpus}
    config = offline.study(store, study="demo", trials=trials)
    with offline.opened(config, tmp_path / "demo") as session, monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: now - 7200)
        patch.setattr("search.ledger.journal.steady_s", lambda: session.ledger._appended_s)
        offline.propose(session)
        session.record({"event": "started", "trial": 0, "attempt": 1, "host": "h", "pid": 1})
        begun_s = session.ledger._appended_s
        patch.setattr(time, "time", lambda: now - 3600)
        patch.setattr("search.ledger.journal.steady_s", lambda: begun_s + 3600)
        offline.end(session, session.state.trials[0], "failed")
    [found] = list_studies(tmp_path)["studies"]
    assert found[key] == pytest.approx(hours)
    assert found["idle_s"] == pytest.approx(3600, abs=60)


def test_no_study(tmp_path: Path) -> None:
    assert said(tmp_path) == [f"{tmp_path}: no study; `segtune launch` begins one"]
    result = json.loads("\n".join(said(tmp_path, "--json")))
    assert (result["runs"], result["studies"]) == (str(tmp_path), [])


def test_in_s3_beside_what_is_no_study(s3: str, moto: Moto, store: Path) -> None:
    from search.storage.s3 import Remote
    from search.storage.studies import open_as_driver, runs_folder

    folder = runs_folder(s3) / "far"
    config = offline.study(store, study="far")
    with open_as_driver(folder) as ledger:
        ledger.append({"event": "study", "uid": "0", "config": config.model_dump(mode="json"),
                       "store_hash": "", "commit": "", "versions": {}})  # fmt: skip
    Remote.parse(s3).put("notes/readme.txt", b"no study")
    _, line = said(s3)
    assert line.split() == ["far", "interrupted", "none", "none", "0", "CPU-hours", "0", "s", "ago"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (86400 * 5, "5 d")],
)
def test_age(seconds: float, words: str) -> None:
    assert age(seconds) == words
