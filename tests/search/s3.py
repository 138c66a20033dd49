"""A local S3: moto's server, and a gate before it that can be shut."""

import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

AWS = {
    "AWS_ACCESS_KEY_ID": "for-tests",
    "AWS_SECRET_ACCESS_KEY": "never-to-be-written-down",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_REGION": "us-east-1",
}


class Moto:
    """moto's server in a process of its own.

    Attributes:
        address: host:port.
    """

    def __init__(self, log: Path):
        self.address = f"127.0.0.1:{_free_port()}"
        self._log = log
        command = [sys.executable, "-m", "moto.server", "-p", self.address.partition(":")[2]]
        with log.open("w") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        end = time.monotonic() + 120
        while not self._answers():
            assert time.monotonic() < end and self.process.poll() is None, log.read_text()
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"http://{self.address}/moto-api/", timeout=5).close()
        except OSError:
            return False
        return True

    def make_bucket(self, name: str, address: str = "") -> str:
        """Create a bucket and return its URI, at another address if one is given."""
        request = urllib.request.Request(f"http://{self.address}/{name}", method="PUT")
        urllib.request.urlopen(request, timeout=5).close()
        return f"s3://{name}?endpoint_override={address or self.address}&scheme=http"

    def requests(self) -> list[str]:
        """Return all requests so far, as `METHOD path`."""
        return re.findall(r"([A-Z]+ /\S*) HTTP/1.1", self._log.read_text())


class Gate:
    """Passes connections on to a server, until it is shut.

    Attributes:
        address: host:port.
    """

    def __init__(self, to: str):
        host, _, port = to.partition(":")
        self._to = host, int(port)
        self._lock = threading.Lock()
        self.address = f"127.0.0.1:{_free_port()}"
        self.open()

    def open(self) -> None:
        """Let connections through."""
        self._listener = socket.create_server(("127.0.0.1", int(self.address.partition(":")[2])))
        self._passed: list[socket.socket] = []
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def shut(self) -> None:
        """Break all connections off, and refuse new ones."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._listener.close()
        for passed in self._passed:
            with suppress(OSError):
                passed.shutdown(socket.SHUT_RDWR)
            passed.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._to)
            with self._lock:
                if listener.fileno() < 0:  # shut meanwhile
                    near.close()
                    far.close()
                    return
                self._passed += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=_pump, args=(one, other), daemon=True).start()


def _pump(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError):
        while piece := one.recv(1 << 16):
            other.sendall(piece)
        other.shutdown(socket.SHUT_WR)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port
