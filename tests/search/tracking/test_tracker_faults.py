"""Deliveries that break off at each call to MLflow, and studies of an earlier segtune."""

import itertools
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from search.ledger.journal import Event, Ledger
from search.ledger.session import StudySession
from search.storage.data_facts import data_facts
from search.storage.studies import read_study
from search.tracking import runs
from search.tracking.client import connect
from search.tracking.sync import sync
from search.tracking.tracker import Tracker
from tests.search import offline, toy
from tests.search.tracking.mlflow_content import content, experiment_runs
from trainer.configfile import ConfigError

CALLS = {
    "get_experiment_by_name",
    "create_experiment",
    "set_experiment_tag",
    "get_run",
    "search_runs",
    "create_run",
    "log_batch",
    "log_artifacts",
    "set_terminated",
    "update_run",
}
Open = Callable[[], StudySession]


class Fault(Exception):
    """The connection broke."""


class Client:
    """MLflow's client, of which one call fails: before it was answered, or after."""

    def __init__(self, client: MlflowClient, at: int, before: bool):
        self._client = client
        self._at = at
        self._before = before
        self.num_calls = 0

    def __getattr__(self, name: str) -> Any:
        assert name in CALLS, name
        call = getattr(self._client, name)

        def counted(*args: Any, **words: Any) -> Any:
            self.num_calls += 1
            if self.num_calls == self._at and self._before:
                raise Fault
            result = call(*args, **words)
            if self.num_calls == self._at:
                raise Fault
            return result

        return counted


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Path:
    """A study of a control and two trials, one of them resumed, confirmed, painted and read."""
    folder = tmp_path_factory.mktemp("ended") / "toy"
    config = offline.finished(folder, store, trials={"num_trials": 2}, enqueue=[])
    with offline.opened(config, folder) as session:
        session.record({"event": "threshold", "modality": "image", "above": True, "threshold": 0.5,
                     "dice": 0.2})  # fmt: skip
        facts = {**data_facts(str(store), 0), "said": ["labels: 1 anterior, 2 posterior"]}
        session.record({"event": "data", **facts})
        about = {"trial": 1, "epoch": 3}
        session.record({"event": "resumed", **about, "epochs": 4})
        offline.train(session, session.state.trials[1])
        pictures = session.trial_dir(1) / "samples"
        pictures.mkdir()
        (pictures / "epoch0004-a.png").write_bytes(b"a")
        files = ["samples/epoch0004-a.png", "samples/gone.png", "../../../etc/passwd"]
        session.record({"event": "painted", "trial": 1, "epoch": 4, "files": files, "seconds": 1.0})
        session.record({"event": "proposed", "trial": 3, "params": session.state.trials[1].params,
                     "kind": "confirm", "protected": True, "of": 1, "seed": 7, "fold": 2,
                     "epochs": 2})  # fmt: skip
        offline.train(session, session.state.trials[3], toy.fit)
        verdict = {"event": "verdict", "on": "validation", "where": "somewhere", "seeds": [7],
                   "folds": [2], "epochs": 2, "margin": None, "same_cases": False}  # fmt: skip
        score = {"trial": 1, "role": "candidate", "seeds": [7], "by_seed": [0.5], "mean": 0.5,
                 "interval": [0.4, 0.6]}  # fmt: skip
        row = {"family": "control", "trial": 1, "other": 0, "verdict": "none", "reason": "too few"}
        session.record({**verdict, "scores": [score], "comparisons": [row]})
        session.record({"event": "test_read", "trial": 3, "metrics": {"test/dice": 0.4},
                     "threshold": 0.5, "dice": {"a": 0.4}, "reading": 1})  # fmt: skip
    return folder


