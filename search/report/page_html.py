"""One page of studies: `segtune compare STUDY… --html FILE` and, following one, `segtune ui`.

Here the page is put together; search/report/page_data.py gathers what it shows, and the scripts in
search/report/page/ draw it in the browser from one block of JSON. Style and script are allowed by
their hashes, pictures as data, and all else is forbidden by a Content-Security-Policy, so that a
name which got past the escaping could still neither run nor call anyone. Nothing is fetched, but by
the page that `segtune ui` serves: from that server, what is new.
"""

import base64
import hashlib
import html
import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from search.analysis.results import compared
from search.report.page_data import gather
from search.report.page_images import embed
from trainer.files.atomic import write_atomically
from trainer.files.documents import SCHEMA
from trainer.terminal import printable

MAX_BYTES = 5_000_000
"""Of a page; pictures are embedded while they fit."""

SCRIPTS = ("dom", "scale", "chart", "table", "answer", "leaderboard", "curves", "parallel",
           "slices", "importance", "beside", "trial", "verdicts", "settings", "study", "live",
           "main")  # fmt: skip
"""Of search/report/page/, each after those that it uses."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<main id="page" data-live="{live}" data-version="{version}">
<noscript>This page draws its tables and charts with JavaScript, from the data that it holds; please
allow that. <code>segtune compare</code> prints the tables.</noscript></main>
<script type="application/json" id="data">{data}</script>
<script>{script}</script>
</body>
</html>
"""


def write_html(folders: Sequence[Path], out: Path, result: dict[str, Any] | None = None) -> None:
    """Write a page of one or several studies, whole or not at all.

    Args:
        folders: Of the studies.
        out: The file, replaced if it exists.
        result: What `compare` has just found of the only study, if anyone asked.

    Raises:
        ValueError: A ledger is damaged, or has no settings.
        OSError: A study cannot be read, or the file not be written.
    """
    if not out.parent.is_dir():
        raise NotADirectoryError(f"{out}: {out.parent} is no folder")
    if out.is_dir():
        raise IsADirectoryError(f"{out}: is a folder, and must be a file")
    text = page(folders, result)
    try:
        write_atomically(out, lambda path: path.write_bytes(text.encode(errors="backslashreplace")))
    except OSError as error:  # which names the temporary file
        raise OSError(f"{out}: {error.strerror}") from error


def page(folders: Sequence[Path], result: dict[str, Any] | None = None) -> str:
    """Return the page as HTML of at most MAX_BYTES, if what is no picture leaves room for that."""
    assert result is None or len(folders) == 1
    data, text = _data([gather(folder, result) for folder in folders], folders)
    return _assemble(text, ", ".join(study["study"] for study in data["studies"]))


class Live(NamedTuple):
    """A study as it stands, for a server to show."""

    data: dict[str, Any]
    """What its page shows."""
    text: str
    """That as JSON."""

    def page(self, address: str, version: str) -> str:
        """Return its page, which asks an address of the server's for what is newer than it."""
        return _assemble(self.text, self.data["studies"][0]["study"], live=address, version=version)


def live(folder: Path) -> Live:
    """Return a study as it stands.

    Raises:
        ValueError: Its ledger is damaged, or has no settings.
        OSError: It cannot be read.
    """
    return Live(*_data([gather(folder)], [folder]))


def _data(studies: list[dict[str, Any]], folders: Sequence[Path]) -> tuple[dict[str, Any], str]:
    """Return what a page shows, and that as JSON; `pictures` has those of each study."""
    data: dict[str, Any] = {
        "made": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "studies": studies,
        **compared(studies, folders),
    }
    try:
        bare = _json_for_html(data)
    except ValueError:
        bare = "\0"
    if not _is_printable(bare):
        data = _shown(data)
        bare = _json_for_html(data)
    without = _assemble(bare, "").encode(errors="backslashreplace")
    data["pictures"] = embed(data["studies"], folders, room=MAX_BYTES - len(without))
    pictures = json.dumps(data["pictures"], separators=(",", ":")).replace("<", "\\u003c")
    return data, f'{bare[:-1]},"pictures":{pictures}}}'


def _is_printable(text: str) -> bool:
    """Return whether all texts in JSON are, for sure: a large page has a million values."""
    escaped = text.replace("\\u003c", "<")  # by _json_for_html
    controls = ("\\u", "\\b", "\\f", "\\r")
    return text.isprintable() and not any(sign in escaped for sign in controls)


def _assemble(data: str, names: str, *, live: str = "", version: str = "") -> str:
    folder = files("search.report") / "page"
    style = (folder / "style.css").read_text(encoding="utf-8")
    parts = [(folder / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS]
    script = '"use strict";\n' + "\n".join(parts)
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    policy += "; connect-src 'self'" if live else ""
    return PAGE.format(
        policy=policy,
        title=html.escape(f"segtune: {names}"),
        style=style,
        live=html.escape(live),
        version=html.escape(version),
        data=data,
        script=script,
    )


def _shown(value: Any) -> Any:
    """Return what a page may hold, at any depth: printable text, and None for no finite number."""
    if isinstance(value, float):  # most of what there is
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {_shown(key): _shown(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(each) for each in value]
    return value


def _hash(text: str) -> str:
    """Return a text as a Content-Security-Policy names it."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _json_for_html(data: dict[str, Any]) -> str:
    """Return JSON that stands in a <script> element: nothing in it ends or begins a tag."""
    text = json.dumps(
        {"schema": SCHEMA, **data}, ensure_ascii=False, separators=(",", ":"), allow_nan=False
    )
    return text.replace("<", "\\u003c")
