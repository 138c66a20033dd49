"""Ray for one command: where it is, its switches, and a session that leaves nothing behind.

Ray reads its switches and the mode of its token when it is imported, so nothing that a command
imports before `before_ray` may import it, this file least of all.
"""

import gc
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import segtune_start
from search.execution.auth import no_answer, use_token
from search.execution.own_ray.folder import BOUNDS, current_cluster, place
from search.execution.own_ray.start import bounded, check_limits, own_folder
from trainer.configfile import ConfigError
from trainer.cpus import num_cpus

RAY_SWITCHES = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths mean the same in every process
    "RAY_AIR_NEW_OUTPUT": "0",  # no tables
    # Else Tune itself starts an attempt again whose node is taken away, as it was begun: what the
    # ledger has since would be reported anew.
    "RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE": "1",
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent anywhere
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # they cost three times what all the rest costs
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Tune's would throw the steps in flight away
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",  # the ledger is the record
    "TUNE_MAX_PENDING_TRIALS_PG": "64",  # many actors start at once; the searcher sets the limit
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
} | BOUNDS


def ray_address(address: str | None) -> str:
    """Return the Ray cluster to use: as given, else RAY_ADDRESS, else "local".

    "auto" is what RAY_ADDRESS names, as in a job of Ray's, else the Ray that cluster/'s scripts
    started on this machine. Ray's own "auto" takes any Ray in the list of processes.

    Raises:
        ConfigError: It is a Ray Client's or a dashboard's, or there is none for "auto".
    """
    given = os.environ.get("RAY_ADDRESS", "")
    where = "--address" if address else "RAY_ADDRESS"
    address = address or given or "local"
    if address == "auto":
        address = given if given not in ("", "auto") else current_cluster() or ""
    if not address:
        rule = "segtune started no Ray that runs on this machine"
        raise ConfigError([f"{where} auto: {rule}: cluster/local.sh start, or name HOST:PORT"])
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
        ConfigError: The cluster does not answer, or asks for a token that is missing or wrong; or
            a limit of this process, or RAY_TMPDIR, does not do for a Ray.
        OSError: The token cannot be written or read, or there is no room for Ray's files.
    """
    if os.environ.get("RAY_ADDRESS") == "auto":
        del os.environ["RAY_ADDRESS"]  # Ray would take any
    if address == "local":
        check_limits()
        place()
    use_token(address)
    quiet_ray()


@contextmanager
def ray_session(address: str) -> Iterator[None]:
    """Start or join Ray, quietly, and leave it; one that was started here ends here.

    Raises:
        ConfigError: The cluster does not answer.
        OSError: Ray does not start here.
    """
    import ray

    options: dict[str, Any] = {}
    if segtune_start.is_hidden():  # Ray lets workers look into this folder first
        options["runtime_env"] = {"worker_process_setup_hook": segtune_start.HOOK}
    with own_folder() if address == "local" else nullcontext() as folder:
        # Ray's daemons inherit the mask. Else what ends the process group would end them first.
        ends = {signal.SIGTERM, signal.SIGHUP}
        signal.pthread_sigmask(signal.SIG_BLOCK, ends)
        # Ray's own handler would end this process with status 15 and nothing said.
        ray._private.utils.set_sigterm_handler = lambda handler: None
        try:
            try:
                with bounded(folder) if folder else nullcontext():
                    if folder:
                        options |= {"num_cpus": num_cpus(), "include_dashboard": False}
                        options["_temp_dir"] = str(folder / "ray")
                    ray.init(
                        address=address, log_to_driver=False, logging_level=logging.ERROR, **options
                    )
            except ConnectionError as error:
                raise no_answer(address) from error
            finally:
                # Ray's core has put a handler of its own below Python's, which aborts the process.
                signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
                signal.pthread_sigmask(signal.SIG_UNBLOCK, ends)
            for name in ("ray", "ray.tune"):
                logging.getLogger(name).setLevel(logging.CRITICAL)
            yield
        finally:
            # Ray ends the whole process, status 1, if another thread (MLflow's) happens to collect
            # an old reference to one of its objects while it shuts down.
            gc.collect()
            gc.disable()
            try:
                ray.shutdown()
            finally:
                gc.enable()
