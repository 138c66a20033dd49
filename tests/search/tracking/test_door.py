"""Who is let in to MLflow's pages, and to what: before an application that answers everything."""

import asyncio
import re
from typing import Any

import pytest

from search.tracking.door import Door
from search.tracking.endpoints import READ, WRITE

TOKEN, PORT = "a-token", 5000
HOST = (b"host", b"127.0.0.1:5000")
RUNS = "/ajax-api/2.0/mlflow/runs"


class Asked:
    """A door before an application that answers 200 to everything, and what came of requests."""

    def __init__(self, *, write: bool = False):
        self.let_in: list[str] = []
        self._door = Door(self._app, token=TOKEN, port=PORT, write=write)
        self.cookie = ""

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        self.let_in.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def ask(
        self, method: str, path: str, *headers: tuple[bytes, bytes], type_: str = "http"
    ) -> tuple[int, dict[bytes, bytes]]:
        """Return the status of an answer and its headers; 0 where a WebSocket was closed."""
        said: list[Any] = []

        async def send(message: Any) -> None:
            said.append(message)

        raw, _, query = path.partition("?")
        named = [*headers] if any(name == b"host" for name, _ in headers) else [HOST, *headers]
        scope = {"type": type_, "method": method, "path": raw, "raw_path": raw.encode(),
                 "query_string": query.encode(), "headers": named}  # fmt: skip
        asyncio.run(self._door(scope, None, send))  # type: ignore[arg-type]
        if said[0]["type"] == "websocket.close":
            return 0, {}
        return said[0]["status"], dict(said[0]["headers"])

    def enter(self, *headers: tuple[bytes, bytes]) -> tuple[int, dict[bytes, bytes]]:
        status, answer = self.ask("GET", f"/?token={TOKEN}", *headers)
        self.cookie = answer.get(b"set-cookie", b"").decode().partition(";")[0]
        return status, answer

    @property
    def known(self) -> tuple[bytes, bytes]:
        return b"cookie", self.cookie.encode()


@pytest.fixture
def asked() -> Asked:
    asked = Asked()
    asked.enter()
    return asked


ALL = sorted({(method, path.decode()) for method, path in READ | WRITE})
SHUT = [
    ("GET", "/static-files/static/js/main.js"), ("GET", "/static-files/favicon.ico"),
    ("HEAD", "/"), ("OPTIONS", f"{RUNS}/search"), ("POST", "/api/2.0/mlflow/experiments/create"),
    ("POST", "/ajax-api/2.0/mlflow/experiments/create"), ("POST", f"{RUNS}/create"),
    ("POST", "/ajax-api/2.0/mlflow/upload-artifact"), ("GET", "/graphql"), ("POST", "/v1/traces"),
    ("PUT", "/ajax-api/2.0/mlflow-artifacts/artifacts/1/a"), ("GET", "/health"),
    ("GET", "/ajax-api/2.0/mlflow-artifacts/artifacts"), ("GET", "/model-versions/get-artifact"),
    ("GET", "/ajax-api/2.0/mlflow/logged-models/m-1/artifacts/files"), ("GET", "/version"),
    ("POST", "/gateway/x/mlflow/invocations"), ("GET", "/ajax-api/3.0/mlflow/assistant/config"),
    ("POST", "/ajax-api/3.0/mlflow/assistant/message"), ("GET", "/ajax-api/3.0/mlflow/jobs/1"),
    ("POST", "/ajax-api/2.0/mlflow/webhooks"), ("POST", "/ajax-api/2.0/mlflow/gateway-proxy"),
    ("POST", "/ajax-api/2.0/mlflow/registered-models/create"), ("GET", "/metrics"),
    ("POST", "/ajax-api/2.0/mlflow/model-versions/create"), ("GET", "/ajax-api/2.0/mlflow/traces"),
    ("GET", "/ajax-api/3.0/mlflow/get-trace-artifact"), ("GET", "/build/index.html"),
    ("GET", "/ajax-api/3.0/mlflow/mcp-servers"), ("POST", "/ajax-api/3.0/mlflow/scorer/invoke"),
]  # fmt: skip
ODD = ["//", "/%2e/", "/./", "/?x/../", "/static-files/../get-artifact", "/static-files//a.js",
       "/static-files/%2e%2e/a", "/static-files/.hidden", "/static-files/", "//get-artifact",
       "/get-artifact/", "/get%2Dartifact", "/Get-Artifact", "/get-artifact;x", "/get-artifact\n",
       "http://127.0.0.1:5000/get-artifact", f"/{RUNS}/get", f"{RUNS}//get", f"{RUNS}%2Fget",
       "/api/2.0/mlflow/runs/get"]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), [*ALL, *SHUT])
def test_nothing_without_the_cookie(method: str, path: str) -> None:
    asked = Asked(write=True)
    for more in ((), ((b"cookie", b"segtune-ui-5000="),), ((b"authorization", b"Bearer a-token"),)):
        assert asked.ask(method, path, *more)[0] == 403
        assert asked.ask(method, f"{path}?token=another", *more)[0] == 403
    assert asked.let_in == []


@pytest.mark.parametrize(("method", "path"), SHUT[2:])
@pytest.mark.parametrize("write", [False, True])
def test_what_is_shut_with_the_cookie(method: str, path: str, write: bool) -> None:
    asked = Asked(write=write)
    asked.enter()
    assert asked.ask(method, path, asked.known)[0] == 403
    assert asked.let_in == []


