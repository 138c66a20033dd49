"""MLflow's client as this package uses it: quiet, impatient, and without passwords in addresses."""

import logging
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from zlib import crc32

from search.tracking.address import database_path, sqlite_uri, without_credentials

SWITCHES = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # we try again ourselves, for hours if need be
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}

MAX_VALUES, MAX_PARAMS = 1000, 100
"""A request: MLflow takes no more."""

MAX_NAME = 250
"""Characters of a metric's, parameter's or tag's name: MLflow takes no more."""

Point = tuple[str, float, int, int]
"""Key, value, milliseconds since 1970, step."""


def connect(uri: str) -> Any:
    """Return MLflow's client of a server or a database, which is created if it is not there."""
    make_impatient()
    from mlflow import MlflowClient

    if path := database_path(uri):
        _create_database(path)
    return MlflowClient(_logged_in(uri))


def make_impatient() -> None:
    """Let MLflow be quiet in this process, and not try again for minutes what failed."""
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
    from mlflow.store.db import utils

    utils.MAX_RETRY_COUNT = 1  # ten times are 100 s, in which neither a word is said nor one exits
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what is raised, we say


def log(
    client: Any,
    run_id: str,
    points: Sequence[Point] = (),
    tags: Mapping[str, str] | None = None,
    params: Mapping[str, Any] | None = None,
) -> None:
    """Write what a run has to show; a point or parameter that it has already is not doubled."""
    from mlflow.entities import Metric, Param, RunTag

    fixed = [Param(name_for(name), str(value)) for name, value in (params or {}).items()]
    metrics = [Metric(name_for(name), value, ms, step) for name, value, ms, step in points]
    run_tags = [RunTag(name_for(key), value) for key, value in (tags or {}).items()]
    while fixed or metrics or run_tags:
        room = MAX_VALUES - len(fixed[:MAX_PARAMS]) - len(run_tags)
        some = {"params": fixed[:MAX_PARAMS], "metrics": metrics[:room], "tags": run_tags}
        client.log_batch(run_id, **some)
        fixed, metrics, run_tags = fixed[MAX_PARAMS:], metrics[room:], []


def name_for(name: str) -> str:
    """Return a name as MLflow takes it, which refuses a whole request for one that it does not.

    A trainer of one's own may call a metric `dice (%)`. What had to be changed ends in a checksum,
    so that two names stay two.
    """
    words = re.sub(r"[^\w.\-: /]", "_", name).split("/")
    taken = "/".join(word for word in words if word.strip(".")) or "_"
    if taken == name and len(name) <= MAX_NAME:
        return name
    return f"{taken[: MAX_NAME - 9]}.{crc32(name.encode('utf-8', 'surrogatepass')):08x}"


def _logged_in(uri: str) -> str:
    """Hand a server's user and password over as MLflow wants them; return its address alone.

    In the address they would be good for all but the artifacts.
    """
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or parts.username is None:
        return uri
    os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username)
    os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password or "")
    return without_credentials(uri)


def _create_database(path: Path) -> None:
    """Create MLflow's database complete or not at all: a half-created one can never be opened."""
    if path.exists():
        return
    from mlflow import MlflowClient

    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        MlflowClient(sqlite_uri(unfinished)).search_experiments()
        with suppress(FileExistsError):  # another study's driver was quicker
            os.link(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
