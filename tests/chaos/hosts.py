"""Hosts on one machine: namespaces with their own mounts, network, name and processes.

A host lives exactly as long as process 1 of its PID namespace, and that one as long as this
process holds the other end of its standard input. So whatever ends this process, SIGKILL included,
the kernel then removes all of it: processes, links, bridge and mounts. Nothing but one empty
folder, the mount point, has a name that anybody else could meet.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
BASE = Path("/tmp/segtune-chaos")
"""Mount point, as the hosts see it: `share` is the same on all, `own` each one's."""
SHARE = BASE / "share"
NETWORK = "10.77.0"

PREPARE = f"""
echo $NAME > /proc/sys/kernel/hostname
mount --bind {BASE}/hosts /etc/hosts
mount -t tmpfs -o mode=755 own {BASE}/own
mkdir {BASE}/own/home {BASE}/own/tmp
mount -t tmpfs -o mode=1777,size=1g shm /dev/shm
ip link set lo up
cat /proc/sys/kernel/random/uuid > {BASE}/own/boot_id
mount --bind {BASE}/own/boot_id /proc/sys/kernel/random/boot_id
"""
FURNISH = f"""
mount -t tmpfs -o mode=755 base {BASE}
cd {BASE}
mkdir own share
mount -t tmpfs -o mode=755,size=$SHARE_MB"m" share share
(umask 077; echo $TOKEN > token)
echo "127.0.0.1 localhost" > hosts
for number in 1 2 3 4 5 6 7 8 9; do echo "{NETWORK}.$number host$number"; done >> hosts
ip link add bridge type bridge
ip address add {NETWORK}.254/24 dev bridge
ip link set bridge up
"""
TRY = """
mount -t tmpfs try /dev/shm
ip link add bridge type bridge
ip link add one type veth peer name other
"""
# Process 1 must reap what its namespace's processes leave behind: with SIGCHLD ignored the kernel
# does. It ends when this process closes the pipe.
LIVE = "trap '' CHLD; echo ready; exec cat > /dev/null"


def obstacle() -> str:
    """Return why there can be no hosts here; empty if there can."""
    if os.geteuid():
        return "network namespaces need root"
    try:
        Host("try", TRY).power_off()
    except (OSError, RuntimeError) as error:
        return f"no namespaces: {error}"
    return ""


def wait_for(ready: Callable[[], Any], what: str, timeout_s: float = 480) -> Any:
    """Return what `ready` returns, once that is true.

    Raises:
        TimeoutError: It never was; the message says what was waited for.
    """
    end_s = time.monotonic() + timeout_s
    while not (result := ready()):
        if time.monotonic() > end_s:
            raise TimeoutError(f"{timeout_s:g} s were not enough: {what}")
        time.sleep(0.1)
    return result


class Process(NamedTuple):
    """A process of a host."""

    pid: int
    """As this process sees it."""
    inner_pid: int
    """As its host sees it."""
    role: str
    """What it was started for; its children inherit that."""
    command: str

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it still lives."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)


