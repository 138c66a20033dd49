"""`segtune ui`: MLflow's own server of a study's database, on loopback, while it is wanted."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from search.ledger.journal import Ledger
from search.storage.studies import display_path
from search.tracking.address import tracking_uri, without_credentials
from search.tracking.descriptions import page_address
from trainer.configfile import ConfigError
from trainer.training.stop_signals import stop_signals

HOST = "127.0.0.1"
START_S = 120.0
"""In which the server must answer."""
STOP_S = 10.0
"""In which it must end when it is asked to."""


def ui(folder: Path, port: int | None) -> None:
    """Print the address of a study in MLflow, and serve it until Ctrl-C, SIGTERM or SIGHUP.

    Where MLFLOW_TRACKING_URI is a server's, that serves it: its address is printed, and that is
    all.

    Args:
        folder: The study's.
        port: Of the server; any free one if None.

    Raises:
        ConfigError: MLflow does not have the study, or the port is not free.
        OSError: The server does not start.
    """
    uri = tracking_uri(folder.resolve().parent)
    if uri.startswith(("http://", "https://")):
        address = without_credentials(uri)
        print(page_address(address, _linked_experiment(folder, address)), flush=True)
        return
    experiment = _linked_experiment(folder, without_credentials(uri))
    with _until_told(), served(uri, port) as address:
        print(page_address(address, experiment), flush=True)
        print("Ctrl-C ends the server", flush=True)
        while True:
            time.sleep(3600)


def _linked_experiment(folder: Path, uri: str) -> str:
    events = Ledger.open(folder / "ledger.jsonl", writer=False).events
    for event in reversed(events):
        if "experiment_id" in event and without_credentials(event["uri"]) == uri:
            return str(event["experiment_id"])
    lacks = f"MLflow at {uri} does not have this study yet"
    raise ConfigError([f"{display_path(folder)}: {lacks}: segtune sync {folder.name} sends it"])


@contextmanager
def served(uri: str, port: int | None = None) -> Iterator[str]:
    """Serve a database of MLflow's on loopback, and yield the address when it answers.

    Raises:
        ConfigError: The port is not free.
        OSError: The server ends at once, or does not answer.
    """
    port = _free_port(port)
    address = f"http://{HOST}:{port}"
    # By the environment: a database's address may have a password in it, which `ps` would show.
    env = os.environ | {
        "MLFLOW_BACKEND_STORE_URI": uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    env.pop("MLFLOW_TRACKING_URI", None)
    hosts = f"{HOST}:{port},localhost:{port}"
    options = ["--host", HOST, "--port", str(port), "--workers", "1", "--allowed-hosts", hosts]
    with tempfile.TemporaryDirectory(prefix="segtune-ui-") as scratch:
        log = Path(scratch) / "log"
        with log.open("w") as output:
            server = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *options],
                env=env,
                cwd=scratch,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            _wait(server, address, log)
            yield address
        finally:
            _end(server)


def _free_port(port: int | None) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port or 0))
        except OSError as error:
            raise ConfigError([f"--port {port}: {error.strerror or error}"]) from None
        return int(probe.getsockname()[1])


def _wait(server: "subprocess.Popen[bytes]", address: str, log: Path) -> None:
    end_s = time.monotonic() + START_S
    while server.poll() is None and time.monotonic() < end_s:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    said = without_credentials(lines[-1])[:200] if lines else "it said nothing"
    raise OSError(f"MLflow's server does not answer at {address}: {said}")


def _end(server: "subprocess.Popen[bytes]") -> None:
    """End the server and its workers, which are a group of processes of their own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, number)
        except ProcessLookupError:
            break
        end_s = time.monotonic() + STOP_S
        while time.monotonic() < end_s and _lives(server):
            time.sleep(0.05)
    server.wait()


def _lives(server: "subprocess.Popen[bytes]") -> bool:
    server.poll()  # so that it is no zombie
    try:
        os.killpg(server.pid, 0)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def _until_told() -> Iterator[None]:
    """Leave the block, and not the program, at Ctrl-C, SIGTERM or SIGHUP."""

    def stop(number: signal.Signals) -> None:
        raise KeyboardInterrupt

    with suppress(KeyboardInterrupt), stop_signals(stop):
        yield