@pytest.mark.parametrize("path", [path for path in ODD if not path.startswith("/?")])
def test_another_spelling_of_a_path_is_another_path(asked: Asked, path: str) -> None:
    assert asked.ask("GET", path, asked.known)[0] == 403
    assert asked.let_in == []


def test_what_is_open_is_read_and_with_write_changed(asked: Asked) -> None:
    writer = Asked(write=True)
    writer.enter()
    for method, path in ALL:
        is_read = (method, path.encode()) in READ
        assert asked.ask(method, path, asked.known)[0] == (200 if is_read else 403)
        assert writer.ask(method, path, writer.known)[0] == 200
    for path in ("/static-files/static/js/main.c2f5.js", "/static-files/favicon.ico"):
        assert asked.ask("GET", path, asked.known)[0] == 200


def test_what_reads_by_post_is_a_search() -> None:
    posts = [path.decode() for method, path in READ if method == "POST"]
    assert all(re.search(r"/(search(-datasets)?|metrics|graphql)$", path) for path in posts)


def test_a_token_becomes_a_cookie_once() -> None:
    asked = Asked()
    status, answer = asked.enter()
    assert status == 303 and answer[b"location"] == b"/"
    cookie = answer[b"set-cookie"].decode()
    assert cookie.startswith(f"segtune-ui-{PORT}=") and TOKEN not in cookie
    assert cookie.endswith("; Path=/; HttpOnly; SameSite=Strict")
    assert answer[b"cache-control"] == b"no-store" and answer[b"referrer-policy"] == b"no-referrer"
    assert asked.ask("GET", "/", asked.known)[0] == 200
    assert asked.ask("GET", f"/?token={TOKEN}")[0] == 403, "somebody else saw it"
    assert asked.ask("GET", f"/?token={TOKEN}", asked.known)[0] == 303, "the same browser again"
    others = f"x=y; {asked.cookie}; segtune-ui-5001=z".encode()
    assert asked.ask("GET", "/", (b"cookie", others))[0] == 200


@pytest.mark.parametrize("path", [
    "/?token=", f"/?token={TOKEN}x", f"/?token={TOKEN}&token=x", f"/?Token={TOKEN}",
    f"/x?token={TOKEN}", "/?token=%ff",
])  # fmt: skip
def test_another_token(path: str) -> None:
    """It is refused, and the right one is good still."""
    asked = Asked()
    assert asked.ask("GET", path)[0] == 403
    for method in ("POST", "HEAD", "OPTIONS"):
        assert asked.ask(method, f"/?token={TOKEN}")[0] == 403
    assert asked.enter()[0] == 303


@pytest.mark.parametrize("host", [
    "evil.example", "127.0.0.1.evil.example", "192.168.0.1:5000", "", "0.0.0.0:5000",
    "localhost:5000@evil.example", "localhost:5000\n",
])  # fmt: skip
def test_a_name_that_is_not_this_machine(asked: Asked, host: str) -> None:
    """A name that somebody has pointed at 127.0.0.1, as DNS rebinding does."""
    assert asked.ask("GET", "/", asked.known, (b"host", host.encode()))[0] == 403
    assert Asked().enter((b"host", host.encode()))[0] == 403
    twice = [(b"host", b"127.0.0.1:5000"), (b"host", b"localhost")]
    assert asked.ask("GET", "/", asked.known, *twice)[0] == 403
    for name in (b"localhost:5000", b"localhost:8080", b"localhost"):
        assert asked.ask("GET", "/", asked.known, (b"host", name))[0] == 200


@pytest.mark.parametrize("origin", [
    b"http://evil.example", b"null", b"http://127.0.0.1:9999", b"https://127.0.0.1:5000",
    b"http://localhost:5000",
])  # fmt: skip
def test_a_page_of_another_server(asked: Asked, origin: bytes) -> None:
    """Also of another user's on this machine, to which a browser sends the cookie."""
    assert asked.ask("POST", f"{RUNS}/search", asked.known, (b"origin", origin))[0] == 403
    ours = (b"origin", b"http://127.0.0.1:5000")
    assert asked.ask("POST", f"{RUNS}/search", asked.known, ours)[0] == 200
    sites = {b"same-origin": 200, b"none": 200, b"same-site": 403, b"cross-site": 403}
    for site, status in sites.items():
        assert asked.ask("GET", "/", asked.known, (b"sec-fetch-site", site))[0] == status


def test_a_link_in_a_page_enters_without_a_redirect() -> None:
    """Which would be a request of that page's, without the cookie."""
    status, answer = Asked().enter((b"sec-fetch-site", b"cross-site"))
    assert status == 200 and answer[b"content-type"] == b"text/html" and b"set-cookie" in answer


def test_a_websocket_is_closed(asked: Asked) -> None:
    assert asked.ask("GET", "/", asked.known, type_="websocket") == (0, {})
    assert asked.let_in == []


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "%2e%2e/x", "%252e%252e/x",
                                  "..%5cx", "%2Fetc", "a%00", "a/.."])  # fmt: skip
def test_an_artifact_s_path_stays_in_its_folder(asked: Asked, path: str) -> None:
    for where in ("/get-artifact?run_uuid=1&path=", "/ajax-api/2.0/mlflow/artifacts/list?path="):
        assert asked.ask("GET", where + path, asked.known)[0] == 403
        assert asked.ask("GET", f"{where}samples/a..b.png", asked.known)[0] == 200
    assert {*asked.let_in} == {"/get-artifact", "/ajax-api/2.0/mlflow/artifacts/list"}
