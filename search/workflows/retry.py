"""`segtune retry`: trials that failed get another try, after what made them fail was mended.

A retried trial goes on from its latest checkpoint, in its own folder and its own MLflow run, as if
it had not failed: it returns to its rung, and the sampler hears of its real end alone. Then the
study goes on as with `launch`.
"""

from collections.abc import Sequence
from pathlib import Path

from search.execution.session import ray_address
from search.ledger.events import MENDABLE
from search.ledger.journal import Event
from search.ledger.state import StudyState
from search.ledger.trial_state import TrialState
from search.report.text import align
from search.storage.studies import read_study
from search.storage.trials.names import trial_name, trial_of
from search.study.config import StudyConfig
from search.workflows.conclusion import only_failures
from search.workflows.run_study import reopened, run_study
from trainer.configfile import ConfigError
from trainer.exit_status import Exit


def retry(
    folder: Path,
    trials: Sequence[int] = (),
    *,
    address: str | None = None,
    fit: str = "trainer.loop:fit",
) -> int:
    """Give trials another try, and carry out what is left of their study.

    The same call again, after a kill, goes on with them.

    Args:
        folder: The study's.
        trials: Those that failed or ended as infeasible; none for all that failed.
        address: A Ray cluster, as in `search.workflows.launch.launch`.
        fit: `module:function` with the contract of `trainer.loop.fit`.

    Returns:
        Exit status, as `launch`; BROKEN also where all of these trials failed again.

    Raises:
        ValueError: A trial cannot be retried, the study is being run, or its data have changed.
        OSError: The study's folder cannot be read or written.
    """
    address = ray_address(address)
    with reopened(folder) as session:
        chosen = _chosen(folder, session.study, session.state, trials)
        session.record(*(_retried(trial) for trial in chosen if trial.ending))
        status = run_study(session, address, fit=fit)
        return Exit.BROKEN if only_failures(chosen) else status


def preview(folder: Path, trials: Sequence[int] = ()) -> str:
    """Return which trials `retry` would try again, why they ended, and what they keep.

    Raises:
        ValueError: As `retry`.
        OSError: There is no ledger.
    """
    study, state = read_study(folder)
    rows = [
        (
            trial_name(folder, trial.number),
            f"from epoch {trial.epoch}" if trial.epoch else "from its beginning",
            f"{trial.ending}: {trial.reason}" if trial.ending else "was retried, and goes on",
        )
        for trial in _chosen(folder, study, state, trials)
    ]
    return align(rows)


def _retried(trial: TrialState) -> Event:
    return {"event": "retried", "trial": trial.number, "epoch": trial.epoch}


def _chosen(
    folder: Path, study: StudyConfig, state: StudyState, numbers: Sequence[int]
) -> list[TrialState]:
    """Return the trials that are meant, those among them that were retried and go on as well.

    Raises:
        ConfigError: One line for every reason why not.
    """
    if not numbers:
        going_on = [t for t in state.live() if t.retries]
        if chosen := state.failed() or going_on:
            return chosen
        raise ConfigError([f"{folder}: no trial of it failed"])
    chosen = [trial_of(folder, state, number) for number in sorted(set(numbers))]
    problems = [(trial_name(folder, t.number), _problem(study, t)) for t in chosen]
    if lines := [f"{name}: {why}" for name, why in problems if why]:
        raise ConfigError(lines)
    return chosen


def _problem(study: StudyConfig, trial: TrialState) -> str:
    """Return why a trial cannot be retried; empty if it can."""
    if trial.ending is None:
        return "" if trial.retries else "has not ended: `segtune launch` continues it"
    if trial.ending not in MENDABLE:
        rule = "only what failed, or ended as infeasible because of something that was mended"
        return f"{trial.ending} ({trial.reason}): {rule}, is tried again"
    try:
        study.check_settings(trial.params)
    except ConfigError as error:
        return f"its settings exclude each other: {error.lines[0]}"
    return ""
