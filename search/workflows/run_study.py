"""Carries out what is left of a study, as its only driver, and shows what it found."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from search.analysis.prior_hint import prior_hint
from search.execution.extra import need_search
from search.execution.session import before_ray
from search.ledger.budget import budget_rule
from search.ledger.confirming import is_due
from search.ledger.journal import Event
from search.ledger.session import StudySession
from search.monitor.console import ProgressDisplay
from search.notify.notices import Notices
from search.storage.archives.opened import check_not_archived
from search.storage.continuation import check_data
from search.storage.dataset_cache import content_hash
from search.storage.requests import end_by_hand, take_up
from search.storage.studies import display_path, open_as_driver, publish, read_study
from search.study.frozen import check_trainable
from search.study.load import with_its_trainer
from search.study.notify.targets import targets
from search.tracking.artifacts import Found, look
from search.tracking.tracker import Tracker
from search.workflows.conclusion import before_trials, conclude, left_behind
from trainer.exit_status import Exit
from trainer.files.damaged import clear
from trainer.old_names import note_old_names
from trainer.training.stop_signals import ending_signals

Train = Callable[[Iterable[int]], None]
"""Trains some trials and no others, until they have ended or the session is to stop."""
AtEnd = Callable[[StudySession, Train], None]


@contextmanager
def reopened(folder: Path) -> Iterator[StudySession]:
    """Open an existing study as its only driver.

    Raises:
        ValueError: It has no settings yet, its data have changed, it is being run, this version
            would train it otherwise, or it is an archive.
        OSError: The ledger cannot be read.
    """
    check_not_archived(folder)
    need_search()
    study, state = read_study(folder)
    assert state.study is not None
    targets(study.notify)
    check_trainable(state.study, folder)
    if study.trainer is None:
        note_old_names(state.study["config"].get("train", {}), f"{folder}: train.")
    check_data(state.study, content_hash(study.data.store), study, folder)
    with ending_signals(before_trials), open_as_driver(folder) as ledger:
        yield StudySession(with_its_trainer(study, folder), folder.resolve(), ledger)


def run_study(
    session: StudySession,
    address: str,
    *,
    only: Iterable[int] | None = None,
    fit: str = "trainer.loop:fit",
    show: Callable[[Path], str] | None = None,
    at_end: AtEnd | None = None,
) -> int:
    """Run what is left of a study and show what it found.

    Args:
        session: The study.
        address: From `ray_address`.
        only: Run these trials and no others, whatever the budget; None for the whole plan.
        fit: `module:function` with the contract of `trainer.loop.fit`.
        show: What to print of the study's folder at the end; None is the leaderboard.
        at_end: Carries out the study's section `confirm` once all of the search has ended.

    Returns:
        Exit status, as `launch`.
    """
    session.only = None if only is None else frozenset(only)
    progress, links = ProgressDisplay(session), SimpleQueue[Event]()
    session.listeners.append(progress.observe)
    tracker = Tracker(session, links.put, progress.print_line)
    take_up(session)
    end_by_hand(session)
    spent = session.overspent()
    runs = not session.finished and spent is None
    notices = Notices(session, progress.print_line) if runs else None
    if spent:
        session.stopping = budget_rule(spent)
    if runs:
        before_ray(address)
    # What was found is shown before the rest of MLflow is waited for.
    with (
        ending_signals(partial(left_behind, session)),
        tracker if runs or tracker.behind else nullcontext(),
        notices or nullcontext(),
    ):
        if runs:
            _run(session, progress, links, address, fit, at_end)
        else:
            _score_masks(session)
        found = look(session.folder)
        _show(session, found, show)
        tracker.found = found._replace(page=update_page(session.folder, found.result))
        take_up(session)  # what was asked for in the last minutes, for whoever launches again
        status = conclude(session)
        if notices:
            notices.ended(status == Exit.BROKEN)
    while not links.empty():
        session.record(links.get())
    return status


def _run(
    session: StudySession,
    progress: ProgressDisplay,
    links: "SimpleQueue[Event]",
    address: str,
    fit: str,
    at_end: AtEnd | None,
) -> None:
    """Run what a session is to run, and then what its study wants at the end of a search."""
    from search.tuning.run import run_trials

    def run() -> None:
        with progress:
            run_trials(session, progress, links, address=address, fit=fit)

    def train(numbers: Iterable[int]) -> None:
        session.only = frozenset(numbers)
        run()

    study, state = session.study, session.state
    if session.only is not None or study.confirm is None or not state.searched_out(study):
        run()
    over = session.only is None and state.searched_out(session.study)
    ends = session.stopping or session.broken
    if at_end and over and is_due(session.study, state.confirmed) and not ends:
        at_end(session, train)
        session.only, session.most_hours, session.shares = None, None, False
    stop = session.folder / "stop"
    session.patiently(lambda: clear(stop), stop)


def _score_masks(session: StudySession) -> None:
    """Score masks that a study which has nothing left to run has as a reference since."""
    study = session.study
    for reference in study.mask_references:
        from search.storage.mask_scores import scored

        known = session.state.masks.get(reference.name)
        try:
            if found := scored(reference, study.data.store, study.data.fold, known):
                session.record({"event": "masks", **found})
        except (ValueError, OSError) as error:
            print(f"the score of the masks {reference.name} could not be computed: {error}")


def _show(session: StudySession, found: Found, show: Callable[[Path], str] | None) -> None:
    """Print what was found."""
    from search.report.leaderboard import leaderboard_text, terminal_width

    text = show(session.folder) if show else leaderboard_text(found.result, terminal_width())
    print(f"\n{text}\n\nLook at  {display_path(session.folder)}", flush=True)
    if session.only is None and (hint := prior_hint(session.study, found.result)):
        print(f"note: {hint}", flush=True)


def update_page(folder: Path, result: dict[str, Any] | None = None) -> Path | None:
    """Write the study's page into its folder; a failure is a line and no more.

    Args:
        folder: The study's.
        result: What `compare` has just found of it, if anyone asked.

    Returns:
        The page, None where it could not be written.
    """
    from search.report.page_html import write_html

    page = folder / "report.html"
    try:
        write_html([folder], page, result)
        publish(page)
    except Exception as error:
        print(f"Page     not written: {' '.join(str(error).split()) or type(error).__name__}")
        return None
    print(f"Page     {display_path(folder)}/{page.name}", flush=True)
    return page
