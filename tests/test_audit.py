"""What `make lint` says of known vulnerabilities: with an answer of OSV's, and without any."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from tests import audit


@pytest.fixture
def osv() -> Iterator[tuple[str, list[Any]]]:
    """A server with a finding in the second package, as OSV's would say; and what it was asked."""
    asked: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.extend(
                json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"]
            )
            results: list[dict[str, Any]] = [{} for _ in asked]
            results[1] = {"vulns": [{"id": "GHSA-x", "modified": "2026-01-01T00:00:00Z"}]}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"results": results}).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_finding_is_named_and_fails_unless_there_is_a_reason(osv, monkeypatch, capsys) -> None:
    url, asked = osv
    assert audit.main(url) == 1
    package = asked[1]
    assert package["package"]["ecosystem"] == "PyPI" and "+" not in package["version"]
    name = f"{package['package']['name']} {package['version']}"
    assert f"audit: {name}: https://osv.dev/GHSA-x: not looked at yet" in capsys.readouterr().out
    asked.clear()
    monkeypatch.setitem(audit.ACCEPTED, "GHSA-x", "never called")
    assert audit.main(url) == 0
    assert "never called" in capsys.readouterr().out


def test_without_an_answer_it_is_said_as_skipped(capsys) -> None:
    assert audit.main("http://127.0.0.1:9") == 0
    assert capsys.readouterr().out.startswith("audit: skipped: http://127.0.0.1:9: ")
