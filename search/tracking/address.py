"""Where MLflow is, as one may say it, and which runs of a study it has."""

import os
import re
import shlex
import sys
from pathlib import Path
from urllib.parse import quote

from search.ledger.journal import Event
from search.storage.studies import mirror_id


def tracking_uri(runs: Path) -> str:
    """Return MLFLOW_TRACKING_URI, or SQLite in the folder of all studies; never show it as it is.

    It may have a user and a password in it, which only MLflow may see.
    """
    # Two machines with mirrors of the same place have a database each, and so an address each.
    name = f"mlflow-{mirror}.db" if (mirror := mirror_id(runs)) else "mlflow.db"
    return os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(runs / name)


def sqlite_uri(path: Path) -> str:
    """Return the address of a database file, whatever signs its folders have in their names."""
    plain = f"sqlite:///{path}"
    if not {"?", "%"} & {*plain} or database_path(plain) == path:  # as earlier versions linked it
        return plain
    # By its driver: of a quoted address without, MLflow makes the folders as they are quoted.
    return f"sqlite+pysqlite:///{quote(str(path))}"


def database_path(uri: str) -> Path | None:
    """Return the file of a database's address; None where it is another's, or names none."""
    from sqlalchemy.engine import make_url

    if not is_sqlite(uri):
        return None
    url = make_url(uri)
    return None if url.query or not url.database else Path(url.database)


def is_sqlite(uri: str) -> bool:
    """Return whether MLflow is a file, and no server or database of its own."""
    return uri.startswith(("sqlite:", "sqlite+"))


def without_credentials(text: str) -> str:
    """Return a text with the user and password of no address in it: `http://me:pw@host`."""
    return re.sub(r"://[^/\s]*@", "://", text)


def ui_command(folder: Path) -> str:
    """Return what shows a study in a browser: a command, or the server's address."""
    uri = without_credentials(tracking_uri(folder.parent))
    if not is_sqlite(uri):
        return uri
    from search.storage.studies import display_path

    beside = Path(sys.executable).with_name("segtune")
    segtune = str(beside) if beside.is_file() else "segtune"  # beside a notebook's Python is none
    words = ["ui", folder.name, "--runs", display_path(folder.parent)]
    return shlex.join([segtune, *words])


def linked_runs(events: list[Event], uri: str) -> dict[int | None, str]:
    """Return each trial's run at a server, and under None the study's, as the ledger knows them."""
    return {
        event.get("trial"): event["run_id"]
        for event in events
        if event["event"] == "mlflow"
        and "run_id" in event
        and without_credentials(event["uri"]) == uri
    }
