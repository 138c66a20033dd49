"""Messages as services want them, and what becomes of those that cannot be delivered."""

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from search.notify import couriers
from search.notify.couriers import Heartbeat, Messenger
from search.notify.messages import Message, request
from search.study.notify.section import Format, Kind
from search.study.notify.targets import Targets
from tests.search.notify.conftest import Listener

SECRET = "S3CR3T"


def told(event: Kind = "end", text: str = "toy: finished\nbest: toy:3") -> Message:
    return Message(event, text, {"study": "toy", "best": {"trial": 3}})


@pytest.mark.parametrize(
    ("form", "address", "content"),
    [
        ("slack", "https://h/a/b", {"text": "toy: finished\nbest: toy:3"}),
        ("discord", "https://h/a/b", {"content": "toy: finished\nbest: toy:3"}),
        (
            "ntfy",
            "https://h/a/",
            {
                "topic": "b",
                "title": "toy: finished",
                "message": "best: toy:3",
                "tags": ["white_check_mark"],
            },
        ),
        (
            "json",
            "https://h/a/b",
            {
                "text": "toy: finished\nbest: toy:3",
                "event": "end",
                "study": "toy",
                "best": {"trial": 3},
            },
        ),
    ],
)
def test_each_service_gets_what_it_takes(
    form: Format, address: str, content: dict[str, Any]
) -> None:
    assert request("https://h/a/b", form, told()) == (address, content)


