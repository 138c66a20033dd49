"""A study folder from somebody else: its text only prints, and what is wrong with it is a line."""

import csv
import io
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from search.cli.main import main
from search.ledger.journal import Ledger
from search.ledger.state import StudyState
from search.storage.modes import begin_for_group, check_group, modes_of
from tests.search.analysis.test_results import TRIALS, write
from trainer.configfile import ConfigError

NASTY = (
    "\x1b]52;c;aGk=\x07\x1b]8;;http://x\x1b\\link\x1b[2J\x1b[31m\x9b5m\u202eevil</script>\nforged"
)
SAFE = "linkevil</script>"


def run(folder: Path, *words: str, status: int = 0) -> str:
    command, *rest = words
    result = CliRunner().invoke(main, [command, folder.name, *rest, "--runs", str(folder.parent)])
    assert result.exit_code == status, result.output
    assert "Traceback" not in result.output
    return result.output


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A study with NASTY text in all that a stranger may write."""
    folder = write(tmp_path / "runs" / "demo", TRIALS)
    with Ledger.open(folder / "ledger.jsonl", writer=True) as ledger:
        params = {"optimizer.lr": f"=cmd|{NASTY}", NASTY: -0.3}
        about = {"trial": 7, "params": params, "kind": "sampled", "protected": False}
        ledger.append({"event": "proposed", **about})
        about = {"trial": 7, "attempt": 1, "host": f"@host{NASTY}", "pid": 1}
        ledger.append({"event": "started", **about})
        metrics = {"val/dice": -0.3, NASTY: 1.0}
        ledger.append({"event": "reported", "trial": 7, "epoch": 1, "value": -0.3,
                       "metrics": metrics})  # fmt: skip
        ledger.append({"event": "ended", "trial": 7, "epoch": 1, "ending": "failed",
                       "reason": f"-1+{NASTY}"})  # fmt: skip
        ledger.append({"event": "note", "trial": 3, "text": NASTY, "request": NASTY})
        ledger.append({"event": "declined", "request": "r", "what": NASTY, "reason": NASTY})
        ledger.append({"event": "exhausted", "reason": NASTY})
    return folder


def test_no_control_character_of_a_ledger_reaches_a_terminal(folder: Path) -> None:
    for words in (
        *(["compare"], ["compare", "demo"], ["status"], ["logs"], ["status", "--json"]),
        *(["compare", "--json"], ["status", "--watch"]),
    ):
        said = run(folder, *words)
        assert not [c for c in said if not c.isprintable() and c != "\n"], words
        assert not said.count("\nforged"), words
    assert SAFE in run(folder, "compare") and SAFE in run(folder, "logs")
    listed = CliRunner().invoke(main, ["list", "--runs", str(folder.parent)]).output
    assert "demo" in listed and "\x1b" not in listed


def test_cells_of_csv_are_text_and_numbers_stay_numbers(folder: Path) -> None:
    said = run(folder, "compare", "--csv")
    rows = list(csv.DictReader(io.StringIO(said)))
    [row] = [row for row in rows if row["trial"] == "7"]
    assert row["hosts"].startswith("'@host") and row["reason"].startswith("'-1+")
    assert row["optimizer.lr"].startswith("'=cmd|") and row["last_value"] == "-0.3"
    assert not [c for c in said if not c.isprintable() and c != "\n"]


def test_the_page_has_no_control_character_and_no_end_of_a_script(folder: Path) -> None:
    out = folder.parent / "page.html"
    run(folder, "compare", "--html", str(out))
    text = out.read_text(encoding="utf-8")
    assert not [c for c in text if not c.isprintable() and c not in "\n\t"]
    data = text.partition('id="data">')[2].partition("</script>")[0]
    assert SAFE in json.loads(data)["studies"][0]["trials"][0]["notes"][0]


def test_text_that_is_no_text_does_not_break_the_page(folder: Path) -> None:
    with Ledger.open(folder / "ledger.jsonl", writer=True) as ledger:
        ledger.append({"event": "note", "trial": 3, "text": "half \ud800", "request": "s"})
    out = folder.parent / "page.html"
    run(folder, "compare", "--html", str(out))
    assert "half \\ud800" in out.read_text(encoding="utf-8")


DEEP: Any = 0
for _ in range(500):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "event",
    [
        {"event": "proposed", "trial": 8, "params": [1], "kind": "sampled", "protected": False},
        {"event": "proposed", "trial": "8", "params": {}, "kind": "sampled", "protected": False},
        {"event": "proposed", "trial": 10**300, "params": {}, "kind": "x", "protected": False},
        {"event": "proposed", "trial": 8, "params": {"a": DEEP}, "kind": "x", "protected": False},
        {"event": "reported", "trial": 6, "epoch": 9, "value": "high", "metrics": {}},
        {"event": "reported", "trial": 6, "epoch": 1e9, "value": 1.0, "metrics": {}},
        {"event": "reported", "trial": 6, "epoch": 9, "value": 1.0, "metrics": {"val/dice": "x"}},
        {"event": "note", "trial": 3, "text": ["a"], "request": "r"},
        {"event": "verdict", "on": "/../../x", "comparisons": [], "scores": []},
        {"event": "painted", "trial": 3, "epoch": 9, "files": [7], "seconds": 1.0},
        {"event": "ended", "trial": 6},
        {"event": "unheard of"},
    ],
)
def test_an_event_that_no_driver_writes_is_one_line(folder: Path, event: dict[str, Any]) -> None:
    with Ledger.open(folder / "ledger.jsonl", writer=True) as ledger:
        ledger.append(event)
    for command in ("compare", "status"):
        [line] = run(folder, command, status=2).splitlines()
        assert line.startswith(f"{folder}/ledger.jsonl: ")


def test_what_a_command_writes_is_never_for_all_to_change(folder: Path) -> None:
    out = folder.parent / "page.html"
    before = os.umask(0)
    try:
        run(folder, "compare", "--html", str(out))
        noted = CliRunner().invoke(main, ["note", "demo:3", "x", "--runs", str(folder.parent)])
        assert noted.exit_code == 0, noted.output
    finally:
        os.umask(before)
    assert not out.stat().st_mode & 0o022


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that other users reach, which goes."""
    folder = Path(tempfile.mkdtemp(prefix="segtune-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_a_group_that_cannot_be_is_refused_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--group no-such: no such group on this machine"):
        check_group("no-such", tmp_path)
    folder = write(tmp_path / "runs" / "demo", TRIALS)
    with pytest.raises(ConfigError, match="named when it is begun"):
        check_group("daemon" if os.geteuid() == 0 else _own_group(), folder)


def _own_group() -> str:
    import grp

    return grp.getgrgid(os.getegid()).gr_name


STRANGER, MEMBERS = 64987, 1
"""A user without a name, and the group `daemon`, which every Debian has."""


@pytest.mark.skipif(os.geteuid() != 0, reason="makes files of another user: needs root")
def test_a_member_of_the_group_annotates_stops_and_enqueues_through_the_files(public: Path) -> None:
    """And another user can do nothing; nothing is writable by all, and the ledger says who did."""
    runs = public / "runs"
    begin_for_group("daemon", runs / "demo")
    before = os.umask(0)
    try:
        with modes_of(runs / "demo"):
            folder = write(runs / "demo", {**TRIALS, 7: ("sampled", [0.2], None)})
    finally:
        os.umask(before)
    modes = [path.stat() for path in (folder, *folder.rglob("*"))]
    assert all(mode.st_gid == MEMBERS and mode.st_mode & 0o022 == 0o020 for mode in modes)
    assert all(m.st_mode & stat.S_ISGID for m in modes if stat.S_ISDIR(m.st_mode))

    def by(groups: list[int], *words: str) -> tuple[int, str]:
        """Run a command as a stranger, in a fork: its Python may be where only root reads."""
        with tempfile.TemporaryFile() as said:
            if (pid := os.fork()) == 0:
                status = 99
                try:
                    os.setgroups(groups)
                    os.setgid(STRANGER)
                    os.setuid(STRANGER)
                    os.umask(0o077)
                    result = CliRunner().invoke(main, [*words, "--runs", str(runs)])
                    os.write(said.fileno(), f"{result.output}{result.exception!r}".encode())
                    status = result.exit_code
                finally:
                    os._exit(status)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            said.seek(0)
            return status, said.read().decode()

    run(folder, "compare")  # all that the commands import is here now
    owner = CliRunner().invoke(main, ["note", "demo:3", "mine", "--runs", str(runs)])
    assert owner.exit_code == 0, owner.output
    status, said = by([], "note", "demo:6", "not mine")
    assert status == 2 and "Permission denied" in said and "Traceback" not in said, said
    assert "belongs to root (d" in said and "ask root for `chmod -R g+rwX /" in said, said
    for words in (("note", "demo:6", "look here"), ("stop", "demo:7")):
        status, said = by([MEMBERS], *words)
        assert status == 0, said
    with Ledger.open(folder / "ledger.jsonl", writer=True) as ledger:  # and the owner goes on
        events = {event["event"]: event for event in ledger.events}
        state = StudyState.of(ledger)
    assert events["note"]["by"] == events["stop_asked"]["by"] == f"uid {STRANGER}"
    assert state.trials[7].ending == "stopped" and state.trials[6].notes == ["look here"]
    assert not [p for p in folder.rglob("*") if p.stat().st_mode & 0o002]
