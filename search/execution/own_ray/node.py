"""One Ray node with just what a job was granted, several of them on one host.

A batch system that shares hosts grants CPUs, memory and GPUs of them. So a node here takes no more
than these, any free port, and a folder of its own; and ends alone, where `ray stop` would end all.
"""

import ctypes
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import suppress

import segtune_start
from search.execution.auth import MODE
from search.ledger.waiting import Wait
from trainer.configfile import ConfigError
from trainer.cpus import num_cpus
from trainer.exit_status import Exit

START_S = 120.0
"""In which a node starts, or the attempt is given up."""
SLOW_S = 15.0
"""A start that takes longer is spoken of: a usual one takes 5 s."""
OBJECTS_BYTES = 128 << 20
"""Of shared memory: trials hand around no objects of any size."""
PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)
MARK = "segtune_job_"
"""Begins the name of the resource by which the driver knows a job's node."""


def end_with_parent() -> None:
    """Let the kernel end this process, a new one, by SIGTERM when the one that started it dies."""
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Node:
    """A Ray node of this process's own, which is started at once.

    Args:
        address: The head's, which it joins; None makes it a head.
        given_up: Says while it starts whether it is not wanted any more; then it has ended. A head
            that has gone is waited for by Ray for minutes.

    Attributes:
        name: By which the driver knows it: the name of a resource that it alone has.
        address: The head's.

    Raises:
        ConfigError: None can start here, such as for what RAY_TMPDIR says.
        OSError: It did not start.
    """

    def __init__(self, address: str | None = None, given_up: Callable[[], bool] = lambda: False):
        self.name = f"{MARK}{uuid.uuid4().hex[:12]}"
        words = ["--block", f"--resources={json.dumps({self.name: 1})}", *_granted(), *_ports()]
        if address is None:
            host, port = _this_host(), _free_port()
            self.address = f"{host}:{port}"
            words += ["--head", f"--node-ip-address={host}", f"--port={port}"]
            words += [f"--ray-client-server-port={_free_port()}", "--include-dashboard=false"]
        else:
            self.address = address
            words.append(f"--address={address}")
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the node
        self._process = subprocess.Popen(
            segtune_start.command("search.execution.own_ray.folder", "start", *words),
            stdout=self._said,
            stderr=subprocess.STDOUT,
            env={**os.environ, MODE: "token"},
            preexec_fn=end_with_parent,
            start_new_session=True,  # else a signal for this process's group would end it first
        )
        self._await_start(given_up)

    @property
    def alive(self) -> bool:
        """Whether it has not ended: a node ends by itself a minute after its head has gone."""
        return self._process.poll() is None

    def end(self) -> None:
        """End this node, and no other; a second call does nothing."""
        if self.alive:
            self._process.terminate()
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                with suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        self._said.close()

    def _await_start(self, given_up: Callable[[], bool]) -> None:
        said, end_s, waits = b"", time.monotonic() + START_S, Wait(after_s=SLOW_S)
        while b"Ray runtime started" not in said:
            if given_up():
                return self.end()
            waits.on(f"for Ray to start here, up to {START_S:.0f} s")
            time.sleep(0.2)
            alive = self.alive
            said = os.pread(self._said.fileno(), 1 << 20, 0)
            if not alive or time.monotonic() > end_s:
                self.end()
                lines = [
                    line for line in said.decode("utf-8", "replace").split("\n") if line.strip()
                ]
                why = lines[-1].strip() if lines and not alive else f"not within {START_S:.0f} s"
                if self._process.returncode == Exit.REFUSED:
                    raise ConfigError([why])
                raise OSError(f"Ray did not start here: {why}")


def _granted() -> list[str]:
    """Return in `ray start`'s words what this job may use."""
    words = [f"--num-cpus={num_cpus()}", f"--object-store-memory={OBJECTS_BYTES}"]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None or "SLURM_JOB_ID" in os.environ:
        devices = [each for each in (visible or "").split(",") if each not in ("", "-1")]
        words.append(f"--num-gpus={len(devices)}")
    if (mib := os.environ.get("SLURM_MEM_PER_NODE", "0")).isdigit() and int(mib):
        words.append(f"--memory={(int(mib) << 20) - OBJECTS_BYTES}")
    return words


def _ports() -> list[str]:
    """Return in `ray start`'s words that every port is a free one: others have a node here, too."""
    return [
        "--dashboard-agent-listen-port=0",
        "--min-worker-port=0",
        "--max-worker-port=0",
        "--include-log-monitor=false",
    ]


def _this_host() -> str:
    """Return the address of this host that others reach."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trial:
        try:
            trial.connect(("192.0.2.1", 9))  # sends nothing: the system chooses a way, as for Ray
        except OSError:  # it has none
            return socket.gethostbyname(socket.gethostname())
        address: str = trial.getsockname()[0]
    return address


def _free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("", 0))
        port: int = trial.getsockname()[1]
    return port