class Host:
    """A PID, mount, network and UTS namespace, alive until `power_off`.

    Args:
        name: Its hostname.
        script: What to run in it first.
        within: The host whose mounts it inherits.
        env: Variables of the script.
    """

    def __init__(
        self,
        name: str,
        script: str,
        within: "Host | None" = None,
        env: dict[str, str] | None = None,
    ):
        self.name = name
        enter = within.entering("mount") if within else []
        namespaces = ["--pid", "--fork", "--mount", "--mount-proc", "--uts", "--net"]
        self._holder = subprocess.Popen(
            [*enter, "unshare", *namespaces, "sh", "-ec", f"{script}\n{LIVE}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "NAME": name, **(env or {})},
            start_new_session=True,  # Ctrl-C is for this process, which then tidies up
        )
        assert self._holder.stdout and self._holder.stderr
        if self._holder.stdout.readline() != "ready\n":
            self._holder.kill()
            raise RuntimeError(self._holder.stderr.read().strip() or "unshare failed")
        holder = self._holder.pid
        self._first = int(Path(f"/proc/{holder}/task/{holder}/children").read_text())
        self._namespace = os.readlink(f"/proc/{self._first}/ns/pid")

    def entering(self, *namespaces: str) -> list[str]:
        """Return the words before a command that runs it here."""
        return ["nsenter", f"--target={self._first}", *(f"--{name}" for name in namespaces)]

    def path(self, path: Path) -> Path:
        """Return the path by which this process sees one of the host's."""
        return Path(f"/proc/{self._first}/root") / path.relative_to("/")

    def start(self, role: str, *command: str | Path, **env: str) -> "subprocess.Popen[bytes]":
        """Start a command in the repository's folder; its output is appended to `log(role)`."""
        with self.path(BASE / "own" / f"{role}.log").open("ab") as log:
            return subprocess.Popen(
                [
                    *self.entering("mount", "uts", "net", "pid"),
                    *("env", "-i", f"--chdir={ROOT}"),
                    *(f"{key}={value}" for key, value in (self._env() | env).items()),
                    f"CHAOS_ROLE={role}",
                    *map(str, command),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _env(self) -> dict[str, str]:
        return {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "LANG": "C.UTF-8",
            "HOME": f"{BASE}/own/home",
            "TMPDIR": f"{BASE}/own/tmp",
            "RAY_TMPDIR": f"{BASE}/own/tmp",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": f"{BASE}/token",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_raylet_start_wait_time_s": "120",  # a machine may have other work
            "RAY_health_check_period_ms": "1000",
            "RAY_health_check_timeout_ms": "2000",
            "RAY_health_check_failure_threshold": "5",
            "OMP_NUM_THREADS": "1",
        }

    def log(self, role: str) -> str:
        """Return what the commands of a role have printed."""
        path = self.path(BASE / "own" / f"{role}.log")
        return path.read_text(errors="replace") if path.exists() else ""

    def run(self, role: str, *command: str | Path, **env: str) -> None:
        """Run a command to its end.

        Raises:
            RuntimeError: It failed; the message has its output.
        """
        status = self.start(role, *command, **env).wait(720)
        if status:
            raise RuntimeError(f"{self.name}: {command[0]} ended with {status}: {self.log(role)}")

    def processes(self, role: str = "") -> list[Process]:
        """Return the living processes, of one role or all."""
        found = []
        for folder in Path("/proc").iterdir():
            if not folder.name.isdecimal():
                continue
            with suppress(OSError):  # it ended meanwhile
                if os.readlink(folder / "ns/pid") != self._namespace:
                    continue
                variables = (folder / "environ").read_bytes().split(b"\0")
                named = [v for v in variables if v.startswith(b"CHAOS_ROLE=")]
                if not named:
                    continue
                status = (folder / "status").read_text()
                inner = next(line for line in status.splitlines() if line.startswith("NSpid:"))
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                its_role = named[-1].decode().partition("=")[2]
                numbers = int(folder.name), int(inner.split()[-1])
                found.append(Process(*numbers, its_role, command))
        return [process for process in found if role in ("", process.role)]

    def kill(self, role: str) -> None:
        """SIGKILL all processes of a role, and return when there are none."""

        def gone() -> bool:
            left = self.processes(role)
            for process in left:
                process.signal(signal.SIGKILL)
            return not left

        wait_for(gone, f"the end of {role} on {self.name}")

    @property
    def is_on(self) -> bool:
        """Whether it lives."""
        return self._holder.poll() is None

    def power_off(self) -> None:
        """End everything in it at once; a second call does nothing."""
        with suppress(ProcessLookupError):
            if self.is_on:
                os.kill(self._first, signal.SIGKILL)
        self._holder.wait(240)
        for stream in (self._holder.stdin, self._holder.stdout, self._holder.stderr):
            assert stream
            with suppress(BrokenPipeError):
                stream.close()
