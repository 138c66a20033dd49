"""Who may ask MLflow's server that `segtune ui` starts: a browser that was shown the address.

On a machine with other people loopback is no border between them, and MLflow asks nobody who they
are. The address that is printed has a token, which is good once: whoever opens it first gets a
cookie instead, and everything without the cookie is refused. So the token may be seen in a list of
processes once a browser was started with it, and is worth nothing there.
"""

import hmac
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl, unquote

from search.tracking.endpoints import is_open

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = re.compile(rb"(127\.0\.0\.1|localhost)(:\d{1,5})?")
"""A browser's name of this machine; the port is another one at the near end of a tunnel."""
ENTER = b"<!doctype html><script>location.replace('/' + location.hash)</script>"


class Door:
    """An ASGI application before another one, that lets in who has the cookie, to what is open.

    Args:
        app: Answers what is let in.
        token: Of the first address.
        port: Of this server, which names the cookie: browsers know no ports for them.
        write: Whether what changes something is open.
    """

    def __init__(self, app: App, *, token: str, port: int, write: bool):
        self._app = app
        self._token: bytes | None = token.encode()
        self._cookie = (f"segtune-ui-{port}".encode(), secrets.token_urlsafe(32).encode())
        self._write = write

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        headers: list[tuple[bytes, bytes]] = [*scope["headers"]]
        if why := _stranger(headers):
            await _refuse(send, why)
        elif scope["method"] == "GET" and scope["raw_path"] == b"/" and _tokens(scope):
            await self._enter(scope, headers, send)
        elif not self._has_cookie(headers):
            await _refuse(send, "open the address that `segtune ui` printed, in this browser")
        elif _values(headers, b"sec-fetch-site") - {b"same-origin", b"none"}:
            await _refuse(send, "this was asked for by a page of another server")
        elif not is_open(scope["method"], scope["raw_path"], write=self._write):
            more = "" if self._write else "; what changes something needs `segtune ui --write`"
            await _refuse(send, f"not open here{more}")
        elif _leaves(scope):
            await _refuse(send, "a path of an artifact leads out of its folder")
        else:
            await self._app(scope, receive, send)

    async def _enter(self, scope: Scope, headers: list[tuple[bytes, bytes]], send: Send) -> None:
        """Exchange the token for the cookie, once."""
        is_right = [_same(word, self._token) for word in _tokens(scope)] == [True]
        if not (is_right or self._has_cookie(headers)):
            await _refuse(send, "an address is good once: `segtune ui` again prints another")
            return
        more = [(b"cache-control", b"no-store"), (b"referrer-policy", b"no-referrer")]
        if is_right:
            self._token = None
            cookie = b"%b=%b; Path=/; HttpOnly; SameSite=Strict" % self._cookie
            more.append((b"set-cookie", cookie))
        if _values(headers, b"sec-fetch-site") <= {b"none"}:
            await answer(send, 303, b"", [(b"location", b"/"), *more])
        else:  # a redirect of a link in somebody's page would not carry the cookie
            await answer(send, 200, ENTER, [(b"content-type", b"text/html"), *more])

    def _has_cookie(self, headers: list[tuple[bytes, bytes]]) -> bool:
        pairs = (word.strip() for line in _values(headers, b"cookie") for word in line.split(b";"))
        given = (pair.partition(b"=") for pair in pairs)
        name, value = self._cookie
        return any([_same(word, value) for key, _, word in given if key == name])


def _stranger(headers: list[tuple[bytes, bytes]]) -> str | None:
    """Return what is wrong with where a request was sent to, or from: a page of another server."""
    hosts = [value for key, value in headers if key == b"host"]
    if len(hosts) != 1 or not LOOPBACK.fullmatch(hosts[0]):
        return "this server is called 127.0.0.1 or localhost, and nothing else"
    if _values(headers, b"origin") - {b"http://" + hosts[0]}:
        return "this was asked for by a page of another server"
    return None


def _leaves(scope: Scope) -> bool:
    """Return whether a path that is asked for says that it leads elsewhere."""
    for name, value in parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True):
        if name.lower() in ("path", "artifact_directory_path", "artifact_file_path"):
            while (plain := unquote(value)) != value:
                value = plain
            if value.startswith("/") or {"..", "\0"} & {*re.split(r"([\\/\0])", value)}:
                return True
    return False


def _tokens(scope: Scope) -> list[bytes]:
    words = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    return [value.encode() for name, value in words if name == "token"]


def _values(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> set[bytes]:
    return {value for key, value in headers if key == name}


def _same(given: bytes, expected: bytes | None) -> bool:
    return expected is not None and hmac.compare_digest(given, expected)


async def _refuse(send: Send, why: str) -> None:
    await answer(send, 403, f"403: {why}\n".encode(), [(b"content-type", b"text/plain")])


async def answer(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    """Answer a request whole, with what lets no browser take it for something else."""
    size = (b"content-length", str(len(body)).encode())
    safe = (b"x-content-type-options", b"nosniff")
    await send({"type": "http.response.start", "status": status, "headers": [*headers, size, safe]})
    await send({"type": "http.response.body", "body": body})
