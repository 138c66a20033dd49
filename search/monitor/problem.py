"""What is wrong with a study, since when, and what to type: one line of `status`."""

import shlex
from pathlib import Path
from typing import NamedTuple

from search.ledger import lease
from search.ledger.budget import budget_rule, overspent
from search.ledger.events import MENDABLE
from search.monitor.snapshot import StudySnapshot
from search.report.text import age
from search.storage.archives.opened import is_archived
from search.storage.mlflow_cursor import FILE, read_cursor
from search.storage.studies import display_path, launch_command

START_S = 180.0
"""In which a driver whose cluster has room has started a trial."""
MLFLOW_S = 600.0
"""In which MLflow has what happened, if it answers."""


class Problem(NamedTuple):
    """What keeps a study from going on, or its results from where they belong."""

    what: str
    since: float | None
    """Unix seconds, None where it is not known."""
    remedy: str
    """What to do, a command where there is one."""

    def in_words(self, now: float) -> str:
        """Return the line."""
        since = f", for {age(max(0.0, now - self.since))}" if self.since else ""
        return f"{self.what}{since}: {self.remedy}"


def problem_of(
    snapshot: StudySnapshot, folder: Path, driver: str | None, now: float
) -> Problem | None:
    """Return what is wrong with a study; None where nothing is.

    Args:
        snapshot: What its ledger says.
        folder: The study's.
        driver: Who runs it, None if nobody.
        now: Unix seconds.
    """
    study, state = snapshot.study, snapshot.state
    if is_archived(folder):
        return None
    if driver is None and not state.finished(study):
        return _without_driver(snapshot, folder)
    if driver is None:
        if failed := state.failed():
            name = f"segtune retry {study.study}{_runs(folder)}"
            count = "1 trial" if len(failed) == 1 else f"{len(failed)} trials"
            return Problem(f"{count} failed", None, f"mend what is wrong, then {name}")
        return _mlflow(snapshot, folder, driver, now)
    seen = lease.observed(folder)
    if seen and seen.touched_s and seen.silent_s > lease.LEASE_S:
        pid = driver.removeprefix("pid ").partition(" ")[0]
        # Elsewhere only its clock may be wrong, or the file server slow.
        end = f", kill -9 {pid} ends it for good; then launch again" if seen.locked else ""
        return Problem(
            f"{driver} holds the study and gives no sign of life",
            now - seen.silent_s,
            f"is it suspended? kill -CONT {pid} there wakes it up{end}",
        )
    return _not_running(snapshot, folder, now) or _mlflow(snapshot, folder, driver, now)


def _without_driver(snapshot: StudySnapshot, folder: Path) -> Problem:
    study, state = snapshot.study, snapshot.state
    command = launch_command(folder)
    since = state.last_time
    if spent := overspent(study, state.meter):
        more = f"{command} budget.{spent['what']}=MORE"
        return Problem(f"stopped: {budget_rule(spent)}", since, more)
    causes = {event["cause"] for event in snapshot.interrupted.values()}
    if causes == {"stop"} and not snapshot.running():
        return Problem("it was told to stop", since, command)
    endings = {trial.ending for trial in state.trials.values()} - {None}
    if "failed" in endings and endings <= {*MENDABLE}:
        return Problem("its trials only fail", since, f"mend what is wrong, then {command}")
    if any(trial.running for trial in state.trials.values()):
        seen = lease.observed(folder)
        who = f"its driver ({seen.who})" if seen else "its driver"
        return Problem(f"{who} ended without a word", since, command)
    return Problem("nobody runs it", since, command)


def _not_running(snapshot: StudySnapshot, folder: Path, now: float) -> Problem | None:
    """Return why nothing trains although there is a driver and something left to train."""
    state = snapshot.state
    live = state.live()
    if snapshot.running() or state.finished(snapshot.study) or state.last_time is None:
        return None
    last = snapshot.interrupted
    causes = {event["cause"] for event in last.values()}
    if last and len(last) == len(live) and causes == {"storage"}:
        newest = max(last.values(), key=lambda event: event["time"])
        since = min(event["time"] for event in last.values())
        remedy = f"they go on by themselves when it is back; df -h {shlex.quote(str(folder))}"
        return Problem(f"all trials wait for storage ({newest['reason']})", since, remedy)
    if now - state.last_time < START_S:
        return None
    lost = " (the last one was lost)" if "node" in causes else ""
    remedy = "ray status --address HOST:PORT shows what there is; it goes on when a node joins"
    return Problem(f"no node runs a trial{lost}", state.last_time, remedy)


def _mlflow(
    snapshot: StudySnapshot, folder: Path, driver: str | None, now: float
) -> Problem | None:
    """Return that MLflow lacks something for longer than it takes to send it."""
    if (cursor := read_cursor(folder)) is None:
        return None
    later = snapshot.times[cursor.delivered :]
    lacking = [t for t in later if t and (driver is None or now - t > MLFLOW_S)]
    if not lacking:
        return None
    remedy = f"segtune sync {snapshot.study.study}{_runs(folder)}"
    if driver:
        remedy = f"it gets them when it answers, or later with {remedy}"
    noted_s = (folder / FILE).stat().st_mtime
    number = f"{len(lacking)} event{'s' * (len(lacking) > 1)}"
    return Problem(f"MLflow lacks {number}", min(noted_s, lacking[0]), remedy)


def _runs(folder: Path) -> str:
    return f" --runs {shlex.quote(display_path(folder.parent))}"
