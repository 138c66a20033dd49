"""Ray for one command: where it is, its switches, and a session that leaves nothing behind.

Ray reads its switches and the mode of its token when it is imported, so nothing that a command
imports before `before_ray` may import it, this file least of all.
"""

import gc
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import segtune_start
from search.execution.auth import no_answer, use_token
from search.storage.private_folder import private_folder
from trainer.configfile import ConfigError
from trainer.cpus import num_cpus

RAY_SWITCHES = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths mean the same in every process
    "RAY_AIR_NEW_OUTPUT": "0",  # no tables
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent anywhere
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # they cost three times what all the rest costs
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Tune's would throw the steps in flight away
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",  # the ledger is the record
    "TUNE_MAX_PENDING_TRIALS_PG": "64",  # many actors start at once; the searcher sets the limit
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
}

SOCKET_ROOM = 107 - len("/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store")
"""Bytes of a path to Ray's folder, so that those to its sockets are none too long for Linux."""


def ray_address(address: str | None) -> str:
    """Return the Ray cluster to use: as given, else RAY_ADDRESS, else "local".

    Raises:
        ConfigError: It is a Ray Client's or a dashboard's.
    """
    where = "--address" if address else "RAY_ADDRESS"
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    outside = {"ray": "Ray Client cannot drive a study", "http": "is a dashboard's address"}
    if (scheme := address.partition("://")[0].rstrip("s")) in outside and "://" in address:
        rule = f"{outside[scheme]}; from outside the cluster use --submit http://HOST:8265"
        remedy = ", or unset RAY_ADDRESS to start Ray on this machine" * (where == "RAY_ADDRESS")
        raise ConfigError([f"{where} {address}: {rule}{remedy}"])
    return address


def quiet_ray() -> None:
    """Set what Ray and Tune read from the environment when they are imported."""
    for name, value in RAY_SWITCHES.items():
        os.environ.setdefault(name, value)


def before_ray(address: str) -> None:
    """Do what must be done before Ray is imported: find its token, and set its switches.

    Raises:
        ConfigError: The cluster does not answer, or asks for a token that is missing or wrong.
        OSError: The token cannot be written or read.
    """
    use_token(address)
    quiet_ray()


@cache
def own_folder() -> str | None:
    """Return a folder for Ray's files where its own does not do; None where that does.

    Its own is `ray` in RAY_TMPDIR, TMPDIR or /tmp. It may be another user's, and a path that is
    too long for its sockets.

    Raises:
        ConfigError: RAY_TMPDIR does not do.
        OSError: There is no room in /tmp.
    """
    name = next((name for name in ("RAY_TMPDIR", "TMPDIR") if os.environ.get(name)), "")
    folder = Path(os.environ.get(name) or "/tmp", "ray")
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if len(os.fsencode(folder)) > SOCKET_ROOM:
        why = f"Ray's sockets need a path of at most {SOCKET_ROOM - len('/ray')} bytes"
    elif not os.access(there, os.W_OK | os.X_OK):
        why = f"{there} cannot be written by this user"
    else:
        return None
    where = f"{name} {os.environ[name]}" if name else str(folder)
    if name == "RAY_TMPDIR":
        raise ConfigError([f"{where}: {why}; name another folder, or unset it"])
    own = private_folder("/tmp")
    print(f"note: {where}: {why}: Ray's files are in {own}", file=sys.stderr, flush=True)
    return str(own / "ray")


@contextmanager
def ray_session(address: str) -> Iterator[None]:
    """Start or join Ray, quietly, and leave it; one that was started here ends here."""
    import ray

    options: dict[str, Any] = {}
    if segtune_start.is_hidden():  # Ray lets workers look into this folder first
        options["runtime_env"] = {"worker_process_setup_hook": segtune_start.HOOK}
    local: dict[str, Any] = {"num_cpus": num_cpus(), "include_dashboard": False}
    if address == "local" and (folder := own_folder()):
        local["_temp_dir"] = folder
    # Ray's daemons inherit the mask. Else what ends the process group would end them first.
    ends = {signal.SIGTERM, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            **options,
            **(local if address == "local" else {}),
        )
    except ConnectionError as error:
        raise no_answer(address) from error
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ends)
    for name in ("ray", "ray.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        # Ray ends the whole process, status 1, if another thread (MLflow's) happens to collect an
        # old reference to one of its objects while it shuts down.
        gc.collect()
        gc.disable()
        try:
            ray.shutdown()
        finally:
            gc.enable()
