"""`segtune logs`: what a trial printed and what happened in a study, also while it goes on."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from search.cli.main import main
from search.ledger.session import StudySession
from search.monitor import logs
from search.workflows.explain import render
from tests.search import offline

STARTED = {"attempt": 1, "host": "h", "pid": 1, "cpu": "", "threads": 1}


@pytest.fixture
def session(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StudySession]:
    monkeypatch.setattr(logs, "EVERY_S", 0.02)
    with offline.opened(offline.study(store), tmp_path / "toy") as session:
        offline.propose(session)
        session.record({"event": "started", "trial": 2, **STARTED})
        yield session


def write_log(session: StudySession, text: str, trial: int = 2) -> Path:
    path = session.trial_dir(trial) / "log.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def segtune(session: StudySession, *words: str) -> Result:
    return CliRunner().invoke(main, ["logs", *words, "--runs", str(session.folder.parent)])


def test_escape_sequences_and_control_characters_are_not_shown(session: StudySession) -> None:
    write_log(
        session,
        "\x1b[1;31mred\x1b[0m\tand \x1b]0;title\x07tab\r\n\x1b]8;;http://h\x1b\\link\x1b[2J\a\n"
        "10 %\r55 %\r100 %\nbell\x9b31m\u202e\n\x1bcreset, ä and no \udcff end".encode(
            errors="surrogateescape"
        ).decode(errors="replace"),
    )
    shown = segtune(session, "toy:2")
    expected = "red\tand tab\nlink\n100 %\nbell\nreset, ä and no \ufffd end\n"
    assert (shown.exit_code, shown.output) == (0, expected)
    assert segtune(session, "toy", "2").output == expected


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["toy:9"], "toy:9: no such trial; there are 0 to 6"),
        (["toy:3"], "toy:3: has no log: it has not begun"),
        (["toy:2", "3"], "toy:2: names a trial already: leave 3 out"),
        (["toi:2"], "toi: no such study; did you mean toy?"),
    ],
)
def test_what_has_no_log_is_said(session: StudySession, words: list[str], line: str) -> None:
    answer = segtune(session, *words)
    assert answer.exit_code == 2 and answer.output.strip().endswith(line)


def test_a_log_is_followed_until_its_trial_ends_also_when_it_is_cut(
    session: StudySession, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_log(session, "one\ntw")
    follower = threading.Thread(
        target=logs.show_trial, args=(session.folder, 2), kwargs={"follow": True}
    )
    follower.start()
    shown = _read(capsys, "one\n")
    assert shown == "one\n"  # a line is shown when it is whole
    three = f"three {'x' * logs.ANCHOR}\n"
    path.write_text(f"one\ntwo\n{three}")
    assert _read(capsys, three) == f"two\n{three}"
    path.write_text(f"[segtune: 8 bytes are left out here]\n{three}four\n")
    assert _read(capsys, "four\n") == "four\n"
    path.write_text("[segtune: 19 bytes are left out here]\nfive\nlast")
    offline.end(session, session.state.trials[2], "failed", "ImportError: no")
    follower.join(60)
    assert not follower.is_alive()
    end = "[segtune: 19 bytes are left out here]\nfive\nlast\n"
    assert capsys.readouterr().out == end


def _read(capsys: pytest.CaptureFixture[str], last: str) -> str:
    text, end = "", time.monotonic() + 60
    while not text.endswith(last):
        assert time.monotonic() < end, text
        text += capsys.readouterr().out
        time.sleep(0.01)
    return text


def test_ctrl_c_leaves_a_log_and_a_study_without_a_traceback(
    session: StudySession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    write_log(session, "one\n")
    monkeypatch.setattr(logs.time, "sleep", interrupted)
    for words in (["toy:2"], ["toy"]):
        answer = segtune(session, *words, "--follow")
        assert answer.exit_code == 0 and "Traceback" not in answer.output
    assert "driver pid" in answer.output


def test_a_study_says_what_happened_and_where_more_is(session: StudySession) -> None:
    write_log(session, "Traceback\n")
    offline.end(session, session.state.trials[2], "failed", "ImportError: \x1b[31mno")
    said = segtune(session, "toy").output.splitlines()
    assert said[0].startswith("--- 20") and "  driver pid " in said[0]
    [ended] = [line for line in said if "failed " in line]
    assert "trial    2  failed      at epoch 0: ImportError: no" in ended
    assert said[-1] == "What trials printed: segtune logs toy:2; 1 have a log"


def test_everybody_names_the_log_of_a_trial_that_failed(session: StudySession) -> None:
    from search.monitor.status import render as render_status
    from search.monitor.status import status
    from search.report.csv_table import csv_table
    from search.report.leaderboard import leaderboard_text
    from search.report.page_data import gather
    from search.workflows.explain import explain

    path = write_log(session, "Traceback\n")
    offline.end(session, session.state.trials[2], "failed", "ImportError: no")
    line = f"ImportError: no; log: {path}"
    assert f"failed      toy:2, {line}" in render_status(status(session.folder))
    page = gather(session.folder)
    assert f"toy:2 failed: {line}" in leaderboard_text(page, None)
    [row] = [row for row in page["trials"] if row["trial"] == 2]
    assert row["log"] == str(path) and str(path) in csv_table([page])
    assert f"What it printed: {path}" in render(explain(session.folder, 2)).replace("\n", " ")


def test_nobody_waits_for_a_fifo_in_place_of_a_log(session: StudySession) -> None:
    write_log(session, "").unlink()
    os.mkfifo(session.trial_dir(2) / "log.txt")
    shown = segtune(session, "toy:2")
    assert shown.exit_code == 2 and "log.txt: is no regular file" in shown.output
