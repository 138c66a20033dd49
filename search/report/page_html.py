"""One self-contained page of studies: `segtune compare STUDY… --html FILE`.

Here the page is put together; search/report/page_data.py gathers what it shows, and the scripts in
search/report/page/ draw it in the browser from one block of JSON. Nothing is fetched: style and
script are allowed by their hashes, pictures as data, and all else is forbidden by a
Content-Security-Policy, so that a name which got past the escaping could still neither run nor call
anyone.
"""

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from search.analysis.results import incomparable
from search.report.page_data import gather
from search.report.page_images import embed
from trainer.atomic import write_atomically
from trainer.documents import SCHEMA

MAX_BYTES = 5_000_000
"""Of a page; pictures are embedded while they fit."""

SCRIPTS = ("dom", "scale", "chart", "table", "answer", "leaderboard", "curves", "parallel",
           "slices", "importance", "trial", "verdicts", "settings", "study", "main")  # fmt: skip
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
<main id="page"><noscript>This page draws its tables and charts with JavaScript, from the data that
it holds; please allow that. <code>segtune compare</code> prints the tables.</noscript></main>
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
        write_atomically(out, lambda path: path.write_text(text, encoding="utf-8"))
    except OSError as error:  # which names the temporary file
        raise OSError(f"{out}: {error.strerror}") from error


def page(folders: Sequence[Path], result: dict[str, Any] | None = None) -> str:
    """Return the page as HTML of at most MAX_BYTES, if what is no picture leaves room for that."""
    assert result is None or len(folders) == 1
    studies = [gather(folder, result) for folder in folders]
    data = {
        "made": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "studies": studies,
        "incomparable": incomparable(studies),
    }
    bare = _assemble(data)
    embed(studies, folders, room=MAX_BYTES - len(bare.encode()))
    return _assemble(data)


def _assemble(data: dict[str, Any]) -> str:
    folder = files("search.report") / "page"
    style = (folder / "style.css").read_text(encoding="utf-8")
    parts = [(folder / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS]
    script = '"use strict";\n' + "\n".join(parts)
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    names = ", ".join(study["study"] for study in data["studies"])
    return PAGE.format(
        policy=policy,
        title=html.escape(f"segtune: {names}"),
        style=style,
        data=_json_for_html(data),
        script=script,
    )


def _hash(text: str) -> str:
    """Return a text as a Content-Security-Policy names it."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _json_for_html(data: dict[str, Any]) -> str:
    """Return JSON that stands in a <script> element: nothing in it ends or begins a tag."""
    text = json.dumps(
        {"schema": SCHEMA, **data}, ensure_ascii=False, separators=(",", ":"), allow_nan=False
    )
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
