"""A Ray of this command's own, on this machine: started in time, or a line that says why not.

What Ray itself does where a limit is too low: it waits for minutes, or its C++ ends the process.
"""

import errno
import os
import re
import resource
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from search.execution.own_ray.folder import ray_folder
from search.execution.own_ray.keeper import living_in
from trainer.configfile import ConfigError
from trainer.exceptions import first_line
from trainer.exit_status import Exit

START_S = 180.0
"""In which Ray starts: it takes 5 s, and 45 s where 15 processes want each core."""
SLOW_S = 15.0
"""A start that takes longer is spoken of."""
ADDRESS_SPACE_GIB = 8
"""Of which Ray's raylet maps 7 on a machine with 24 GiB of memory, and more on a larger one."""
THREADS = 300
"""Of Ray's processes and of one trial; Ray's alone are 200 on two cores."""


def check_limits() -> None:
    """Refuse limits of this process under which no Ray starts; raise those that it may raise.

    Raises:
        ConfigError: A limit is too low; the line says how to raise it.
    """
    space = _raised(resource.RLIMIT_AS)
    if space is not None and space < ADDRESS_SPACE_GIB << 30:
        gib = f"{space / (1 << 30):.1f}"
        rule = f"Ray maps {ADDRESS_SPACE_GIB} GiB or more, most of it never used"
        raise ConfigError([f"ulimit -v: {gib} GiB of address space: {rule}: ulimit -v unlimited"])
    threads = _raised(resource.RLIMIT_NPROC)
    if threads is not None and os.geteuid():  # which binds everybody but root
        _check_threads("ulimit -u", threads, _threads_of_user(), "raise it, or end some")
    with suppress(OSError, ValueError):  # no such group, or no limit
        group = Path("/sys/fs/cgroup") / Path("/proc/self/cgroup").read_text().strip()[4:]
        most, now = (int((group / f"pids.{name}").read_text()) for name in ("max", "current"))
        _check_threads(f"{group}/pids.max", most, now, "give the container or service more")


def _check_threads(what: str, most: int, now: int, remedy: str) -> None:
    if most - now < THREADS:
        rule = f"{now} processes and threads run, and Ray and a trial need {THREADS}"
        raise ConfigError([f"{what}: {most}: {rule}: {remedy}"])


def _raised(limit: int) -> int | None:
    """Raise a limit as far as this process may, and return it; None where there is none."""
    _, hard = resource.getrlimit(limit)
    with suppress(OSError, ValueError):
        resource.setrlimit(limit, (hard, hard))
    soft, _ = resource.getrlimit(limit)
    return None if soft == resource.RLIM_INFINITY else soft


def _threads_of_user() -> int:
    count = 0
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if path.stat().st_uid == os.getuid():
                count += len(os.listdir(path / "task"))
    return count


@contextmanager
def own_folder() -> Iterator[Path]:
    """Make the folder of a Ray that this process starts; all that Ray has on this disk is there.

    Raises:
        ConfigError: RAY_TMPDIR does not do.
        OSError: There is no room.
    """
    before = os.environ.get("RAY_TMPDIR")
    with ray_folder() as folder:
        os.environ["RAY_TMPDIR"] = str(folder)
        try:
            yield folder
        finally:
            del os.environ["RAY_TMPDIR"]
            if before is not None:
                os.environ["RAY_TMPDIR"] = before


@contextmanager
def bounded(folder: Path) -> Iterator[None]:
    """Start Ray inside, in the time that it has; what of it started ends where it did not.

    Raises:
        OSError: It did not start. One that does not come back ends the process, with status 75.
    """

    def give_up() -> None:
        problem = _problem(folder, f"not within {START_S:.0f} s")
        print(f"Ray: {problem}", file=sys.stderr, flush=True)
        _end(folder)
        os._exit(Exit.AWAY)

    def say() -> None:
        print(f"waits    for Ray to start here, up to {START_S:.0f} s", file=sys.stderr, flush=True)

    watches = [threading.Timer(SLOW_S, say), threading.Timer(START_S, give_up)]
    try:
        for watch in watches:
            watch.daemon = True
            watch.start()
        yield
    except (ConfigError, KeyboardInterrupt):
        _end(folder)
        raise
    except Exception as error:  # of any kind: Ray has no kind of its own for it
        problem = _problem(folder, first_line(error))
        _end(folder)
        raise OSError(errno.EAGAIN, problem, "Ray") from error
    finally:
        for watch in watches:
            watch.cancel()


def _end(folder: Path) -> None:
    for process in living_in(folder):
        with suppress(OSError):
            if _is_rays(Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")):
                os.kill(process, signal.SIGKILL)


def _is_rays(words: list[bytes]) -> bool:
    """Return whether a process is one of Ray's, and not somebody's look at its logs."""
    program = os.path.basename(words[0])
    if program in (b"gcs_server", b"raylet") or program.startswith(b"ray::"):
        return True
    return program.startswith(b"python") and any(b"/ray/" in word for word in words[1:4])


def _problem(folder: Path, why: str) -> str:
    """Return why Ray did not start, with what its daemons said when they died."""
    why = why.rstrip(".")
    for log in sorted((folder / "ray").glob("session_latest/logs/*.err")):
        with suppress(OSError):
            if fatal := re.search(
                r" C \d+ \d+\][^:]*:\d+: *(.+)", log.read_text("utf-8", "replace")
            ):
                why = f"{why} ({log.stem}: {' '.join(fatal[1].split())[:200]})"
                break
    remedy = "look at its load, memory, limits (ulimit -a) and disk; the same command tries again"
    return f"it did not start on this machine: {why}; {remedy}"
