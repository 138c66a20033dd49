"""What of MLflow's server `segtune ui` lets through: the requests that its pages make of a study.

A list of what is open, and no list of what is shut, since MLflow's next version has more. On none
of it can one say where artifacts lie: experiments and runs are not created, models not registered,
files not uploaded, with `--write` neither. Not there are also the assistant, which runs commands,
the gateway, jobs, webhooks, prompts, and `/api`, which is for programs.
"""

import re

_READ = (
    "GET  /",
    "GET  /get-artifact",
    "POST /graphql",  # has no mutation that changes anything
    "GET  /ajax-api/2.0/mlflow/artifacts/list",
    "GET  /ajax-api/2.0/mlflow/experiments/get",
    "GET  /ajax-api/2.0/mlflow/experiments/get-by-name",
    "GET  /ajax-api/2.0/mlflow/experiments/search",
    "POST /ajax-api/2.0/mlflow/experiments/search",
    "POST /ajax-api/2.0/mlflow/experiments/search-datasets",
    "GET  /ajax-api/2.0/mlflow/gateway-proxy",  # of no gateway: says so, where 403 is an alarm
    "POST /ajax-api/2.0/mlflow/logged-models/search",
    "GET  /ajax-api/2.0/mlflow/metrics/get-history",
    "GET  /ajax-api/2.0/mlflow/metrics/get-history-bulk",
    "GET  /ajax-api/2.0/mlflow/metrics/get-history-bulk-interval",
    "GET  /ajax-api/2.0/mlflow/model-versions/search",
    "GET  /ajax-api/2.0/mlflow/registered-models/search",
    "GET  /ajax-api/2.0/mlflow/runs/get",
    "POST /ajax-api/2.0/mlflow/runs/search",
    "GET  /ajax-api/2.0/mlflow/users/current",  # is not there, and that is what pages want to know
    "POST /ajax-api/3.0/mlflow/datasets/search",
    "GET  /ajax-api/3.0/mlflow/scorers/list",
    "GET  /ajax-api/3.0/mlflow/server-info",
    "POST /ajax-api/3.0/mlflow/traces/metrics",
    "POST /ajax-api/3.0/mlflow/traces/search",
    "GET  /ajax-api/3.0/mlflow/ui-telemetry",  # says that there is none
    "GET  /segtune",  # the study's own page
    "GET  /segtune/data",
)
_WRITE = (
    "POST /ajax-api/2.0/mlflow/experiments/delete",
    "POST /ajax-api/2.0/mlflow/experiments/delete-experiment-tag",
    "POST /ajax-api/2.0/mlflow/experiments/restore",
    "POST /ajax-api/2.0/mlflow/experiments/set-experiment-tag",
    "POST /ajax-api/2.0/mlflow/experiments/update",
    "POST /ajax-api/2.0/mlflow/runs/delete",
    "POST /ajax-api/2.0/mlflow/runs/delete-tag",
    "POST /ajax-api/2.0/mlflow/runs/restore",
    "POST /ajax-api/2.0/mlflow/runs/set-tag",
    "POST /ajax-api/2.0/mlflow/runs/update",
)
READ = frozenset((method, path.encode()) for method, path in map(str.split, _READ))
WRITE = frozenset((method, path.encode()) for method, path in map(str.split, _WRITE))
STATIC = re.compile(rb"/static-files(?:/[\w@-][\w.@-]*)+")
"""MLflow's scripts and pictures; nothing in it begins with a dot."""


def is_open(method: str, path: bytes, *, write: bool) -> bool:
    """Return whether a request is let through.

    Args:
        method: GET, POST and so on.
        path: As it was sent: what is quoted or doubled in it is another path, and not open.
        write: Whether what changes something is open as well.
    """
    asked = method, path
    if asked in READ or (write and asked in WRITE):
        return True
    return method == "GET" and STATIC.fullmatch(path) is not None
