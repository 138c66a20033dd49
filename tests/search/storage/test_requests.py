"""Requests as files that somebody else wrote, taken up once, whatever happens to the driver."""

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from search.ledger.session import StudySession
from search.storage import requests
from search.storage.requests import end_by_hand, leave, new_name, take_up, waiting
from tests.search import offline


@pytest.fixture
def session(store: Path, tmp_path: Path) -> Iterator[StudySession]:
    """A study with its whole plan, of which no trial has begun."""
    config = offline.study(store)
    with offline.opened(config, tmp_path / "toy") as session:
        offline.propose(session)
        yield session


def kinds(session: StudySession) -> list[str]:
    return [event["event"] for event in session.ledger.events if "request" in event]


def test_they_are_taken_up_in_their_order_and_go(session: StudySession) -> None:
    leave(session.folder, {"kind": "note", "trial": 2, "text": "first"})
    leave(session.folder, {"kind": "note", "trial": 2, "text": "second"})
    leave(session.folder, {"kind": "enqueue", "params": {"optimizer.lr": 1e-3}})
    leave(session.folder, {"kind": "stop", "trial": 3})
    assert len(waiting(session.folder)) == 4
    take_up(session)
    assert kinds(session) == ["note", "note", "enqueued", "stop_asked"]
    assert session.state.trials[2].notes == ["first", "second"]
    assert not waiting(session.folder) and not list((session.folder / "requests").iterdir())
    take_up(session)
    assert len(kinds(session)) == 4


def test_a_driver_killed_before_it_deletes_one_does_not_do_it_again(
    session: StudySession, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(session.folder, {"kind": "enqueue", "params": {"optimizer.lr": 1e-3}})
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda path, **_: (_ for _ in ()).throw(OSError("killed")))
        take_up(session)
    assert waiting(session.folder) and kinds(session) == ["enqueued"]
    session.ledger.close()
    with offline.opened(session.study, session.folder) as again:
        take_up(again)
        assert kinds(again) == ["enqueued"] and not waiting(again.folder)


def test_a_driver_killed_before_the_event_leaves_it_to_the_next(session: StudySession) -> None:
    leave(session.folder, {"kind": "note", "trial": 1, "text": "look here"})
    session.ledger.close()
    with offline.opened(session.study, session.folder) as again:
        take_up(again)
        assert again.state.trials[1].notes == ["look here"]


def planted(folder: Path, what: str) -> None:
    path = folder / "requests" / f"{new_name()}.json"
    path.parent.mkdir(exist_ok=True)
    match what:
        case "a link":
            path.symlink_to("/etc/passwd")
        case "a pipe":
            os.mkfifo(path)
        case "a folder":
            path.mkdir()
        case "too large":
            path.write_bytes(b" " * (requests.MAX_BYTES + 1))
        case "deep":
            path.write_text("[" * 100_000)
        case "torn":
            path.write_text('{"kind": "no')
        case "no text":
            path.write_bytes(b"\xff\xfe\x00")
        case _:
            path.write_text(what)


BAD: list[Any] = [
    [],
    {"kind": "rm -rf", "trial": 1},
    {"kind": ["note"]},
    {"kind": "note", "trial": 99, "text": "x"},
    {"kind": "note", "trial": "1", "text": "x"},
    {"kind": "note", "trial": 1, "text": ["x"]},
    {"kind": "note", "trial": 1, "text": "\x1b\x07"},
    {"kind": "note", "trial": 1, "text": "x" * 501},
    {"kind": "stop", "trial": 2},
    {"kind": "enqueue"},
    {"kind": "enqueue", "params": {}},
    {"kind": "enqueue", "params": {"optimizer.lr": 7}},
    {"kind": "enqueue", "params": {"optimizer.lr": "\x1b[31m"}},
    {"kind": "enqueue", "params": {"optimizer.lr": float("nan")}},
    {"kind": "enqueue", "params": {"__class__": 1}},
    {"kind": "enqueue", "params": {"optimizer.lr": 1e-3}, "reference": "../../x"},
    {"kind": "enqueue", "params": {"optimizer.lr": 1e-3}, "reference": 7},
    {"kind": "enqueue", "params": {"optimizer.lr": 1e-3}, "reference": "control"},
    {"kind": "settings"},
    {"kind": "settings", "config": {"study": "toy"}},
]


