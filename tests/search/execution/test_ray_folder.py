"""The folder of Ray's files: private, cleared, and the only place where "auto" looks."""

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from search.execution.own_ray import folder as made
from search.execution.own_ray.folder import ABOVE_BYTES, PREFIX, current_cluster, place, ray_folder
from search.execution.own_ray.keeper import SIGN
from search.execution.session import before_ray, ray_address
from tests.search.conftest import ROOT, free_port
from trainer.configfile import ConfigError

NOBODY = 65534
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")


@pytest.fixture
def above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files, whose name may be long, since no Ray starts in it."""
    for name in ("TMPDIR", "RAY_ADDRESS", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr(made, "ABOVE_BYTES", 1000)
    monkeypatch.setattr(made, "LAST_S", 0.3)
    tmp_path.chmod(0o1777)
    place.cache_clear()
    yield tmp_path
    place.cache_clear()


def left_behind(above: Path, name: str, address: str = "") -> Path:
    """Make what a killed driver or script leaves."""
    folder = above / f"{PREFIX}{name:_<8}"
    folder.mkdir(mode=0o700)
    (folder / "ray").mkdir()
    (folder / "ray" / "ray_current_cluster").write_text(address)
    (folder / SIGN).write_text(folder.name)
    return folder


def test_it_is_its_owners_alone_and_goes_with_its_ray(above: Path) -> None:
    before = os.umask(0)
    try:
        with ray_folder() as folder:
            assert folder.parent == above and folder.stat().st_mode & 0o777 == 0o700
            (folder / "ray").mkdir()
            with ray_folder() as other:
                assert other != folder and folder.exists(), "its lock says that it is in use"
    finally:
        os.umask(before)
    assert [*above.iterdir()] == []


def test_what_ray_has_renamed_goes_with_it(above: Path) -> None:
    """Its agents would else write into a folder that they make anew."""
    with ray_folder() as folder:
        (folder / "ray").mkdir()
        with (folder / "ray" / "raylet.out").open("w") as log:
            ours = subprocess.Popen(
                ["ray::DashboardAgent", "600"], executable="/bin/sleep", stdout=log
            )
        others = subprocess.Popen(["ray::DashboardAgent", "600"], executable="/bin/sleep")
    try:
        assert ours.wait(80) == -signal.SIGKILL and others.poll() is None
    finally:
        others.kill()
        others.wait()


def test_a_signal_while_it_is_made_leaves_nothing(
    above: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fcntl, "flock", interrupt)
    with pytest.raises(KeyboardInterrupt), ray_folder():
        pytest.fail("it was made")
    assert [*above.iterdir()] == []


def test_what_killed_ones_left_is_cleared_and_nothing_else(
    above: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is not as it was made is named in a line; what is another user's is nothing to us."""
    dead, locked, years = (left_behind(above, name) for name in ("dead", "locked", "years"))
    (years / "1999.txt").touch()
    elsewhere = above / "elsewhere"
    left_behind(above, "target").rename(elsewhere)
    refused = {"file": "it is no folder", "link": "it is no folder", "open": "its mode is 750, not"}
    (above / f"{PREFIX}file").touch()
    (above / f"{PREFIX}link").symlink_to(elsewhere)
    left_behind(above, "open").chmod(0o750)
    shutil.copytree(dead, above / f"{PREFIX}copy____")
    (above / f"{PREFIX}notes___").mkdir(mode=0o700)
    borrowed = left_behind(above, "borrowed") / SIGN
    borrowed.rename(elsewhere / "sign")
    borrowed.symlink_to(elsewhere / "sign")
    refused |= dict.fromkeys(("copy", "notes", "borrowed"), f"it has no file {SIGN} of ours")
    strangers = left_behind(above, "stranger")
    if not os.getuid():
        os.chown(strangers, NOBODY, NOBODY)
    with (locked / SIGN).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with ray_folder() as folder:
            found = [path.name for path in above.iterdir() if path != folder]
    kept = {name.removeprefix(PREFIX).rstrip("_") for name in found}
    others = {"stranger"} if not os.getuid() else set()
    assert kept == {"locked", "elsewhere", "years", *refused} | others
    assert {path.name for path in years.iterdir()} == {SIGN, "1999.txt"}
    assert {path.name for path in elsewhere.iterdir()} == {SIGN, "sign", "ray"}
    said = capsys.readouterr().err.splitlines()
    assert len(said) == len(refused)
    for name, why in refused.items():
        [line] = [line for line in said if line.startswith(f"note: {above}/{PREFIX}{name}")]
        assert f": {why}" in line and line.endswith("; it is left alone")


