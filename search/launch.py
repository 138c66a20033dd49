"""`segtune launch`: create a study or continue it, carry it out, and show what it found."""

import importlib.metadata
import os
import platform
import subprocess
import uuid
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import yaml

from search.ledger import Event, Ledger
from search.live import LiveStudy
from search.progress import Progress
from search.state import StudyState
from search.study import StudyConfig
from search.tracking import Tracker, ui_command
from trainer.atomic import write_atomically
from trainer.configfile import ConfigError, build, flatten

MAY_CHANGE = {"data.store"}
"""Study settings that say nothing about the results; the store is known by its content."""

RAY_SWITCHES = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths mean the same in every process
    "RAY_AIR_NEW_OUTPUT": "0",  # no tables
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent anywhere
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # they cost three times what all the rest costs
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Tune's would throw the steps in flight away
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",  # the ledger is the record
    "TUNE_MAX_PENDING_TRIALS_PG": "64",  # many actors start at once; the proposer sets the limit
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
}


def launch(
    study: StudyConfig, runs: Path, address: str | None = None, *, fit: str = "trainer.loop:fit"
) -> int:
    """Create a study or continue it, until every trial has ended or it is told to stop.

    Args:
        study: What to search.
        runs: The folder of all studies.
        address: A Ray cluster (host:port or "auto"); None starts one on this machine, or joins the
            one that RAY_ADDRESS names.
        fit: `module:function` with the contract of `trainer.loop.fit`.

    Returns:
        Exit status: 0 when the study ended or can be continued, 1 when its trials only fail.

    Raises:
        ValueError: The study exists with other settings or data, is being run, or cannot run here.
        OSError: The study's folder cannot be written.
    """
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    if address.startswith("ray://"):
        raise ConfigError(
            [f"--address {address}: Ray Client cannot drive a study; use host:port on the cluster"]
        )
    from trainer.data.store import Store

    store_hash = Store.open(study.data.store).content_hash
    folder = runs.expanduser().resolve() / study.study
    with Ledger.open(folder / "ledger.jsonl", writer=True) as ledger:
        _create_or_continue(study, store_hash, folder, ledger)
        live = LiveStudy(study, folder, ledger)
        progress = Progress(live)
        live.listeners.append(progress.hear)
        _carry_out(live, progress, address, fit)
    return _conclude(live)


def _create_or_continue(study: StudyConfig, store_hash: str, folder: Path, ledger: Ledger) -> None:
    """Write a new study's first event, or check that an existing one is this very study.

    One without a trial has not begun, and takes any settings.

    Raises:
        ConfigError: It has other settings or another data set.
    """
    state = StudyState.replay(ledger.events)
    begun, config = state.study, study.model_dump(mode="json")
    if begun and state.trials:
        if begun["store_hash"] != store_hash:
            raise ConfigError(
                [
                    f"{folder}: data.store: {study.data.store}: has the content {store_hash[:12]}, "
                    f"but this study was begun with {begun['store_hash'][:12]}"
                ]
            )
        # Read as a study, so that settings which a newer segtune added have their defaults.
        before = build(StudyConfig, begun["config"], ledger.path).model_dump(mode="json")
        if problems := _changes(before, config):
            raise ConfigError(f"{folder}: {problem}" for problem in problems)
    if begun is None or (begun["config"], begun["store_hash"]) != (config, store_hash):
        ledger.append(
            {
                "event": "study",
                "uid": begun["uid"] if begun else uuid.uuid4().hex,
                "config": config,
                "config_hash": study.config_hash(),
                "store_hash": store_hash,
                "commit": _commit(),
                "versions": _versions(),
            }
        )
    text = "# Resolved settings of this study; written by `segtune launch`.\n"
    text += yaml.safe_dump(config, sort_keys=False)
    write_atomically(folder / "study.yaml", lambda temporary: temporary.write_text(text))


def _changes(begun: dict[str, Any], config: dict[str, Any]) -> list[str]:
    """Return one line for every setting with which a study cannot be continued."""
    before, now = flatten(begun), flatten(config)
    lines = []
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        if old == new or key in MAY_CHANGE:
            continue
        rule = "give the study another name to change it"
        if key == "trials.num_trials":
            if now[key] > before[key]:
                continue
            rule = "can only be raised"
        lines.append(f"{key}: {new!r}: this study was begun with {old!r}; {rule}")
    return lines


def _commit() -> str:
    """Return the git commit of this code, with -dirty where it differs; empty outside git."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        result = subprocess.run(
            [*command, "--abbrev=40", "--exclude=*"], capture_output=True, text=True
        )
    except OSError:
        return ""
    return result.stdout.strip()


def _versions() -> dict[str, str]:
    packages = ("segtune", "torch", "monai", "ray", "optuna", "mlflow", "numpy", "pyarrow")
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "unknown"
    return versions


def quiet_ray() -> None:
    """Set what Ray and Tune read from the environment when they are imported."""
    for name, value in RAY_SWITCHES.items():
        os.environ.setdefault(name, value)


def _carry_out(live: LiveStudy, progress: Progress, address: str, fit: str) -> None:
    """Run what is left of the trials, with MLflow beside them."""
    links: SimpleQueue[Event] = SimpleQueue()
    tracker = Tracker(live, links.put, progress.say)
    if live.finished and not tracker.behind:
        return
    with tracker:
        live.listeners.append(tracker.hear)
        if not live.finished:
            quiet_ray()
            from search.tuner import carry_out

            (live.folder / "stop").unlink(missing_ok=True)
            carry_out(live, progress, links, address=address, fit=fit)
    while not links.empty():
        live.record(links.get())


def _conclude(live: LiveStudy) -> int:
    """Show the leaderboard and where to look next, and return the exit status."""
    from search.compare import leaderboard

    print(f"\n{leaderboard(live.folder)}")
    print(f"\nLook at  {live.folder}")
    print(f"MLflow   {ui_command(live.folder.parent)}", flush=True)
    if live.broken:
        print(f"Mend what is wrong and delete that folder to begin anew: {live.broken}")
        return 1
    if not live.finished:
        print("The study is not finished; the same command again continues it.")
    return 0
