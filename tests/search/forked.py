"""Processes that start with all that a driver imports: forked from one that has imported it.

A driver's imports take five seconds of processor time, more than its toy study.
"""

import atexit
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from functools import cache
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

IMPORTED = [
    "mlflow",
    "ray.tune",
    "search.report.learning_curves",
    "search.workflows.confirming.confirm",
    "search.workflows.launch",
    "search.workflows.resume",
    "tests.search.drive",
    "tests.search.toy",
    "torch",
]


class Forked:
    """A call in a process, session and process group of its own; methods as of Popen.

    Args:
        call: Returns the exit status.
        *arguments: Its arguments.
        log: The file that gets what is written to stdout and stderr.
        env: The whole environment.
    """

    def __init__(self, call: Callable[..., int], *arguments: Any, log: Path, env: dict[str, str]):
        self._process = _server().Process(target=_run, args=(call, arguments, log, env))
        self._process.start()
        self.pid = self._process.pid
        self.log = log

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status.

        Raises:
            TimeoutError: It still runs after `timeout` seconds.
        """
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise TimeoutError(f"still running after {timeout} s")
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


@cache
def _server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    return context


def _run(call: Callable[..., int], arguments: tuple[Any, ...], log: Path, env: dict[str, str]):
    os.setsid()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ.clear()
    os.environ.update(env)
    try:
        sys.exit(call(*arguments))
    finally:
        atexit._run_exitfuncs()  # which multiprocessing leaves out