def test_who_looks_hinders_nobody(above: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a start, in whatever moment, nor others who look."""

    def look(_: object = None) -> None:
        for folder in made._ours(above):
            made._is_alive(folder)
            made._clear(folder)

    dead = left_behind(above, "dead")
    with ThreadPoolExecutor(4) as pool:
        assert not any(pool.map(made._is_alive, [dead] * 2000))
    make, lock, names = tempfile.mkdtemp, fcntl.flock, []

    def make_and_look(**options: str) -> str:
        names.append(make(**options))
        look()
        return names[-1]

    def look_and_lock(file: int, how: int) -> None:
        if how == fcntl.LOCK_EX:
            look()
        lock(file, how)

    monkeypatch.setattr(tempfile, "mkdtemp", make_and_look)
    monkeypatch.setattr(fcntl, "flock", look_and_lock)
    with ray_folder() as folder:
        look()
        assert [str(folder)] == names and made._is_alive(folder)


@as_root
def test_a_ray_whose_processes_cannot_be_seen_keeps_its_folder(above: Path) -> None:
    """As in two containers that share a disk: `ray start` has ended, and its Ray lives."""
    there = above / "bin"
    there.mkdir()
    (there / "python").symlink_to(sys.executable)
    (there / "ray").write_text(
        '#!/bin/bash\nmkdir "${2#*=}"\n'
        f"(exec -a raylet sh -c 'read line' \"$2\" <{above}/end >/dev/null 2>&1) &\n"
    )
    (there / "ray").chmod(0o755)
    os.mkfifo(above / "end")
    code = (
        f"import sys; sys.executable = '{there}/python'\n"
        "import search.execution.own_ray.folder as made\n"
        "made.ABOVE_BYTES = 1000; made.LAST_S = 0.1; sys.exit(made.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "start"]
    end = os.open(above / "end", os.O_RDWR)
    try:
        started = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert started.returncode == 0, started
        [folder] = above.glob(f"{PREFIX}*")
        apart = ["unshare", "--pid", "--fork", "--mount-proc"]
        look = f"{code.partition('sys.exit')[0]}\nwith made.ray_folder(): print(made.__file__)"
        other = subprocess.run(
            [*apart, sys.executable, "-c", look], cwd=ROOT, capture_output=True, text=True
        )
        if "unshare" in other.stderr:
            pytest.skip(other.stderr)
        assert other.stdout, other
        assert [*above.glob(f"{PREFIX}*")] == [folder] and (folder / "ray").is_dir()
    finally:
        os.write(end, b"\n")
        os.close(end)
    until = time.monotonic() + 60
    while folder.exists():
        assert time.monotonic() < until, "it goes with its Ray"
        time.sleep(0.05)


def test_what_a_killed_driver_started_goes_with_it(above: Path) -> None:
    code = (
        "import search.execution.own_ray.folder as made; made.ABOVE_BYTES = 1000\n"
        "with made.ray_folder(): print(flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=-1, stdout=-1) as driver:
        assert driver.stdout and driver.stdout.readline()
        [folder] = above.glob(f"{PREFIX}*")
        driver.kill()
    until = time.monotonic() + 60
    while folder.exists():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_scripts_start_ray_in_one_and_pass_signals_on(above: Path) -> None:
    """A stand-in for `ray`, beside an interpreter as it is in an environment."""
    there = above / "bin"
    there.mkdir()
    (there / "python").symlink_to(sys.executable)
    ray = there / "ray"
    ray.write_text(
        f'#!/bin/sh\necho "$RAY_TMPDIR $*" >{above}/said\ntrap "exit 7" TERM\n'
        "while :; do sleep 0.05; done\n"
    )
    ray.chmod(0o755)
    code = (
        f"import sys; sys.executable = '{there}/python'\n"
        "import search.execution.own_ray.folder as made\n"
        "made.ABOVE_BYTES = 1000; sys.exit(made.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "start", "--head"]
    with subprocess.Popen(command, cwd=ROOT) as process:
        end = time.monotonic() + 80
        while not (above / "said").exists() or not (above / "said").read_text():
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.02)
        time.sleep(0.2)
        folder, *words = (above / "said").read_text().split()
        assert words == ["start", f"--temp-dir={folder}/ray", "--head"]
        assert Path(folder).parent == above and Path(folder).is_dir()
        process.terminate()
        assert process.wait(60) == 7
    assert not Path(folder).exists()


def test_auto_is_the_ray_that_was_started_in_a_folder_of_ours(
    above: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another user planted, where Ray would look or here, has no effect."""
    monkeypatch.setattr(
        made, "Path", lambda *parts: Path(*(above if p == "/tmp" else p for p in parts))
    )
    (above / "ray").mkdir()
    (above / "ray" / "ray_current_cluster").write_text("10.66.66.66:6379")
    left_behind(above, "dead", "10.66.66.67:6379")
    planted = left_behind(above, "planted", "10.66.66.68:6379")
    if os.getuid():
        planted.chmod(0o777)
    else:
        os.chown(planted, NOBODY, NOBODY)
    for address, environment in ((None, "auto"), ("auto", "auto"), ("auto", "")):
        monkeypatch.setenv("RAY_ADDRESS", environment)
        with (
            subprocess.Popen(["sh", "-c", "read line", str(planted)], stdin=-1),
            pytest.raises(ConfigError, match=r"auto: segtune started no Ray that runs on this mac"),
        ):
            ray_address(address)
        with ray_folder() as folder:
            (folder / "ray").mkdir()
            (folder / "ray" / "ray_current_cluster").write_text("10.0.0.1:6379\n")
            assert ray_address(address) == "10.0.0.1:6379"
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.2:6379")  # as in a job of Ray's
    assert ray_address("auto") == "10.0.0.2:6379"


def test_ray_does_not_see_the_word(above: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    before_ray("local")
    assert "RAY_ADDRESS" not in os.environ


@as_root
def test_another_user_who_listens_in_its_place_gets_no_token(above: Path) -> None:
    port = free_port()
    code = (
        f"import os, socket; os.setuid({NOBODY})\n"
        f"with socket.create_server(('127.0.0.1', {port})): print(flush=True); input()"
    )
    command = [sys.executable, "-c", code]
    with (
        ray_folder() as folder,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as stranger,
    ):
        (folder / "ray").mkdir()
        (folder / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{port}")
        assert stranger.stdout and stranger.stdout.readline()
        with pytest.raises(ConfigError, match=f"user {NOBODY} listens there; it is not sent"):
            current_cluster()
        stranger.communicate(b"\n")
        with socket.create_server(("127.0.0.1", port)):
            assert current_cluster() == f"127.0.0.1:{port}"
    assert made._is_here("127.0.0.1") and not made._is_here("203.0.113.7")


def test_a_folder_that_does_not_do(
    above: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """RAY_TMPDIR is refused; in place of TMPDIR /tmp is taken, with a note."""

    def refused(path: Path) -> str:
        place.cache_clear()
        monkeypatch.setenv("RAY_TMPDIR", str(path))
        with pytest.raises(ConfigError, match=r"^RAY_TMPDIR .*; name another folder, or unset it$"):
            place()
        place.cache_clear()
        monkeypatch.delenv("RAY_TMPDIR")
        monkeypatch.setenv("TMPDIR", str(path))
        assert place() == place() == Path("/tmp")
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith(f"note: TMPDIR {path}: ") and line.endswith(
            ": Ray's files are in /tmp"
        )
        return line

    above.chmod(0o777)
    assert f"others may rename what is in {above} (mode 777)" in refused(above)
    above.chmod(0o700)
    assert "it cannot be written by this user" in refused(Path("/proc/self"))
    monkeypatch.setattr(made, "ABOVE_BYTES", ABOVE_BYTES)
    assert f"Ray's sockets need a path of at most {ABOVE_BYTES} bytes" in refused(above / "t0016")
    longest = f"/{'x' * (ABOVE_BYTES - 1)}/{PREFIX}01234567/{made.LONGEST}"
    assert len(longest) == 107, "what Linux takes"
    with pytest.raises(OSError, match="too long"), socket.socket(socket.AF_UNIX) as probe:
        probe.bind(f"{longest}x")


@as_root
def test_a_disk_without_room_is_a_line(above: Path) -> None:
    code = (
        "import search.execution.own_ray.folder as made; made.ABOVE_BYTES = 1000\n"
        "try: made.place()\nexcept OSError as error: print(error.errno, error)"
    )
    shell = f'mount -t tmpfs -o size=64k none {above} && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", shell, "-", sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if "unshare" in result.stderr or "mount" in result.stderr:
        pytest.skip(result.stderr)
    assert result.stdout.startswith("28 [Errno 28] no room for Ray's files; make some, "), result
    command[-2:] = ["-m", "search.execution.own_ray.folder", "start", "--head"]
    above_env = {**os.environ, "RAY_TMPDIR": str(Path("/tmp", f"full-{os.getpid()}"))}
    Path(above_env["RAY_TMPDIR"]).mkdir()
    command[4] = shell.replace(str(above), above_env["RAY_TMPDIR"])
    result = subprocess.run(command, cwd=ROOT, env=above_env, capture_output=True, text=True)
    Path(above_env["RAY_TMPDIR"]).rmdir()
    assert (result.returncode, result.stderr.count("no room")) == (75, 1), result
