"""Somebody who is told: an HTTP server on this machine."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import pytest


class Asked(NamedTuple):
    """A request that came."""

    method: str
    path: str
    body: Any
    """JSON, None for none."""


class Listener:
    """A server that keeps what it is asked.

    Attributes:
        asked: All requests, in order.
        status: What it answers.
        delay_s: After how long.
    """

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.status, self.delay_s = 200, 0.0
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                listener.asked.append(
                    Asked(self.command, self.path, json.loads(body) if body else None)
                )
                time.sleep(listener.delay_s)
                self.send_response(listener.status)
                if listener.status == 302:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def wait_for(self, number: int, timeout_s: float = 60) -> list[Asked]:
        """Return what was asked when it is so much."""
        end = time.monotonic() + timeout_s
        while len(self.asked) < number:
            assert time.monotonic() < end, self.asked
            time.sleep(0.01)
        return self.asked


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    """Somebody who is told."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    listener = Listener()
    yield listener
    listener.close()