@pytest.mark.parametrize(
    "what",
    ["a link", "a pipe", "a folder", "too large", "deep", "torn", "no text", *map(json.dumps, BAD)],
)
def test_what_is_no_request_is_declined_in_a_line(session: StudySession, what: str) -> None:
    offline.end(session, session.state.trials[2], "completed")
    planted(session.folder, what)
    take_up(session)
    [declined] = session.state.declined
    assert kinds(session) == ["declined"]
    for text in (declined["what"], declined["reason"]):
        assert text and text.isprintable() and len(text) <= 500
    take_up(session)
    assert kinds(session) == ["declined"], "once"


def test_one_that_cannot_be_read_now_is_taken_up_later(
    session: StudySession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(path: Path) -> dict[str, Any]:
        raise OSError(errno.ESTALE, "Stale file handle")

    leave(session.folder, {"kind": "note", "trial": 2, "text": "later"})
    with monkeypatch.context() as patch:
        patch.setattr(requests, "_read", away)
        take_up(session)
    assert not kinds(session) and len(waiting(session.folder)) == 1
    take_up(session)
    assert session.state.trials[2].notes == ["later"] and not waiting(session.folder)


def test_other_files_are_left_alone(session: StudySession) -> None:
    folder = session.folder / "requests"
    folder.mkdir()
    for name in ("readme.json", ".1764301000123456-x.json.1.tmp", f"{new_name()}.txt"):
        (folder / name).write_text("{}")
    take_up(session)
    assert not kinds(session) and len(list(folder.iterdir())) == 3


def test_a_trial_that_waits_ends_without_starting(session: StudySession) -> None:
    leave(session.folder, {"kind": "stop", "trial": 2})
    leave(session.folder, {"kind": "stop", "trial": 3})
    take_up(session)
    end_by_hand(session, {3})
    stopped, asked = session.state.trials[2], session.state.trials[3]
    assert (stopped.ending, stopped.reason) == ("stopped", "by hand") and stopped.stopped_by_hand
    assert asked.ending is None and (session.trial_dir(3) / "stop").exists()
    end_by_hand(session)
    assert asked.ending == "stopped"


def test_other_settings_count_at_once_and_stay(session: StudySession) -> None:
    config = session.study.model_dump(mode="json")
    config["budget"]["epochs"] = 7
    config["trials"] |= {"num_trials": 9, "max_concurrent": 2}
    leave(session.folder, {"kind": "settings", "config": config})
    take_up(session)
    assert session.study.budget.epochs == 7 and session.study.trials.max_concurrent == 2
    assert session.state.num_trials(session.study) == 9
    assert "max_concurrent: 2" in (session.folder / "study.yaml").read_text()
    [event] = [event for event in session.ledger.events if event.get("request")]
    assert event["changed"] == [
        "budget.epochs: 7, was not given",
        "trials.max_concurrent: 2, was not given",
        "trials.num_trials: 9, was 5",
    ]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seed": 2}, "seed: 2: this study was begun with 1"),
        ({"trials": {"num_trials": 4}}, "can only be raised"),
        ({"trials": {"num_trials": 5, "gpus_per_trial": 1}}, "needs another launch"),
        ({"trials": {"num_trials": 5, "cpus_per_trial": 9}}, "no room"),
        ({}, "has these settings already"),
    ],
)
def test_settings_that_it_cannot_have_now(
    session: StudySession, change: dict[str, Any], says: str
) -> None:
    config = session.study.model_dump(mode="json", exclude_unset=True) | change
    leave(session.folder, {"kind": "settings", "config": config})
    take_up(session, fits=lambda study: "no room" if study.trials.cpus_per_trial > 8 else "")
    [declined] = session.state.declined
    assert says in declined["reason"]


def test_what_was_imported_is_there_still_when_settings_change_before_the_first_trial(
    store: Path, tmp_path: Path
) -> None:
    config = offline.study(store)
    imported = {"event": "imported", "source": "old", "uid": "u", "source_trial": 1}
    imported |= {"params": {"optimizer.lr": 1e-3}, "values": [[1, 0.5]], "ending": "completed"}
    with offline.opened(config, tmp_path / "toy") as session:
        session.record(imported)
        wanted = config.model_dump(mode="json")
        wanted["budget"]["epochs"] = 7
        leave(session.folder, {"kind": "settings", "config": wanted})
        take_up(session)
        assert [event["source_trial"] for event in session.state.imported] == [1]
