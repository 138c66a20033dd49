"""An MLflow server on the switch, which can be killed and comes back."""

import shutil
import subprocess
import threading
from pathlib import Path

from tests.chaos.hosts import BASE, NETWORK, Host, wait_for

PORT = 5000


class MlflowServer:
    """`mlflow server` on SQLite, on the bridge.

    Args:
        host: Where it runs.
    """

    URI = f"http://{NETWORK}.254:{PORT}"

    def __init__(self, host: Host):
        self._host = host
        self._database = BASE / "own" / "mlflow.db"
        self._return: threading.Timer | None = None
        self.start()

    def copy_to(self, folder: Path) -> str:
        """Copy what the server has into a folder, and return the copy's URI.

        SQLite cannot open the file itself from outside its mount namespace.
        """
        copy = shutil.copy(self._host.path(self._database), folder)
        return f"sqlite:///{copy}"

    def start(self) -> None:
        """Start it, without waiting until it answers."""
        if not self._host.is_on:  # a timer may be late
            return
        self._host.start(
            "mlflow",
            *("mlflow", "server", "--backend-store-uri", f"sqlite:///{self._database}"),
            *("--artifacts-destination", BASE / "own" / "artifacts"),
            *("--host", f"{NETWORK}.254", "--port", str(PORT), "--workers", "1"),
            MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
            MLFLOW_DISABLE_TELEMETRY="true",
        )

    def kill(self, down_s: float) -> None:
        """SIGKILL all its processes, and start it again after so long."""
        self._host.kill("mlflow")
        self._return = threading.Timer(down_s, self.start)
        self._return.daemon = True
        self._return.start()

    @property
    def is_down(self) -> bool:
        """Whether it is still to come back."""
        return self._return is not None and self._return.is_alive()

    def wait(self) -> None:
        """Return when it answers, first waiting until it comes back."""
        if self._return is not None:
            self._return.join()
        wait_for(self._answers, "MLflow's answer: " + self._host.log("mlflow")[-500:], 720)

    def _answers(self) -> bool:
        probe = f"import socket; socket.create_connection(('{NETWORK}.254', {PORT}), 2)"
        command = [*self._host.entering("net"), "python3", "-c", probe]
        return subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0