@pytest.fixture
def copy(
    ended: Path,
    empty_database: Path,
    plain_pictures: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[[], Open]]:
    """Return what begins with an empty MLflow and a study that it knows nothing of."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    number = itertools.count()

    def begin() -> Open:
        folder = tmp_path / str(next(number)) / "toy"
        shutil.copytree(ended, folder)
        shutil.copy(empty_database, folder.parent / "mlflow.db")
        study, _ = read_study(folder)
        return lambda: StudySession(
            study, folder, Ledger.open(folder / "ledger.jsonl", writer=True)
        )

    yield begin


def deliver(open_: Open, *, keeps_links: bool = True) -> None:
    session = open_()
    links: list[Event] = []
    try:
        Tracker(session, links.append, pytest.fail).deliver(last=True)
    finally:
        if keeps_links:
            session.record(*links)
        session.ledger.close()


def assert_same(found: dict[str, Any], truth: dict[str, Any], where: str = "") -> None:
    assert found.keys() == truth.keys() and found["runs"].keys() == truth["runs"].keys(), where
    for name, run in truth["runs"].items():
        for part, value in run.items():
            assert found["runs"][name][part] == value, (where, name, part)
    assert found == truth


def uri(open_: Open) -> str:
    session = open_()
    session.ledger.close()
    return f"sqlite:///{session.folder.parent}/mlflow.db"


def test_what_mlflow_has(copy: Callable[[], Open]) -> None:
    """Verdicts, readings of the test set, lineage, pictures and the best so far."""
    begun = copy()
    deliver(begun)
    found = content(uri(begun))
    runs = found["runs"]
    assert runs.keys() == {"toy", "0000 control", "0001", "0002", "0003 confirms 1: seed 7, fold 2"}
    assert all(run["tags"]["parent"] == "toy" for name, run in runs.items() if name != "toy")

    study = runs["toy"]
    assert study["tags"]["best_trial"] == "1" and study["tags"]["threshold"] == "image >= 0.5"
    assert study["status"] == "FINISHED" and study["params"] == {}
    assert all(run["status"] == "FINISHED" for run in runs.values()), "stopped ones, too"
    assert "the run `toy`: its description begins" in found["tags"]["mlflow.note.content"]
    assert study["files"].keys() >= {"study.yaml", "compare.json", "leaderboard.txt", "answer.txt",
                                     "r.html", "learning_curves.png", "verdict-validation.txt",
                                     "test_readings.csv"}  # fmt: skip
    assert study["files"]["test_readings.csv"].splitlines() == [
        b"trial,of,reading,threshold,test/dice", b"3,1,1,0.5,0.4"]  # fmt: skip
    best = [value for _, _, value in study["metrics"]["best/dice"]]
    assert best == sorted(set(best)) and best[-1] == toy.dice(offline.LR[0], 4)
    assert study["metrics"].keys() == {"best/dice", "control/dice", "threshold/dice",
                                       "ceiling/dice"}  # fmt: skip
    assert study["tags"]["data.read as"] == "labels: 1 anterior, 2 posterior"
    assert study["tags"]["data.cases"].startswith("12, ")

    trial = runs["0001"]
    assert trial["tags"]["resumed_from"] == "epoch 3 to 4"
    assert trial["tags"]["verdict.validation.control.0"] == "none"
    assert trial["files"].keys() == {"config.yaml", "learning_curve.png", "samples/epoch0004-a.png"}
    assert b"epochs: 4" in trial["files"]["config.yaml"] and trial["params"]["epochs"] == "3"
    confirming = runs["0003 confirms 1: seed 7, fold 2"]
    assert confirming["tags"]["confirms"] == "1" and confirming["tags"]["fold"] == "2"
    assert [v for _, _, v in confirming["metrics"]["test/dice"]] == [0.4]
    cases = confirming["files"]["cases.csv"].decode().splitlines()
    assert cases[0] == "epoch,case_id,dice,has_lesion" and len(cases) == 8


@pytest.mark.parametrize(
    ("before", "step"),
    [
        (False, 8),
        pytest.param(True, 8, marks=pytest.mark.slow),
        pytest.param(True, 1, marks=pytest.mark.nightly),
        pytest.param(False, 1, marks=pytest.mark.nightly),
    ],
)
def test_breaks_off_at_each_call(
    copy: Callable[[], Open], monkeypatch: pytest.MonkeyPatch, before: bool, step: int
) -> None:
    """The next attempt, of the same driver or another, leaves what an undisturbed one does.

    Of a call that was carried out but not answered, the driver dies as well: its links are lost.
    """
    undisturbed = copy()
    deliver(undisturbed)
    truth = content(uri(undisturbed))
    clients: list[Client] = []

    def failing(address: str) -> Client:
        clients.append(Client(connect(address), at, before))
        return clients[-1]

    for at in itertools.count(min(step, 5), step):
        begun = copy()
        with monkeypatch.context() as patch:
            patch.setattr(runs, "connect", failing)
            try:
                deliver(begun, keeps_links=before)
            except Fault:
                pass
            else:
                break
        deliver(begun)
        assert_same(content(uri(begun)), truth, f"call {at}")
    assert at > 30


def test_the_same_tracker_goes_on(
    copy: Callable[[], Open], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failure in the middle, with reports that came meanwhile."""
    undisturbed, begun = copy(), copy()
    deliver(undisturbed)
    client = Client(connect(uri(begun)), 20, False)
    monkeypatch.setattr(runs, "connect", lambda uri: client)
    session = begun()
    links: list[Event] = []
    tracker = Tracker(session, links.append, pytest.fail)
    with pytest.raises(Fault):
        tracker.deliver(last=False)
    session.record(*links)
    tracker.deliver(last=True)
    session.ledger.close()
    assert not tracker.behind
    assert_same(content(uri(begun)), content(uri(undisturbed)))


