"""Where Ray keeps its files: in a folder that nobody else enters, and that goes with its Ray.

Ray lets everybody write to the folder that it is given, and follows what it finds there: through a
link that another user put among its logs it wrote over the owner's files, and it loads code from
there. So it gets a child of a folder that `mkdtemp` made, mode 0700, with a sign in it: a file with
the folder's name. On that there is a lock for as long as that Ray lives (`keeper.py`); a folder
whose sign has none was left by what was killed, and the next start clears it.

    python -m search.execution.own_ray.folder start --head

is `ray start --head` with such a folder, for scripts; without a word, the address of the Ray that
was last started so is printed.
"""

import errno
import fcntl
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from search.execution.own_ray import keeper
from search.execution.own_ray.keeper import SIGN, clear, living_in
from trainer.configfile import ConfigError
from trainer.exit_status import Exit, status_of_error

PREFIX = "segtune-ray-"
LONGEST = "ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""Of the paths to Ray's sockets below a folder that is made here."""
ABOVE_BYTES = 107 - len(f"/{PREFIX}01234567/{LONGEST}")
"""Of the path to where it is made: Linux takes none to a socket that is longer than 107."""
DEFAULT = Path("/tmp")
FREE_BYTES = 16 << 20
"""What a session's logs need, several times over."""
BOUNDS = {"RAY_task_events_max_num_task_in_gcs": "1000"}
"""For Ray's head, which by default keeps what it knows of 100,000 calls, 3.5 KiB each, for its
dashboard: a study of weeks makes as many."""
LAST_S = 5.0
"""In which the last processes of a Ray end, of which the others have ended."""


