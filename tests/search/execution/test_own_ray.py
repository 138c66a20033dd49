"""A study on a Ray that segtune starts: what of it others reach, and what is left of it."""

import os
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner

import search.execution.auth
from search.cli.main import main
from search.execution.own_ray.folder import PREFIX
from search.execution.own_ray.keeper import living_in
from search.execution.own_ray.start import bounded
from tests.search.conftest import Driver, write_study
from tests.search.execution.test_access import PLANTED, files_with

NOBODY = 65534
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", f"{'0' * 25}1000000"}
"""127.0.0.1, as IPv4 and within IPv6, and ::1, as the kernel lists them."""


def head_of(folder: Path) -> str:
    """Return the address of the Ray that keeps its files in a folder."""
    for pid in living_in(folder):
        with suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            if "raylet" in words[0]:
                [address] = [w.partition("=")[2] for w in words if w.startswith("--gcs-address=")]
                return address
    raise AssertionError(f"no raylet of {folder}")


def descendants(pid: int) -> list[int]:
    """Return a process and all that it and its children started."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += [
                each for child in task.read_text().split() for each in descendants(int(child))
            ]
    return found


def listening(pids: list[int]) -> dict[str, str]:
    """Return where processes listen, as the kernel lists it, and the last that does."""
    sockets = {}
    for pid in pids:
        with suppress(OSError):
            name = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")[:200]
            for fd in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    sockets[os.readlink(fd)] = name
    tables = [Path(f"/proc/net/{name}").read_text() for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table.splitlines()[1:]]
    heard = [row for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets]
    return {row[1]: sockets[f"socket:[{row[9]}]"] for row in heard}


def test_a_slow_start_is_spoken_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("search.execution.own_ray.start.SLOW_S", 0.01)
    with bounded(tmp_path):
        time.sleep(0.1)
    assert capsys.readouterr().err == "waits    for Ray to start here, up to 180 s\n"


def may(*command: str | Path) -> bool:
    """Say whether another user can do something."""
    done = subprocess.run(command, capture_output=True, user=NOBODY, group=NOBODY, extra_groups=[])
    return done.returncode == 0


@pytest.mark.slow
def test_nobody_else_reaches_it_and_nothing_is_left_of_it(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With secrets in its environment, and a folder for temporary files in which all may write.

    It listens on loopback alone and answers only to its token; another user plants nothing among
    its files; no secret is in ledger, MLflow, reports, printed lines, nor in what Ray logs.
    """
    study = write_study(
        tmp_path / "runs", store, trials={"num_trials": 2, "cpus_per_trial": 1}, enqueue=[]
    )
    with tempfile.TemporaryDirectory(prefix="ray-") as name:  # short, for Ray's sockets' sake
        above = Path(name)
        above.chmod(0o1777)
        monkeypatch.setenv("RAY_TMPDIR", name)
        secrets = {
            "MLFLOW_TRACKING_USERNAME": f"{PLANTED}-1",
            "MLFLOW_TRACKING_PASSWORD": f"{PLANTED}-2",
            "AWS_ACCESS_KEY_ID": f"{PLANTED}-3",
            "AWS_SECRET_ACCESS_KEY": f"{PLANTED}-4",
            "AWS_SESSION_TOKEN": f"{PLANTED}-5",
            "RAY_AUTH_TOKEN": f"{PLANTED}-6",
        }
        env = {"RAY_AUTH_MODE": "", "HOME": str(tmp_path), **secrets}
        driver = Driver(study, study.parent, env=env | {"MLFLOW_TRACKING_URI": ""}, imports=True)
        driver.wait_for(lambda: driver.events("reported"), 720)
        [folder] = above.iterdir()
        assert folder.name.startswith(PREFIX) and folder.stat().st_mode & 0o777 == 0o700
        assert driver.process.pid
        own = listening(descendants(driver.process.pid))
        assert len(own) > 5, own
        assert {
            where: who for where, who in own.items() if where.split(":")[0] not in LOOPBACK
        } == {}
        if not os.getuid():
            logs = folder / "ray" / "session_latest" / "logs"
            ledger = driver.folder / "ledger.jsonl"
            assert not may("ln", "-s", ledger, logs / "python-core-worker.log")
            assert not may("ls", logs)
            assert may("ln", "-s", ledger, above / "link"), "as in /tmp"
            (above / "link").unlink()
        address = head_of(folder)
        assert not search.execution.auth._accepts(address, None)
        assert not search.execution.auth._accepts(address, "another")
        assert search.execution.auth._accepts(address, secrets["RAY_AUTH_TOKEN"])
        with subprocess.Popen(["sh", "-c", "read line", str(folder)], stdin=subprocess.PIPE):
            printed = driver.finish()
            assert "Look at" in printed and PLANTED not in printed
            looked = CliRunner().invoke(
                main, ["compare", "toy", "--runs", str(study.parent), "--json"]
            )
            assert PLANTED not in looked.output
            assert [*folder.rglob("gcs_server*")], "what a process lives in is left"
            assert files_with(PLANTED, study.parent, folder) == []
        end = time.monotonic() + 60
        while folder.exists():
            assert time.monotonic() < end, "it goes with the last of them"
            time.sleep(0.1)
