"""What a driver tells, and when."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from search.ledger.session import StudySession
from search.notify import couriers
from search.notify.notices import Notices
from tests.search import offline
from tests.search.conftest import Driver, write_study
from tests.search.notify.conftest import Listener


@pytest.fixture
def session(store: Path, tmp_path: Path, listener: Listener) -> Iterator[StudySession]:
    config = offline.study(store, notify={"webhook": listener.url})
    with offline.opened(config, tmp_path / "toy") as session:
        offline.propose(session)
        yield session


def texts(listener: Listener) -> list[tuple[str, str]]:
    return [(each.body["event"], each.body["text"].splitlines()[0]) for each in listener.asked]


def with_notices(session: StudySession, **changes: Any) -> Notices:
    notify = session.study.notify.model_copy(update=changes)
    session.study = session.study.model_copy(update={"notify": notify})
    return Notices(session, print)


def test_a_new_best_and_the_end_are_told_once(
    session: StudySession, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(couriers, "BEST_EVERY_S", 0.0)
    with Notices(session, print) as notices:
        for trial in session.live():
            before = len(listener.asked)
            offline.train(session, trial)
            if trial.number in (3, 4):
                listener.wait_for(before + 1)
        notices.ended(broken=False)
    told = texts(listener)
    assert told[-1] == ("end", "toy: finished") and {event for event, _ in told[:-1]} == {"best"}
    assert "toy: new best: toy:4, val/dice" in told[-2][1]
    last = listener.asked[-1].body
    assert last["best"]["trial"] == 4 and last["standing"] == "finished" and not last["failed"]
    assert "\nbest: toy:4, val/dice 0." in last["text"]
    assert not any(number in text for _, text in told for number in ("toy:0,", "toy:1,"))


def test_what_failed_is_told_with_its_reason_and_its_log(
    session: StudySession, listener: Listener
) -> None:
    run_dir = session.trial_dir(2)
    run_dir.mkdir(parents=True)
    (run_dir / "log.txt").write_text("Traceback\n")
    where = {"host": "h", "pid": 1, "cpu": "", "threads": 1, "commit": "", "versions": {}}
    reason = "ImportError: no such thing"
    with Notices(session, print) as notices:
        session.record(
            {"event": "started", "trial": 2, "attempt": 1, **where},
            {"event": "ended", "trial": 2, "ending": "failed", "epoch": 0, "reason": reason},
        )
        session.broken = f"3 trials failed and none has reported: {reason}"
        notices.ended(broken=True)
    assert texts(listener) == [("broken", f"toy: is broken: {session.broken}")]
    said = listener.asked[0].body["text"].splitlines()[-1]
    assert said == f"1 failed, the last toy:2: {reason}; log: {run_dir}/log.txt"


def test_a_budget_that_ends_and_a_stop_are_told(session: StudySession, listener: Listener) -> None:
    with Notices(session, print) as notices:
        session.record({"event": "budget", "what": "epochs", "spent": 12, "limit": 10})
        notices.ended(broken=False)
    with Notices(session, print) as notices:
        session.stopping = "SIGTERM"
        notices.ended(broken=False)
    (first, budget), (second, stopped) = texts(listener)
    assert (first, budget) == ("budget", "toy: not finished: the budget of 10 epochs is spent")
    assert (second, stopped) == ("end", "toy: stopped (SIGTERM); not finished")


def test_an_error_that_ends_the_driver_is_told_and_goes_on(
    session: StudySession, listener: Listener
) -> None:
    with pytest.raises(OSError, match="full"), Notices(session, print):
        raise OSError("the disk is full\nindeed")
    with pytest.raises(KeyboardInterrupt), Notices(session, print):
        raise KeyboardInterrupt
    assert texts(listener) == [
        ("broken", "toy: its driver ended with an error: OSError: the disk is full")
    ]


def test_only_what_is_wanted_is_told_and_an_end_of_any_kind_is_an_end(
    session: StudySession, listener: Listener
) -> None:
    with with_notices(session, on=("end",)) as notices:
        notices.ended(broken=True)
    with with_notices(session, on=("best",)) as notices:
        notices.ended(broken=True)
    assert texts(listener) == [("end", "toy: is broken: its trials only fail")]


@pytest.mark.slow  # 20 s
def test_a_driver_tells_of_its_budgets_end_and_keeps_no_secret(
    tmp_path: Path, store: Path, drive: Callable[..., Driver], listener: Listener
) -> None:
    """Nothing below the studies' folder has it, MLflow's database and the printed lines neither."""
    secret = "T0S3CR3T"
    notify = {"webhook": f"{listener.url}/{secret}", "command": f"false --token {secret}"}
    study = write_study(tmp_path / "own", store, notify=notify, budget={"epochs": 4})
    driver = drive(study, runs=tmp_path / "runs", uri=f"sqlite:///{tmp_path}/runs/mlflow.db")
    said = driver.finish()
    event, text = texts(listener)[-1]
    assert event == "budget" and text.startswith("toy: not finished: the budget of 4 epochs")
    assert "notify.command: false --token ***: ended with status 1: nobody was told" in said
    found = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert len(found) > 10 and driver.log in found
    assert not [path for path in found if secret.encode() in path.read_bytes()]
    assert f"{listener.url}/***" in (driver.folder / "study.yaml").read_text()
