"""`segtune enqueue`, `stop STUDY:7`, `note`, and `launch` of a study that somebody runs."""

import json
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

import search.ledger.lease
from search.cli.main import main
from search.ledger.lease import BeingRun
from search.ledger.session import StudySession
from search.ledger.state import StudyState
from search.storage.requests import end_by_hand, leave, take_up, waiting
from search.storage.studies import open_as_driver, read_study
from tests.search import offline
from tests.search.conftest import Driver, write_study

SPACE = {
    "optimizer.lr": {"type": "float", "low": 1e-5, "high": 1e-1, "log": True},
    "loss.weighting": {"type": "categorical", "choices": ["fixed", "warm_in"]},
    "loss.warm_in_fraction": {
        "type": "float",
        "low": 0.01,
        "high": 0.1,
        "when": {"loss.weighting": ["warm_in"]},
    },
}


@pytest.fixture(scope="module")
def finished(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study `toy`, and `other`, whose space is another."""
    folder = tmp_path_factory.mktemp("finished") / "runs"
    offline.finished(folder / "toy", store)
    other = offline.study(store, study="other", space=SPACE)
    with offline.opened(other, folder / "other") as session:
        params = {"optimizer.lr": 0.05, "loss.weighting": "warm_in", "loss.warm_in_fraction": 0.05}
        for number, kind in enumerate(("control", "enqueued", "sampled")):
            proposed = {"event": "proposed", "trial": number, "params": params, "kind": kind}
            session.record(proposed | {"protected": kind != "sampled"})
    return folder


@pytest.fixture
def runs(finished: Path, tmp_path: Path) -> Path:
    """A copy of them."""
    return shutil.copytree(finished, tmp_path / "runs")


def segtune(runs: Path, *words: str, status: int = 0) -> str:
    result = CliRunner().invoke(main, [*words, "--runs", str(runs)])
    assert result.exit_code == status, result.output
    assert "Traceback" not in result.output
    return result.output


def state(runs: Path, study: str = "toy") -> StudyState:
    return read_study(runs / study)[1]


@pytest.fixture
def driven(runs: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StudySession]:
    """The study while this process has it, with a trial that waits; it takes up nothing itself."""
    monkeypatch.setattr("search.storage.requests.ANSWER_S", 0.0)
    config = offline.study(store)
    with offline.opened(config, runs / "toy") as session:
        proposed = {"event": "proposed", "trial": 7, "params": {"optimizer.lr": 1e-3}}
        session.record(proposed | {"kind": "sampled", "protected": False})
        yield session


def test_a_finished_study_takes_a_trial_at_its_next_launch(runs: Path) -> None:
    before = (runs / "toy" / "ledger.jsonl").read_bytes()
    said = segtune(runs, "enqueue", "toy", "optimizer.lr=2e-3", "--dry-run")
    assert "enqueue optimizer.lr=0.002; it would be the next at another launch" in said
    assert (runs / "toy" / "ledger.jsonl").read_bytes() == before
    assert "comes next when" in segtune(runs, "enqueue", "toy", "optimizer.lr=2e-3")
    said = segtune(runs, "status", "toy")
    assert "5 of 6 searched" in said and "optimizer.lr=0.002: comes at the next launch" in said
    assert "none; not finished" in said
    assert "enqueued by hand" in segtune(runs, "list")
    values = json.loads(segtune(runs, "status", "toy", "--json"))
    assert values["enqueued"] == [{"params": {"optimizer.lr": 0.002}}]
    assert (values["num_trials"], values["requests"], values["finished"]) == (6, 0, False)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["optimizer.lr=7"], "command line: optimizer.lr: 7: outside space.optimizer.lr"),
        (["lr=1e-3"], "command line: lr: not searched; did you mean optimizer.lr?"),
        (["model.width=8"], "only a reference (--reference NAME) may leave the space"),
        (["optimizer.lr"], "expected KEY=VALUE"),
        ([], "enqueue: needs KEY=VALUE or --like TRIAL"),
        (["--reference", "a b", "optimizer.lr=1"], "must be letters, digits and ._- only"),
        (["--reference", "control"], "--reference control: toy has one of that name"),
        (["--reference", "x", "model.width=-3"], "command line: model.width: -3"),
        (["--reference", "x", "epochs=3"], "epochs: cannot be set here"),
        (["--reference", "x", "epoch_images=3"], "must be equal in all trials"),
        (["--like", "toy:99"], "toy:99: no such trial"),
        (["--like", "toy:0"], "enqueue: needs KEY=VALUE or --like TRIAL"),
    ],
)
def test_a_trial_that_cannot_be(runs: Path, words: list[str], says: str) -> None:
    before = (runs / "toy" / "ledger.jsonl").read_bytes()
    for dry in ([], ["--dry-run"]):
        assert says in segtune(runs, "enqueue", "toy", *words, *dry, status=2).splitlines()[-1]
    assert (runs / "toy" / "ledger.jsonl").read_bytes() == before


def test_like_another_trial_as_far_as_this_space_goes(runs: Path) -> None:
    said = segtune(runs, "enqueue", "toy", "--like", "other:2")
    assert "left out of other:2: loss.weighting 'warm_in': is not searched here" in said
    said = segtune(runs, "enqueue", "other", "--like", "other:2", "loss.weighting=fixed")
    assert "loss.warm_in_fraction 0.05: is not searched beside the others" in said
    segtune(runs, "enqueue", "toy", "--like", "other:2", "--reference", "theirs")
    [ours, reference] = state(runs).enqueued
    assert ours["params"] == {"optimizer.lr": 0.05} and ours["like"] == "other:2"
    assert reference["params"]["loss.warm_in_fraction"] == 0.05
    [fixed] = state(runs, "other").enqueued
    assert fixed["params"] == {"optimizer.lr": 0.05, "loss.weighting": "fixed"}


def test_a_note_is_shown_wherever_the_trial_is(runs: Path) -> None:
    said = segtune(runs, "note", "toy:4", "looks\tgood,\x1b[31m but", "why?")
    assert said == "toy:4: noted: looks good, but why?\n"
    assert "\n† toy:4: looks good, but why?\n" in segtune(runs, "compare", "toy")
    assert "toy:4: looks good" in segtune(runs, "status", "toy")
    assert "looks good" in segtune(runs, "compare", "toy", "--csv")
    [row] = [
        row
        for row in json.loads(segtune(runs, "compare", "toy", "--json"))["trials"]
        if row["trial"] == 4
    ]
    assert row["notes"] == ["looks good, but why?"]
    for words, says in (
        (["toy", "x"], "needs a trial, as in toy:7"),
        (["toy:99", "x"], "no such trial; there are 0 to 6"),
        (["toy:1", " "], "note: is empty"),
        (["toy:1", "x" * 501], "note: has 501 characters, but may have 500"),
    ):
        assert says in segtune(runs, "note", *words, status=2)


def test_a_trial_of_a_study_that_nobody_runs_ends_at_once(runs: Path) -> None:
    assert segtune(runs, "stop", "other:2") == "other:2: ended as stopped\n"
    trial = state(runs, "other").trials[2]
    assert (trial.ending, trial.reason) == ("stopped", "by hand")
    assert "has ended: stopped (by hand)" in segtune(runs, "stop", "other:2", status=2)
    assert "has ended: completed" in segtune(runs, "stop", "toy:3", status=2)
    assert "no such trial; there are 0 to 2" in segtune(runs, "stop", "other:7", status=2)


def test_whoever_runs_the_study_is_asked(runs: Path, driven: StudySession) -> None:
    assert "asked pid" in segtune(runs, "enqueue", "toy", "optimizer.lr=2e-3")
    assert "asked pid" in segtune(runs, "note", "toy:7", "slow")
    assert "asked pid" in segtune(runs, "stop", "toy:7")
    assert "3 requests that wait for the driver" in segtune(runs, "status", "toy")
    take_up(driven)
    end_by_hand(driven, {7})
    said = segtune(runs, "status", "toy")
    assert "toy:7: asked to stop" in said and "optimizer.lr=0.002: comes next" in said
    assert "toy:7: slow" in said and "wait for the driver" not in said
    assert "was asked to stop already" in segtune(runs, "stop", "toy:7", status=2)


def test_what_no_driver_took_up_is_done_before_what_is_asked_next(
    runs: Path, driven: StudySession
) -> None:
    segtune(runs, "note", "toy:7", "first")
    driven.ledger.close()
    assert "1 request that waits for the next launch" in segtune(runs, "status", "toy")
    segtune(runs, "note", "toy:7", "second")
    assert state(runs).trials[7].notes == ["first", "second"] and not waiting(runs / "toy")


def test_launch_asks_the_driver_for_what_may_change(
    runs: Path, driven: StudySession, tmp_path: Path
) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(driven.study.model_dump(mode="json")))
    for dry in ([], ["--dry-run"]):
        assert "is being run by pid" in segtune(runs, "launch", str(path), *dry, status=2)
        said = segtune(runs, "launch", str(path), "seed=9", *dry, status=2)
        assert "seed: 9: this study was begun with 1" in said
    words = ["budget.epochs=99", "trials.max_concurrent=3", "trials.cpus_per_trial=2"]
    said = segtune(runs, "launch", str(path), *words, "--dry-run")
    assert "budget.epochs: 99, was not given" in said and not waiting(runs / "toy")
    said = segtune(runs, "launch", str(path), *words)
    assert "asked pid" in said and "trials.max_concurrent: 3, was not given" in said
    assert "trials.cpus_per_trial: 2, was 1; of attempts that start from now on" in said
    take_up(driven)
    assert driven.study.budget.epochs == 99 and driven.study.trials.max_concurrent == 3
    written = yaml.safe_load((runs / "toy" / "study.yaml").read_text())
    assert written["budget"]["epochs"] == 99
    assert "is being run by pid" in segtune(runs, "launch", str(path), *words, status=2)
    driven.ledger.close()
    said = segtune(runs, "launch", str(path), "--if-running", status=2)
    assert "nobody runs it any more" in said


def test_what_the_driver_declines_is_an_error_of_the_command(
    runs: Path, driven: StudySession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As two people who ask for the same at once."""
    monkeypatch.setattr("search.storage.requests.ANSWER_S", 30.0)

    def take_up_both(folder: Path, request: dict[str, Any]) -> str:
        for each in (request, request):
            name = leave(folder, each)
        Timer(0.3, take_up, [driven]).start()
        return name

    monkeypatch.setattr("search.storage.requests.leave", take_up_both)
    said = segtune(runs, "stop", "toy:7", status=2)
    assert "toy:7: was asked to stop already" in said


@pytest.mark.slow
def test_a_hand_on_a_study_that_ray_runs(
    drive: Callable[..., Driver], store: Path, tmp_path: Path, mlflow_uri: str
) -> None:
    """A trial more, one less, a note and another budget; a kill loses and doubles nothing."""
    study = write_study(
        tmp_path,
        store,
        toy={"slow": 0.5},
        scheduler={"type": "none", "max_t": 9},
        trials={"num_trials": 1, "cpus_per_trial": 2},
    )
    driver = drive(study)
    driver.wait_for(lambda: len(driver.events("reported")) > 1)
    running = driver.events("started")[0]["trial"]
    started_s = time.monotonic()
    segtune(tmp_path, "enqueue", "toy", "optimizer.lr=5e-3")
    segtune(tmp_path, "stop", f"toy:{running}")
    segtune(tmp_path, "note", f"toy:{running}", "no use")
    segtune(tmp_path, "launch", str(study), "budget.epochs=1000", "trials.max_concurrent=1")
    driver.wait_for(lambda: driver.events("ended"))
    assert time.monotonic() - started_s < 20
    [ended] = driver.events("ended")
    assert (ended["trial"], ended["ending"], ended["reason"]) == (running, "stopped", "by hand")
    assert 0 < ended["epoch"] < 9
    driver.wait_for(lambda: driver.events("note"))
    driver.wait_for(lambda: len(driver.events("study")) == 2)
    # Stopped, it leaves a request between the file and the event; then it is killed.
    driver.process.send_signal(signal.SIGSTOP)
    segtune(tmp_path, "enqueue", "toy", "optimizer.lr=7e-3")
    driver.kill()
    again = yaml.safe_load(study.read_text()) | {"budget": {"epochs": 1000}}
    again["trials"]["max_concurrent"] = 1
    study.write_text(yaml.safe_dump(again))
    (tmp_path / "toy" / "toy" / "slow").write_text("0")
    drive(study).finish()
    found = state(tmp_path)
    by_hand = [trial.params["optimizer.lr"] for trial in found.searched() if trial.request]
    assert by_hand == [5e-3, 7e-3] and len(found.searched()) == 3
    assert not found.live() and found.trials[running].notes == ["no use"]
    assert max(trial.number for trial in found.trials.values() if trial.request) == 3

    from mlflow import MlflowClient

    client = MlflowClient(mlflow_uri)
    run = client.get_run(found.trials[running].mlflow_run_id)
    assert run.data.tags["mlflow.note.content"] == "no use"
    assert run.data.tags["reason"] == "by hand" and run.info.status == "FINISHED"


def test_a_study_that_is_asked_to_stop_as_soon_as_it_has_a_driver_stops(runs: Path) -> None:
    """And what an earlier driver was asked does not end this one."""
    (sign := runs / "other" / "stop").touch()
    with open_as_driver(runs / "other"):
        assert not sign.exists()
        assert "to stop; `segtune launch` continues it" in segtune(runs, "stop", "other")
        with pytest.raises(BeingRun), open_as_driver(runs / "other"):
            pass
        assert sign.exists()
    sign.touch()
    asked_while_it_starts = Timer(0, sign.touch)
    waits = search.ledger.lease._wait_for_death

    def meanwhile(path: Path) -> None:
        waits(path)
        asked_while_it_starts.start()
        asked_while_it_starts.join()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search.ledger.lease, "_wait_for_death", meanwhile)
        with open_as_driver(runs / "other"):
            assert sign.exists()


def test_a_study_that_stopped_before_its_first_trial_has_no_empty_table(
    store: Path, tmp_path: Path
) -> None:
    with offline.opened(offline.study(store, study="begun"), tmp_path / "begun"):
        pass
    said = segtune(tmp_path, "compare", "begun")
    assert "\nnothing reported yet\n" in said and "AVD" not in said and "interval" not in said
