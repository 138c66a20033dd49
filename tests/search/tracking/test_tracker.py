"""MLflow as a view of the ledger, without Ray."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from search.analysis import results
from search.ledger.journal import Ledger
from search.ledger.session import StudySession
from search.study.load import load_study
from search.tracking.tracker import Tracker
from search.workflows.run_study import run_study
from tests.search.conftest import Driver

Copy = Callable[[], StudySession]


@pytest.fixture
def copied(calm: Driver, tmp_path: Path, mlflow_uri: str, monkeypatch: pytest.MonkeyPatch) -> Copy:
    """Copy the undisturbed study, with an identity of its own, into a new MLflow."""
    folder = tmp_path / "toy"
    shutil.copytree(calm.folder, folder)
    (folder / "mlflow.json").unlink()
    path = folder / "ledger.jsonl"
    lines = [line for line in path.read_text().splitlines(True) if '"event":"mlflow"' not in line]
    path.write_text("".join(lines))
    empty = tmp_path / "empty.db"
    shutil.copy(mlflow_uri.removeprefix("sqlite:///"), empty)
    client = MlflowClient(f"sqlite:///{empty}")
    experiment = client.get_experiment_by_name("toy")
    client.rename_experiment(experiment.experiment_id, "another")  # creating a database takes 2 s
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{empty}")
    monkeypatch.setattr(Tracker, "QUIET_S", Tracker.CLOSE_S)  # on a busy machine
    study = load_study(calm.study)

    def open_() -> StudySession:
        return StudySession(study, folder, Ledger.open(path, writer=True))

    return open_


def deliver(session: StudySession) -> list[str]:
    """Run a tracker as a driver does, and return what it said."""
    said: list[str] = []
    links: list[dict[str, Any]] = []
    with Tracker(session, links.append, said.append):
        pass
    session.record(*links)
    session.ledger.close()
    return said


def runs(uri: str) -> dict[int, Run]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("toy")
    found = client.search_runs([experiment.experiment_id])
    trials = [run for run in found if "trial_uid" in run.data.tags]
    return {int(run.data.tags["trial_uid"].split("/")[1]): run for run in trials}


def study_run(uri: str) -> Run:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("toy")
    [run] = client.search_runs([experiment.experiment_id], "tags.kind = 'study'")
    return run


def points(uri: str) -> dict[int, list[tuple[int, float]]]:
    client = MlflowClient(uri)
    return {
        trial: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "val/dice")]
        for trial, run in runs(uri).items()
    }


def test_mlflow_shows_parameters_tags_ending_and_configuration(
    calm: Driver, mlflow_uri: str
) -> None:
    """Parameters, tags, ending and the resolved configuration of each trial."""
    study = load_study(calm.study)
    [begun] = calm.events("study")
    ended = {event["trial"]: event for event in calm.events("ended")}
    rungs = {e["trial"]: str(e["rung"]) for e in calm.events("decided") if e["rung"]}
    proposed = {event["trial"]: event for event in calm.events("proposed")}
    client = MlflowClient(mlflow_uri)
    shown = {
        trial: run
        for trial, run in runs(mlflow_uri).items()
        if run.data.tags["trial_uid"].startswith(begun["uid"])
    }
    assert shown.keys() == ended.keys()
    for trial, run in shown.items():
        tags, config = run.data.tags, study.train_config(proposed[trial]["params"])
        assert tags["ending"] == ended[trial]["ending"]
        assert tags.get("rung") == rungs.get(trial)
        assert tags["seed"] == "1" and tags["store_hash"] == begun["store_hash"]
        assert tags["fold"] == "0" and tags["hosts"] and tags["reason"] == ended[trial]["reason"]
        assert tags["kind"] == proposed[trial]["kind"]
        last = ended[trial]["epoch"]
        assert run.data.metrics["final/epochs"] == last
        values = [e["value"] for e in calm.events("reported") if e["trial"] == trial]
        assert run.data.metrics["val/dice"] == values[-1]
        mean = fmean(values[-study.scheduler.smoothing :])
        assert run.data.metrics["final/dice"] == pytest.approx(mean)
        assert tags["git_commit"] == begun["commit"]
        assert run.info.status == "FINISHED" and tags["ending"] in ("completed", "stopped")
        assert float(run.data.params["optimizer.lr"]) == config.optimizer.lr
        assert run.data.params["model.family"] == config.model.family
        path = client.download_artifacts(run.info.run_id, "config.yaml")
        assert yaml.safe_load(Path(path).read_text()) == config.model_dump(mode="json")
        assert str(calm.folder.parent) in run.info.artifact_uri


@pytest.mark.slow
def test_delivery_may_repeat_itself(copied: Copy) -> None:
    """From the start, with and without the links in the ledger: no run and no point twice."""
    session = copied()
    assert deliver(session) == []
    uri = session.study and Tracker(session, print, print).uri
    once = points(uri)
    assert sum(map(len, once.values())) == sum(
        len(t.reports) for t in session.state.trials.values()
    )

    cursor = session.folder / "mlflow.json"
    cursor.unlink()
    deliver(copied())
    cursor.unlink()
    forget_links(session.ledger.path)
    deliver(copied())
    assert points(uri) == once


def forget_links(ledger: Path) -> None:
    lines = [line for line in ledger.read_text().splitlines(True) if '"event":"mlflow"' not in line]
    ledger.write_text("".join(lines))


@pytest.mark.slow
def test_killed_between_delivery_and_link(copied: Copy) -> None:
    """The cursor says that a trial was begun, but no line has its run: the run is found again."""
    session = copied()
    proposed = [i for i, event in enumerate(session.ledger.events) if event["event"] == "proposed"]
    deliver(session)
    uri = Tracker(session, print, print).uri
    once = points(uri)
    forget_links(session.ledger.path)
    cursor = {"uri": uri, "delivered": proposed[1] + 1}
    (session.folder / "mlflow.json").write_text(json.dumps(cursor))
    session = copied()
    assert deliver(session) == []
    assert points(uri) == once
    assert not Tracker(copied(), print, print).behind


@pytest.mark.parametrize("at_once", [False, True])
def test_a_resumed_trial_keeps_its_run(copied: Copy, at_once: bool) -> None:
    """Whether it was delivered before it was resumed or not, the run lives again, then ends."""
    session = copied()
    trial = next(t for t in session.state.trials.values() if t.ending == "completed")
    if not at_once:
        deliver(session)
        session = copied()
    about = {"trial": trial.number, "epoch": trial.epoch}
    session.record({"event": "resumed", **about, "epochs": trial.epoch + 1})
    uri = Tracker(session, print, print).uri
    deliver(session)
    before = runs(uri)
    run = before[trial.number]
    assert run.info.status == "SCHEDULED" and run.data.tags["resumed_from"] == "epoch 9 to 10"
    assert (run.data.tags["status"], run.data.tags["ending"]) == ("waiting", "")

    session = copied()
    about["epoch"] += 1
    session.record(
        {"event": "started", **about, "attempt": 9, "host": "h", "pid": 1},
        {"event": "reported", **about, "value": 0.5, "metrics": {"val/dice": 0.5}},
        {"event": "decided", **about, "action": "complete", "reason": "", "rung": None},
        {"event": "ended", **about, "ending": "completed", "reason": ""},
    )
    deliver(session)
    after = runs(uri)
    assert {n: r.info.run_id for n, r in after.items()} == {
        n: r.info.run_id for n, r in before.items()
    }
    assert after[trial.number].info.status == "FINISHED"
    assert [step for step, _ in points(uri)[trial.number]] == [*range(1, 11)]


def test_a_dead_server_costs_the_driver_nothing(
    copied: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It costs the driver nothing, one line says so, and the next driver delivers the rest."""
    good = os.environ["MLFLOW_TRACKING_URI"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    session = copied()
    said: list[str] = []
    with Tracker(session, print, said.append):
        while not said:
            time.sleep(0.05)
        begun = time.perf_counter()
    assert time.perf_counter() - begun < 2
    assert "does not answer" in said[0] and len(said) == 2 and "sends the rest" in said[1]
    session.ledger.close()

    monkeypatch.setenv("MLFLOW_TRACKING_URI", good)
    session = copied()
    assert deliver(session) == []
    assert sum(map(len, points(good).values())) == sum(
        len(trial.reports) for trial in session.state.trials.values()
    )


def test_results_are_shown_before_mlflow_is_waited_for_and_computed_once(
    copied: Copy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At a launch's end; here of a study of which MLflow has nothing and no trial is left."""
    asked: list[str] = []

    def counting(name: str, do: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any) -> Any:
            asked.append(name)
            return do(*args)

        return counted

    monkeypatch.setattr(results, "importance", counting("importance", results.importance))
    monkeypatch.setattr(results, "fetch_cases", counting("compare", results.fetch_cases))
    monkeypatch.setattr(Tracker, "QUIET_S", 0.0)
    session = copied()
    assert run_study(session, "local") == 0
    session.ledger.close()
    said = capsys.readouterr().out
    assert sorted(asked) == ["compare", "importance"]
    places = [said.index(words) for words in ("rank", "Page  ", "Ctrl-C leaves, and `segtune sync")]
    assert places == sorted(places)
    assert not Tracker(copied(), print, print).behind, "and then it has everything"


def test_nothing_is_imported_for_nothing(copied: Copy) -> None:
    """A tracker that is up to date is not behind, and links alone do not make it so."""
    session = copied()
    deliver(session)
    assert not Tracker(copied(), print, print).behind
