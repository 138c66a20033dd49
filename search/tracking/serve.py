"""The process that `segtune ui` starts: MLflow's server and a study's page, behind a door.

What it needs to know comes by stdin, which neither the process list nor the environment shows, and
it ends when stdin does: with whoever started it.
"""

import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

from search.tracking.door import Door


def main() -> None:
    """Serve on a socket that listens already, until SIGTERM or the end of stdin."""
    told: dict[str, Any] = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    # Here and not by whoever starts this: a database's address may have a password in it.
    os.environ["_MLFLOW_SERVER_FILE_STORE"] = told["uri"]
    root = Path(told["root"])
    artifacts = (root / "mlflow-artifacts").as_uri()
    os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"] = artifacts
    import uvicorn
    from mlflow.server.handlers import initialize_backend_stores

    from search.tracking.client import make_impatient
    from search.tracking.confined import confine
    from search.tracking.live_page import LivePage

    make_impatient()
    confine(root)
    initialize_backend_stores(told["uri"], told["uri"], artifacts)
    from mlflow.server.fastapi_app import app

    page = LivePage(app, Path(told["study"]))
    door = Door(page, token=told["token"], port=told["port"], write=told["write"])
    config = uvicorn.Config(
        door,
        access_log=False,  # which would have the token
        log_level="warning",
        lifespan="off",  # MLflow's looks for containers of its assistant
        ws="none",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=3,
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=told["socket"])])


def _end_with_stdin() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
