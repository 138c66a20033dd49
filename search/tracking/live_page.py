"""The study's own page as it stands, beside MLflow's: what `segtune ui` serves at /segtune.

The page asks again every few seconds. It is made anew when the ledger has grown or the driver has
come or gone, in a thread beside MLflow's requests, and at most every few seconds. A browser gets
the whole of a study once, then what has changed (search/tracking/live_changes.py), compressed.
"""

import asyncio
import gzip
import json
import time
from pathlib import Path

from search.report.page_html import Live, live
from search.storage.studies import is_driven, refresh
from search.tracking.door import App, Receive, Scope, Send, answer
from search.tracking.live_changes import Version

PAGE, DATA = "/segtune", "/segtune/data"
PERIOD_S = 2.0
"""Between two looks at the ledger, at least."""
SHARE = 0.1
"""Of the time may go into making the page anew."""
KEPT = 3
"""Versions since which a browser may ask what has changed."""


class LivePage:
    """An ASGI application before another one, that answers for a study's page.

    Args:
        app: Answers all else.
        folder: The study's.
    """

    def __init__(self, app: App, folder: Path):
        self._app, self._folder = app, folder
        self._lock = asyncio.Lock()
        self._next_s = 0.0
        self._tag = ""
        self._live: Live
        self._versions: dict[str, Version] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in (PAGE, DATA):
            await self._app(scope, receive, send)
            return
        never = [(b"cache-control", b"no-store")]
        try:
            async with self._lock:
                await asyncio.to_thread(self._look)
                tag, shown, versions = self._tag, self._live, dict(self._versions)
        except (OSError, ValueError) as error:
            said = f"{error}\n".encode(errors="backslashreplace")
            await answer(send, 503, said, [(b"content-type", b"text/plain"), *never])
            return
        asked = dict(scope["headers"])
        headers = [*never, (b"etag", tag.encode())]
        if scope["path"] == PAGE:
            body, kind = shown.page(DATA, tag), b"text/html; charset=utf-8"
        elif (known := asked.get(b"if-none-match", b"").decode("latin-1")) == tag:
            await answer(send, 304, b"", headers)
            return
        else:
            before = versions.get(known)
            body, kind = versions[tag].since(before) if before else shown.text, b"application/json"
        content = body.encode(errors="backslashreplace")
        headers.append((b"content-type", kind))
        if b"gzip" in asked.get(b"accept-encoding", b""):
            content = await asyncio.to_thread(gzip.compress, content, 1)
            headers.append((b"content-encoding", b"gzip"))
        await answer(send, 200, content, headers)

    def _look(self) -> None:
        """Make the page anew where the study is another one."""
        begun_s = time.monotonic()
        if begun_s < self._next_s:
            return
        refresh(self._folder)
        about = (self._folder / "ledger.jsonl").stat()
        tag = json.dumps(f"{about.st_size}-{about.st_mtime_ns}-{is_driven(self._folder)}")
        if tag != self._tag:
            self._live = live(self._folder)
            self._versions.pop(tag, None)  # where a driver came and went
            self._versions[tag] = Version(self._live.data)
            for old in list(self._versions)[:-KEPT]:
                del self._versions[old]
            self._tag = tag
        ended_s = time.monotonic()
        self._next_s = ended_s + max(PERIOD_S, (ended_s - begun_s) / SHARE)