def test_teams_gets_an_adaptive_card_with_a_block_a_line() -> None:
    _, content = request("https://h/a", "teams", told())
    assert content["type"] == "message"
    [attachment] = content["attachments"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    card = attachment["content"]
    assert (card["type"], card["version"]) == ("AdaptiveCard", "1.2")
    assert [block["text"] for block in card["body"]] == ["toy: finished", "best: toy:3"]


def test_a_webhook_is_told_and_all_that_waits_is_told_at_the_end(listener: Listener) -> None:
    said: list[str] = []
    messenger = Messenger(Targets(webhook=f"{listener.url}/{SECRET}"), said.append)
    messenger.start()
    for number in range(3):
        messenger.tell(told(text=str(number)))
    messenger.close(5)
    assert [(each.method, each.path) for each in listener.asked] == [("POST", f"/{SECRET}")] * 3
    assert [each.body["text"] for each in listener.asked] == ["0", "1", "2"] and not said


def test_of_many_new_bests_the_first_and_then_the_newest_is_told_but_none_beside_the_end(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(couriers, "BEST_EVERY_S", 0.5)
    messenger = Messenger(Targets(webhook=listener.url), print)
    messenger.start()
    messenger.tell(told("best", "0"))
    listener.wait_for(1)
    for number in range(1, 5):
        messenger.tell(told("best", str(number)))
    listener.wait_for(2)
    messenger.tell(told("best", "5"))
    messenger.tell(told("end", "6"))
    messenger.close(5)
    assert [each.body["text"] for each in listener.asked] == ["0", "4", "6"]


@pytest.mark.parametrize(
    ("status", "why"), [(404, "answers with status 404"), (302, "answers with status 302")]
)
def test_what_cannot_be_told_is_tried_again_and_is_one_line_without_secrets(
    listener: Listener, monkeypatch: pytest.MonkeyPatch, status: int, why: str
) -> None:
    monkeypatch.setattr(couriers, "RETRY_S", (0.01, 0.01))
    said: list[str] = []
    listener.status = status
    messenger = Messenger(Targets(webhook=f"{listener.url}/{SECRET}"), said.append)
    messenger.start()
    for _ in range(3):
        messenger.tell(told())
    listener.wait_for(3 * couriers.TRIES)
    messenger.close(5)
    assert said == [f"notify.webhook: {listener.url}/***: {why}: nobody was told"]
    assert {each.path for each in listener.asked} == {f"/{SECRET}"}  # it is sent nowhere else


def test_nobody_who_listens_is_one_line_and_one_who_never_answers_delays_no_end(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(couriers, "RETRY_S", (0.01, 0.01))
    said: list[str] = []
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        messenger = Messenger(Targets(webhook=f"{address}/{SECRET}"), said.append)
        messenger.start()
        messenger.tell(told())
        messenger.close(5)
    assert said == [f"notify.webhook: {address}/***: does not answer: nobody was told"]
    listener.delay_s = 2
    messenger = Messenger(Targets(webhook=listener.url), said.append)
    messenger.start()
    begun = time.monotonic()
    messenger.tell(told())
    assert time.monotonic() - begun < 0.1
    messenger.close(0.3)
    assert time.monotonic() - begun < 1


PROGRAM = """
import json, os, sys
path, status = sys.argv[1:]
variables = {name: os.environ[name] for name in ("SEGTUNE_EVENT", "SEGTUNE_TEXT", "SEGTUNE_BEST")}
with open(path, "a") as file:
    print(json.dumps([json.load(sys.stdin), variables]), file=file)
print("\\033[31mhttps://h/S3CR3T is away\\033[0m", file=sys.stderr)
sys.exit(int(status))
"""


def test_a_command_gets_a_message_on_stdin_and_as_variables_and_its_failure_is_one_line(
    tmp_path: Path,
) -> None:
    (program := tmp_path / "tell.py").write_text(PROGRAM)
    said: list[str] = []
    for status in (0, 3):
        command = f"{sys.executable} {program} '{tmp_path}/$HOME; out' {status}"  # no shell
        messenger = Messenger(Targets(command=command), said.append)
        messenger.start()
        messenger.tell(told("best", "new"))
        messenger.tell(told("end", "over"))
        messenger.close(20)
    lines = (tmp_path / "$HOME; out").read_text().splitlines()
    got = [json.loads(line) for line in lines]
    assert got[0] == [
        {"text": "over", "event": "end", "study": "toy", "best": {"trial": 3}},
        {"SEGTUNE_EVENT": "end", "SEGTUNE_TEXT": "over", "SEGTUNE_BEST": '{"trial": 3}'},
    ]
    [line] = said
    assert line.endswith("ended with status 3: https://h/*** is away: nobody was told")


def test_a_command_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(couriers, "COMMAND_S", 0.2)
    said: list[str] = []
    holds_stderr = "setsid sleep 600 & echo $! > pid; sleep 600"
    (tmp_path / "tell.sh").write_text(f"cd {tmp_path}; {holds_stderr}")
    messenger = Messenger(Targets(command=f"sh {tmp_path}/tell.sh"), said.append)
    messenger.start()
    messenger.tell(told())
    messenger.close(5)
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    assert said == ["notify.command: sh ***: took more than 0 s: nobody was told"]


@pytest.fixture
def heartbeat(listener: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Heartbeat:
    monkeypatch.setattr(Heartbeat, "LOOK_S", 0.02)
    monkeypatch.setattr(Heartbeat, "PERIOD_S", 0.1)
    return Heartbeat(f"{listener.url}/{SECRET}", lambda trial: tmp_path / f"{trial:04d}", print)


def test_a_heartbeat_beats_while_a_trial_gives_signs_of_life_and_not_while_all_hang(
    heartbeat: Heartbeat, listener: Listener, tmp_path: Path
) -> None:
    (tmp_path / "0007").mkdir()
    (alive := tmp_path / "0007" / "alive").touch()  # of an earlier attempt
    heartbeat.begun(7)
    heartbeat.start()
    time.sleep(0.3)
    assert not listener.asked
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        alive.touch()
        time.sleep(0.01)
    beats = len(listener.asked)
    assert 2 <= beats <= 6 and listener.asked[0][:2] == ("GET", f"/{SECRET}")
    time.sleep(0.3)  # it hangs
    assert len(listener.asked) <= beats + 1
    beats = len(listener.asked)
    heartbeat.reported()
    listener.wait_for(beats + 1)
    heartbeat.over(7)
    time.sleep(0.15)
    alive.touch()
    time.sleep(0.3)
    assert len(listener.asked) == beats + 1
    heartbeat.close()


def test_a_heartbeat_that_nobody_hears_is_one_line(
    heartbeat: Heartbeat, listener: Listener, capsys: pytest.CaptureFixture[str]
) -> None:
    listener.status = 500
    heartbeat.start()
    for _ in range(3):
        heartbeat.reported()
        listener.wait_for(len(listener.asked) + 1)
    heartbeat.close()
    line = f"notify.heartbeat: {listener.url}/***: answers with status 500"
    assert capsys.readouterr().out.splitlines() == [line]