def test_a_study_of_an_earlier_segtune(copy: Callable[[], Open]) -> None:
    """Its trials' runs have no parent; they stay, and get all that they lack."""
    begun = copy()
    session = begun()
    client = connect(uri_ := f"sqlite:///{session.folder.parent}/mlflow.db")
    experiment = client.create_experiment("toy", (session.folder.parent / "old").as_uri())
    link = {"event": "mlflow", "experiment_id": experiment, "uri": uri_}
    assert session.state.study is not None
    for trial in session.state.trials:
        tags = {"trial_uid": f"{session.state.study['uid']}/{trial:04d}", "kind": "old"}
        run = client.create_run(experiment, 1, tags, f"toy-{trial:04d}")
        session.record(link, {"event": "mlflow", "trial": trial, "run_id": run.info.run_id,
                           "uri": uri_})  # fmt: skip
    before = {run.info.run_id for run in experiment_runs(client)}
    cursor = {"uri": uri_, "delivered": len(session.ledger.events)}
    (session.folder / "mlflow.json").write_text(json.dumps(cursor))
    session.ledger.close()
    deliver(begun)
    after = experiment_runs(client)
    assert {run.info.run_id for run in after} > before and len(after) == len(before) + 1
    fresh = copy()
    deliver(fresh)
    found, truth = content(uri_)["runs"], content(uri(fresh))["runs"]
    assert found.keys() == truth.keys()
    for name in truth:
        assert {**found[name], "times": 0} == {**truth[name], "times": 0}


def test_a_database_that_is_gone(copy: Callable[[], Open], empty_database: Path) -> None:
    """Everything is delivered again, to the same address."""
    begun = copy()
    deliver(begun)
    truth = content(uri(begun))
    database = Path(uri(begun).removeprefix("sqlite:///"))
    shutil.rmtree(database.with_name("mlflow-artifacts"))
    shutil.copy(empty_database, database)
    deliver(begun)
    assert_same(content(uri(begun)), truth)


def test_a_file_that_cannot_be_made(
    copy: Callable[[], Open], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is told once, and everything else is delivered."""

    def broken(*_: Any) -> None:
        raise RuntimeError("no picture today")

    monkeypatch.setattr("search.report.learning_curves.draw_trial", broken)
    begun = copy()
    session = begun()
    said: list[str] = []
    tracker = Tracker(session, lambda link: None, said.append)
    tracker.deliver(last=True)
    session.ledger.close()
    assert said == ["MLflow lacks a file (draw): RuntimeError: no picture today"]
    assert not tracker.behind
    assert "config.yaml" in content(uri(begun))["runs"]["0001"]["files"]


@pytest.mark.parametrize("kind", ["text", "half", "folder"])
def test_a_database_that_is_garbage(copy: Callable[[], Open], kind: str) -> None:
    """A study does not notice, its exit waits for nothing, and the lines say what to do."""
    session = copy()()
    database = session.folder.parent / "mlflow.db"
    if kind == "half":
        Tracker(session, lambda link: None, print).deliver(last=True)
        whole = database.read_bytes()
        (session.folder / "mlflow.json").unlink()
        database.write_bytes(whole[: len(whole) // 2])
    elif kind == "folder":
        database.unlink()
        database.mkdir()
    else:
        database.write_text("hello " * 99)
    said: list[str] = []
    with Tracker(session, lambda link: None, said.append):
        while not said:
            time.sleep(0.01)
        ends_s = time.monotonic()
    assert time.monotonic() - ends_s < 5
    todo = f"mv {database} {database}.damaged, and `segtune sync` writes another"
    assert [line.endswith(todo) for line in said] == [True, True] and len(said[0]) < 700
    session.ledger.close()
    with pytest.raises(ConfigError, match="does not answer") as error:
        sync(session.folder)
    assert str(error.value).endswith(todo)
