"""How a launch ends: where to look next, how to go on, and the exit status."""

import shlex
from collections.abc import Iterable

from search.ledger.budget import budget_rule
from search.ledger.events import MENDABLE
from search.ledger.session import StudySession
from search.ledger.trial_state import TrialState
from search.storage.run_folders import log_of
from search.storage.studies import display_path, launch_command
from search.tracking.address import ui_command
from trainer.exit_status import Exit


def before_trials(name: str) -> str:
    """Return what a signal of that name leaves behind in the first seconds."""
    return f"ended by {name} before a trial ran; the same command again goes on"


def left_behind(session: StudySession, name: str) -> str:
    """Return what a driver leaves behind that a signal of that name ends at once."""
    running = [trial for trial in session.live() if trial.running]
    names = ", ".join(f"{session.study.study}:{trial.number}" for trial in running)
    trials = "1 trial" if len(running) == 1 else f"{len(running)} trials"
    lost = f"{trials} ({names}) lost what came after the last checkpoint; " if running else ""
    return f"ended at once by {name}; {lost}{to_go_on(session)}"


def to_go_on(session: StudySession) -> str:
    """Return in words how a study is continued."""
    if session.only is not None:
        return "the same command again continues it"
    return f"to continue: {launch_command(session.folder)}"


def conclude(session: StudySession) -> int:
    """Say where to look next, and return the exit status."""
    print(f"MLflow   {ui_command(session.folder)}", flush=True)
    runs = shlex.quote(display_path(session.folder.parent))
    trials = [t for t in session.state.trials.values() if session.includes(t)]
    nothing = session.state.exhausted and not session.state.searched()
    status = Exit.DONE
    if session.broken or nothing or only_failures(trials):
        status = Exit.BROKEN
    failed = [trial for trial in trials if trial.ending == "failed"]
    retry = bool(failed) and not session.data_changed
    if retry:
        cause = session.broken or f"{len(failed)} trials failed: {failed[-1].reason}"
        name = shlex.quote(session.study.study)
        print(f"Log      {log_of(session.folder, failed[-1].number)}", flush=True)
        print(f"Mend what is wrong, then: segtune retry {name} --runs {runs}: {cause}")
    if session.finished or (retry and session.broken):
        return status
    if session.only is not None:
        mended = f", once this is mended: {session.broken}" if session.broken else "."
        print(f"Not finished; the same command again continues it{mended}")
        return status
    command = launch_command(session.folder)
    if session.broken:
        print(f"Mend what is wrong, then: {command}: {session.broken}")
        return status
    if spent := session.overspent():
        print(
            f"Not finished: {budget_rule(spent)}; to go on: {command} budget.{spent['what']}=MORE"
        )
    else:
        print(f"Not finished; to continue: {command}")
    return status


def only_failures(trials: Iterable[TrialState]) -> bool:
    """Return whether trials failed, and none ended with something that was measured."""
    endings = {trial.ending for trial in trials} - {None}
    return "failed" in endings and endings <= {*MENDABLE}
