"""Folders that are made: by one process at a time, whole, and at once given up on a signal."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.trainer.data import trees
from tests.trainer.data.trees import run
from trainer.configfile import ConfigError
from trainer.data import case_file
from trainer.data.making import one_writer
from trainer.data.making.one_writer import naming_disk, only_writer
from trainer.data.phantom import write_phantom

HOLD = """
import sys, time
from pathlib import Path
from trainer.data.making.one_writer import only_writer
with only_writer(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}


@pytest.fixture
def holder(tmp_path):
    """A process that is the only writer of `out`."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "out")]
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_writer_is_told_who_where_and_since_when_and_a_killed_one_is_none(
    tmp_path, holder
):
    root = trees.isles24(tmp_path / "data", 3)
    since = rf"is being written by pid {holder.pid} on .+ since 20\d\d-.+: wait for it, or"

    for command in (lambda: run(root, tmp_path / "out"), lambda: write_phantom(tmp_path / "out")):
        with pytest.raises(ConfigError, match=since) as error:
            command()
        assert len(error.value.lines) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.segtune-lock", "data"]
    holder.kill()
    holder.wait()
    run(root, tmp_path / "out")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out"]


def test_a_lock_of_another_host_holds_while_it_is_touched(tmp_path):
    lock = tmp_path / ".out.segtune-lock"
    who = {"schema": 1, "pid": 7, "host": "far", "machine": "another", "since": "2026-01-01"}
    lock.write_text(json.dumps(who))

    with pytest.raises(ConfigError, match="by pid 7 on far since 2026-01-01"):
        only_writer(tmp_path / "out").__enter__()
    silent_s = time.time() - one_writer.SILENT_S - 1
    os.utime(lock, (silent_s, silent_s))
    with only_writer(tmp_path / "out"):
        assert json.loads(lock.read_text())["pid"] == os.getpid()

    assert not lock.exists()


def test_folders_that_were_made_for_nothing_are_gone(tmp_path):
    root = trees.isles24(tmp_path / "data", 1)
    trees.mask(root).write_bytes(b"")

    with pytest.raises(ConfigError):
        run(root, tmp_path / "a" / "b" / "out")

    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_what_is_not_ours_is_not_cleared(tmp_path):
    root = trees.isles24(tmp_path / "data", 1)
    (tmp_path / "out.unfinished" / "cases").mkdir(parents=True)
    (tmp_path / "out.unfinished" / "thesis.txt").write_text("years of work")
    for command in (lambda: run(root, tmp_path / "out"), lambda: write_phantom(tmp_path / "out")):
        with pytest.raises(ConfigError, match=r"out\.unfinished: is in the way, and nothing that"):
            command()
    assert (tmp_path / "out.unfinished" / "thesis.txt").exists()
    assert not (tmp_path / ".out.segtune-lock").exists()

    for content in ("", "{}", '{"version": 1}', "[[package]]"):
        (tmp_path / "uv.lock").write_text(content)
        (tmp_path / ".uv.segtune-lock").write_text(content or "mine")
        with pytest.raises(ConfigError, match=r"\.uv\.segtune-lock: is in the way"):
            write_phantom(tmp_path / "uv", num_cases=1)
        assert (tmp_path / "uv.lock").read_text() == content
        assert (tmp_path / ".uv.segtune-lock").read_text() == (content or "mine")


def test_a_full_disk_is_named_and_leaves_whole_cases_alone(tmp_path, monkeypatch):
    root = trees.isles24(tmp_path / "data", 3)
    write = case_file.write_atomically

    def full(path, content):
        if path.name == "sub-stroke0002.arrow":
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content)

    monkeypatch.setattr(case_file, "write_atomically", full)
    with pytest.raises(OSError, match="No space left") as error:
        run(root, tmp_path / "out")

    disk = next(str(each) for each in (tmp_path, *tmp_path.parents) if each.is_mount())
    assert error.value.errno == errno.ENOSPC
    assert f"on the disk of {disk} (" in str(error.value)
    assert "MB needed): make room" in str(error.value) or "GB needed" in str(error.value)
    left = sorted(path.name for path in (tmp_path / "out.unfinished").rglob("*"))
    assert left == ["cases", "sub-stroke0001.arrow", "sub-stroke0001.npz"]


def test_other_faults_are_left_as_they_are(tmp_path):
    error = OSError(errno.EIO, "Input/output error")

    assert naming_disk(error, tmp_path) is error


@pytest.mark.slow  # 10 s: two commands
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_preparation_with_workers_at_once(tmp_path, number):
    root = trees.isles24(tmp_path / "data", 40)
    command = [sys.executable, "-m", "search.cli.main", "prepare", str(root)]
    command += [str(tmp_path / "out"), "--image-size", "512", "--workers", "2"]
    process = subprocess.Popen(
        command, env=ENVIRONMENT, start_new_session=True, stderr=subprocess.PIPE, text=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    deadline_s = time.monotonic() + 480
    while not any(tmp_path.glob("out.unfinished/cases/*.arrow")):
        assert time.monotonic() < deadline_s and process.poll() is None
        time.sleep(0.01)

    os.killpg(process.pid, number)  # as a terminal does
    _, said = process.communicate(timeout=60)

    assert process.returncode == 128 + number
    assert said.splitlines() == [
        f"ended by {number.name}; finished cases are kept for the same command"
    ]
    left = [path.name for path in tmp_path.rglob("*") if path.suffix == ".tmp"]
    assert left == []
    assert 0 < len([*tmp_path.glob("out.unfinished/cases/*.arrow")]) < 40
    deadline_s = time.monotonic() + 60
    while left := _alive_in_group(process.pid):
        assert time.monotonic() < deadline_s, left
        time.sleep(0.05)


def _alive_in_group(group: int) -> list[str]:
    """Return the processes of a group that have not ended; who is to reap them may never do it."""
    alive = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = path.read_text().rpartition(")")
        except OSError:
            continue
        state, _, of_group = rest.split()[:3]
        if int(of_group) == group and state != "Z":
            alive.append(name)
    return alive