@contextmanager
def ray_folder() -> Iterator[Path]:
    """Make the folder above Ray's own, and clear it afterwards, and before it what others left.

    Yields:
        The folder, for RAY_TMPDIR; Ray's own is `ray` in it.

    Raises:
        ConfigError: RAY_TMPDIR does not do.
        OSError: There is no room.
    """
    above = place()
    for folder in _ours(above):
        _clear(folder)
    folder, lock = _make(above)
    try:
        keeping = subprocess.Popen(
            [sys.executable, "-S", keeper.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={**os.environ, "RAY_TMPDIR": str(folder)},
            pass_fds=[lock],
            start_new_session=True,
        )
        try:
            yield folder
        finally:
            with suppress(subprocess.TimeoutExpired):
                keeping.communicate(timeout=LAST_S)
    finally:
        os.close(lock)


def current_cluster() -> str | None:
    """Return the address of the Ray that was last started here in a folder of ours; None for none.

    Ray writes it there. What others could have written, such as /tmp/ray, is not asked: whoever
    names an address is sent the token.

    Raises:
        ConfigError: Another user listens there.
    """
    found = []
    for above in {place(), DEFAULT}:
        for folder in _ours(above):
            with suppress(OSError):
                path = folder / "ray" / "ray_current_cluster"
                if _is_alive(folder):
                    found.append((path.stat().st_mtime, path.read_text().strip()))
    if not found:
        return None
    _, address = max(found)
    host, _, port = address.rpartition(":")
    if _is_here(host) and (strangers := _listeners(int(port)) - {os.getuid()}):
        rule = f"user {min(strangers)} listens there"
        raise ConfigError([f"--address auto: {address}: {rule}; it is not sent the token"])
    return address


def _make(above: Path) -> tuple[Path, int]:
    """Make a folder and its sign, which says nothing before it is locked: no start takes it."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=above))
    try:
        sign = os.open(folder / SIGN, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(sign, fcntl.LOCK_EX)
        except OSError as error:
            os.close(sign)
            rule = "its file system has no locks; name another folder in RAY_TMPDIR"
            raise OSError(error.errno, rule, str(above)) from error
        os.write(sign, os.fsencode(folder.name))
    except BaseException:  # a signal's, too
        clear(folder)
        raise
    return folder, sign


def _clear(folder: Path) -> None:
    """Remove what a killed start left; the lock is held over it, so that no other does."""
    with suppress(OSError), open(folder / SIGN, "r+b") as sign:
        fcntl.flock(sign, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not living_in(folder):  # its keeper may have been killed
            clear(folder)


def _is_here(host: str) -> bool:
    """Return whether an address is one of this machine's."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trial:
            trial.bind((host, 0))
    except OSError:
        return False
    return True


def _ours(above: Path) -> list[Path]:
    """Return the folders that were made here; of this user's others, a note says why they are not.

    Other users make theirs in the same place, which are nothing to us.
    """
    found = []
    for folder in above.glob(f"{PREFIX}*"):
        with suppress(OSError):  # it goes meanwhile
            if folder.lstat().st_uid != os.getuid():
                continue
            if why := _not_ours(folder):
                print(f"note: {folder}: {why}; it is left alone", file=sys.stderr, flush=True)
            else:
                found.append(folder)
    return found


def _not_ours(folder: Path) -> str:
    """Return why a folder of this user is none that was made here; empty where it is one.

    Raises:
        OSError: It is gone.
    """
    mode = folder.lstat().st_mode
    if not stat.S_ISDIR(mode):
        return "it is no folder"
    if mode & 0o777 != 0o700:
        return f"its mode is {mode & 0o777:o}, not 700"
    try:
        about = (folder / SIGN).lstat()
        signed = stat.S_ISREG(about.st_mode) and about.st_uid == os.getuid()
        signed = signed and (folder / SIGN).read_bytes() == os.fsencode(folder.name)
    except FileNotFoundError:
        folder.lstat()
        signed = False
    return "" if signed else f"it has no file {SIGN} of ours"


def _is_alive(folder: Path) -> bool:
    """Say whether a folder's Ray lives; who asks shares the lock, and hinders nobody who asks."""
    with open(folder / SIGN, "rb") as sign:
        try:
            fcntl.flock(sign, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _listeners(port: int) -> set[int]:
    """Return the users who listen on a TCP port of this machine."""
    lines = []
    for name in ("tcp", "tcp6"):
        with suppress(OSError):
            lines += Path("/proc/net", name).read_text().splitlines()[1:]
    rows = [line.split() for line in lines]
    listening = [row for row in rows if row[3] == "0A"]
    return {int(row[7]) for row in listening if int(row[1].rpartition(":")[2], 16) == port}


@cache
def place() -> Path:
    """Return where folders are made: RAY_TMPDIR, TMPDIR or /tmp; said once for one process.

    Raises:
        ConfigError: RAY_TMPDIR does not do.
        OSError: There is no room, or /tmp cannot be written.
    """
    name = next((name for name in ("RAY_TMPDIR", "TMPDIR") if os.environ.get(name)), "")
    above = Path(os.environ.get(name) or DEFAULT).absolute()
    if above.name.startswith(PREFIX):  # in a process of the Ray to which that belongs
        above = above.parent
    if why := _unfit(above):
        if name == "RAY_TMPDIR":
            rule = "name another folder, or unset it"
            raise ConfigError([f"{name} {os.environ[name]}: {why}; {rule}"])
        if not name or _unfit(DEFAULT):
            raise OSError(errno.EACCES, f"{why}; name another folder in RAY_TMPDIR", str(above))
        note = f"note: {name} {above}: {why}: Ray's files are in {DEFAULT}"
        print(note, file=sys.stderr, flush=True)
        above = DEFAULT
    disk = os.statvfs(above)
    if disk.f_bavail * disk.f_frsize < FREE_BYTES or (disk.f_files and disk.f_favail < 100):
        rule = "no room for Ray's files; make some, or name a folder of another disk in RAY_TMPDIR"
        raise OSError(errno.ENOSPC, rule, str(above))
    return above


def _unfit(above: Path) -> str:
    """Return why Ray's files cannot lie below a folder; empty where they can."""
    if len(os.fsencode(above)) > ABOVE_BYTES:
        return f"Ray's sockets need a path of at most {ABOVE_BYTES} bytes"
    with suppress(OSError):
        above.mkdir(parents=True, exist_ok=True)
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        return "it cannot be written by this user"
    for path in (above.resolve(), *above.resolve().parents):
        mode = path.stat().st_mode
        if mode & 0o022 and not mode & stat.S_ISVTX:
            return f"others may rename what is in {path} (mode {stat.S_IMODE(mode):o})"
    return ""


def main(words: list[str]) -> int:
    """Run `ray` with a private folder until it ends, and return its status; or say where one is."""
    if not words:
        if address := current_cluster():
            print(address)
        return 0 if address else 1
    ray = Path(sys.executable).with_name("ray")
    command, *options = words
    with ray_folder() as folder:
        process = subprocess.Popen(
            [ray if ray.exists() else "ray", command, f"--temp-dir={folder}/ray", *options],
            env={**BOUNDS, **os.environ, "RAY_TMPDIR": str(folder)},
        )
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, frame: process.send_signal(number))
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the whole group
        status = process.wait()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ConfigError as error:
        print(error, file=sys.stderr)
        sys.exit(Exit.REFUSED)
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        sys.exit(status_of_error(error))
