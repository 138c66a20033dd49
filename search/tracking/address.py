"""Where MLflow is, as one may say it, and which runs of a study it has."""

import os
import re
import sys
from pathlib import Path

from search.ledger.journal import Event
from search.storage.studies import mirror_id


def tracking_uri(runs: Path) -> str:
    """Return MLFLOW_TRACKING_URI, or SQLite in the folder of all studies; never show it as it is.

    It may have a user and a password in it, which only MLflow may see.
    """
    # Two machines with mirrors of the same place have a database each, and so an address each.
    name = f"mlflow-{mirror}.db" if (mirror := mirror_id(runs)) else "mlflow.db"
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{runs / name}"


def without_credentials(text: str) -> str:
    """Return a text with the user and password of no address in it: `http://me:pw@host`."""
    return re.sub(r"://[^/\s]*@", "://", text)


def ui_command(folder: Path) -> str:
    """Return what shows a study in a browser: a command, or the server's address."""
    uri = without_credentials(tracking_uri(folder.parent))
    if not uri.startswith("sqlite:"):
        return uri
    from search.storage.studies import display_path

    segtune = Path(sys.executable).with_name("segtune")
    return f"{segtune} ui {folder.name} --runs {display_path(folder.parent)}"


def linked_runs(events: list[Event], uri: str) -> dict[int | None, str]:
    """Return each trial's run at a server, and under None the study's, as the ledger knows them."""
    return {
        event.get("trial"): event["run_id"]
        for event in events
        if event["event"] == "mlflow"
        and "run_id" in event
        and without_credentials(event["uri"]) == uri
    }
