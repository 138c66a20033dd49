"""`segtune ui`: MLflow's own server of a study's database, on loopback, while it is wanted."""

import json
import os
import secrets
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import segtune_start
from search.ledger.journal import Ledger
from search.storage.archives.opened import archive_file
from search.storage.studies import display_path
from search.tracking.address import tracking_uri, without_credentials
from search.tracking.descriptions import page_address
from search.tracking.live_page import PAGE
from trainer.configfile import ConfigError
from trainer.training.stop_signals import Ended, ending_signals

HOST = "127.0.0.1"
START_S = 120.0
"""In which the server must answer."""
STOP_S = 10.0
"""In which it must end when it is asked to."""


class Served(NamedTuple):
    """A server, as long as it runs."""

    address: str
    """`http://127.0.0.1:PORT`, which needs the cookie that the first address gives."""
    token: str

    def first(self, page: str) -> str:
        """Return the address of a page of it as it opens in a browser, once."""
        return page.replace("/#", f"/?token={self.token}#", 1)


def ui(folder: Path, port: int | None, *, write: bool) -> None:
    """Print the address of a study in MLflow, and serve it until Ctrl-C, SIGTERM or SIGHUP.

    Where MLFLOW_TRACKING_URI is a server's, that serves it: its address is printed, and that is
    all.

    Args:
        folder: The study's.
        port: Of the server; any free one if None.
        write: Whether the pages may change what MLflow has.

    Raises:
        ConfigError: MLflow does not have the study, or the port is not free.
        OSError: The server does not start.
    """
    if name := archive_file(folder):
        page = "segtune compare FILE --html PAGE.html writes its page"
        raise ConfigError([f"{name}: is an archive, of which MLflow has nothing: {page}"])
    runs = folder.resolve().parent
    uri = tracking_uri(runs)
    if uri.startswith(("http://", "https://")):
        address = without_credentials(uri)
        print(page_address(address, _linked_experiment(folder, address)), flush=True)
        return
    experiment = _linked_experiment(folder, without_credentials(uri))
    with suppress(Ended), ending_signals(str), served(uri, folder, port, write=write) as server:
        print(server.first(page_address(server.address, experiment)), flush=True)
        print(f"Then the study's own page, which follows it: {server.address}{PAGE}", flush=True)
        print("The address is good once, for one browser; Ctrl-C ends the server", flush=True)
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
def served(
    uri: str, folder: Path, port: int | None = None, *, write: bool = False
) -> Iterator[Served]:
    """Serve MLflow's database and a study's page on loopback; yield the server when it answers.

    Args:
        uri: The database's, perhaps with a password.
        folder: The study's; artifacts are shown below the folder of all studies, where it lies.
        port: Any free one if None.
        write: Whether the pages may change something.

    Raises:
        ConfigError: The port is not free.
        OSError: The server ends at once, or does not answer.
    """
    with tempfile.TemporaryDirectory(prefix="segtune-ui-") as scratch:
        log = Path(scratch) / "log"
        # Ours before anything is said, so that nobody else takes the port and is told the token.
        with _listening(port) as door, log.open("w") as output:
            port = int(door.getsockname()[1])
            server = subprocess.Popen(
                segtune_start.command("search.tracking.serve"),
                env=_environment() | segtune_start.environment(),
                cwd=scratch,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[door.fileno()],
                start_new_session=True,
            )
            token = secrets.token_urlsafe(32)
            place = folder.resolve()
            told: dict[str, Any] = {"uri": uri, "root": str(place.parent), "study": str(place)}
            told |= {"socket": door.fileno(), "port": port, "token": token, "write": write}
        assert server.stdin is not None
        try:
            with suppress(BrokenPipeError):  # it ended at once, and its log says why
                server.stdin.write(f"{json.dumps(told)}\n".encode())
                server.stdin.flush()
            address = f"http://{HOST}:{port}"
            _wait(server, address, log)
            yield Served(address, token)
        finally:
            _end(server)
            with suppress(BrokenPipeError):
                server.stdin.close()


@contextmanager
def _listening(port: int | None) -> Iterator[socket.socket]:
    with socket.socket() as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind((HOST, port or 0))
            door.listen(128)
        except OSError as error:
            raise ConfigError([f"--port {port}: {error.strerror or error}"]) from None
        yield door


def _environment() -> dict[str, str]:
    """Return the server's: without what MLflow was told for other purposes."""
    ours = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    others = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("MLFLOW_SQLALCHEMYSTORE_") or not name.lstrip("_").startswith("MLFLOW_")
    }
    return others | ours


def _wait(server: "subprocess.Popen[bytes]", address: str, log: Path) -> None:
    end_s = time.monotonic() + START_S
    while server.poll() is None and time.monotonic() < end_s:
        try:
            urllib.request.urlopen(address, timeout=5)
        except urllib.error.HTTPError:  # we have no cookie
            return
        except OSError:
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
