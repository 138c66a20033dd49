"""A host apart on this machine: namespaces with their own processes and mounts, and two users."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.search.conftest import ROOT

USERS = ("ada", "bob")


class Apart:
    """A host that lives as long as its first process, a script of this folder, does.

    Args:
        folder: Where its files lie, and a file `ready` once it has begun.
        script: The first process: its name, and the words that follow the folder.
        more: Namespaces beside those of processes and mounts, as options of unshare and nsenter.
    """

    def __init__(self, folder: Path, script: Sequence[str], more: Sequence[str] = ()):
        self.folder = folder
        self._inside = ["--pid", "--mount", *more]
        name, *words = script
        unshare = ["unshare", *self._inside, "--fork", "--kill-child", "--mount-proc"]
        with (folder / "host.log").open("w") as log:
            self._process = subprocess.Popen(
                [*unshare, Path(__file__).with_name(name), folder, *words],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self.wait_for((folder / "ready").exists, 240)
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """End the first process, and so every other one."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def run(
        self, *command: str | Path, user: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command there, as root or as a user with a home of their own."""
        words, env = self._words(command, user, environment)
        return subprocess.run(words, env=env, capture_output=True, text=True)

    def start(
        self, *command: str | Path, log: Path, user: str = "", **environment: str
    ) -> subprocess.Popen[bytes]:
        """Start a command as `run` does; what it says is appended to a log."""
        words, env = self._words(command, user, environment)
        with log.open("a") as file:
            return subprocess.Popen(words, env=env, stdout=file, stderr=file)

    def call(self, *command: str | Path, user: str = "", **environment: str) -> str:
        """Run a command, which succeeds, and return what it prints."""
        result = self.run(*command, user=user, **environment)
        assert result.returncode == 0, result.stderr + self.said()
        return result.stdout

    def wait_for(self, ready: Callable[[], object], timeout_s: float) -> None:
        """Wait until something is true."""
        end = time.monotonic() + timeout_s
        while not ready():
            assert self._process.poll() is None, self.said()
            assert time.monotonic() < end, self.said()
            time.sleep(0.1)

    def said(self) -> str:
        """Return all logs."""
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("**/*.log")))

    def let_in_users(self) -> str:
        """Make the users; return why none of them can run what root does, empty if they can."""
        self.folder.chmod(0o755)
        python = [ROOT, Path(sys.prefix), Path(sys.base_prefix)]
        self.call(Path(__file__).with_name("two_users.sh"), self.folder, *USERS, "--", *python)
        tried = self.run("python", "-c", "import search, ray", user=USERS[0])
        return tried.stderr.strip().rpartition("\n")[2]

    def _words(
        self, command: Sequence[str | Path], user: str, environment: dict[str, str]
    ) -> tuple[list[str], dict[str, str]]:
        children = f"/proc/{self._process.pid}/task/{self._process.pid}/children"
        first = Path(children).read_text().strip()
        words = ["nsenter", f"--target={first}", f"--wd={ROOT}", *self._inside]
        home = self.folder / (user or "home")
        if user:
            words += ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]
        # A test in this process may have put Ray's mode there.
        own = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"}
        env = {
            **own,
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "HOME": str(home),
            "RAY_TMPDIR": "" if user else str(self.folder),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            **environment,
        }
        return [*words, *map(str, command)], env
