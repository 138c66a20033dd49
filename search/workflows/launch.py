"""`segtune launch`: create a study or continue it, carry it out, and show what it found."""

import shlex
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from search.execution.environment import code_commit, package_versions
from search.execution.session import before_ray, ray_address
from search.ledger.budget import budget_rule
from search.ledger.events import MENDABLE
from search.ledger.journal import Event, Ledger
from search.ledger.lease import BeingRun
from search.ledger.session import StudySession
from search.ledger.state import StudyState
from search.ledger.trial_state import TrialState
from search.monitor.console import ProgressDisplay
from search.notify.notices import Notices
from search.storage.continuation import asked_of_driver, check_data, continuation
from search.storage.dataset_cache import content_hash
from search.storage.requests import ask_driver, end_by_hand, take_up, waiting_here
from search.storage.run_folders import log_of
from search.storage.settings_file import write_settings
from search.storage.studies import (
    display_path,
    open_as_driver,
    publish,
    read_study,
    refresh,
    writer_of,
)
from search.study.config import StudyConfig
from search.study.frozen import birth, check_trainable, study_of
from search.study.load import with_its_trainer
from search.study.notify.targets import targets
from search.tracking.address import ui_command
from search.tracking.artifacts import Found, look
from search.tracking.tracker import Tracker
from search.workflows.first_weights import FirstWeights, first_weights
from trainer.configfile import ConfigError
from trainer.old_names import note_old_names

BROKEN = 3
"""Exit status where nothing but failures came out, or nothing could be proposed. A crash has
another, and what relaunches tells them apart."""


def launch(
    study: StudyConfig,
    runs: Path,
    address: str | None = None,
    *,
    warm_start: Sequence[Path] = (),
    if_running: bool = False,
    weights: FirstWeights | None = None,
    fit: str = "trainer.loop:fit",
    show: Callable[[Path], str] | None = None,
) -> int:
    """Create a study or continue it, until every trial has ended or it is told to stop.

    One that somebody runs is not run twice: its driver is asked for settings that differ.

    Args:
        study: What to search.
        runs: The folder of all studies.
        address: A Ray cluster (host:port or "auto"); None starts one on this machine, or joins the
            one that RAY_ADDRESS names.
        warm_start: Folders of earlier studies from which a new one's sampler learns.
        if_running: Only ask a driver, where there is one.
        weights: What its trials begin with, where that was read already.
        fit: `module:function` with the contract of `trainer.loop.fit`.
        show: What to print of the study's folder at the end; None is the leaderboard.

    Returns:
        Exit status: 0 when the study ended or can be continued, BROKEN when its trials only fail
        or its data are not what they were.

    Raises:
        ValueError: The study exists with other settings or data, is being run as it is, or cannot
            run here.
        OSError: The study's folder cannot be written.
    """
    address = ray_address(address)
    targets(study.notify)  # before anything is written
    store_hash = content_hash(study.data.store)
    folder = runs.expanduser().resolve() / study.study
    try:
        if if_running and not writer_of(folder / "ledger.jsonl"):
            raise ConfigError([f"{display_path(folder)}: nobody runs it any more: launch it again"])
        with open_as_driver(folder) as ledger:
            state = _take_up_earlier(folder, ledger)
            if study.trials.gpus_per_trial == "auto":
                study = _with_its_gpus(study, state, address)
            study = _create_or_continue(study, store_hash, folder, ledger, warm_start, weights)
            return run_study(StudySession(study, folder, ledger), address, fit=fit, show=show)
    except BeingRun as error:
        refresh(folder)
        if not (folder / "ledger.jsonl").is_file():  # it has just begun
            raise
        _ask_driver(study, folder, warm_start, error.who)
        return 0


def _ask_driver(study: StudyConfig, folder: Path, sources: Sequence[Path], who: str) -> None:
    """Ask the driver that has a study for settings that differ.

    Raises:
        ValueError: None differs, or one may not.
        OSError: The folder or S3 cannot be reached.
    """
    from search.execution.gpus import with_gpus

    begun = StudyState.of(Ledger.open(folder / "ledger.jsonl", writer=False)).study
    if begun and study.trials.gpus_per_trial == "auto":
        study = with_gpus(study, study_of(begun, folder).trials.gpus, study.study)
    request, changed = asked_of_driver(study, folder, sources, who)
    ask_driver(folder, request)
    print(f"{display_path(folder)}: asked {who}, and it goes on there:", flush=True)
    print("".join(f"  {line}\n" for line in changed), end="", flush=True)


def _take_up_earlier(folder: Path, ledger: Ledger) -> StudyState:
    """Take up what people asked of an existing study, before this launch asks for anything."""
    state = StudyState.of(ledger)
    if state.study is None or not waiting_here(folder):
        return state
    session = StudySession(study_of(state.study, folder), folder, ledger)
    take_up(session)
    return session.state


@contextmanager
def reopened(folder: Path) -> Iterator[StudySession]:
    """Open an existing study as its only driver.

    Raises:
        ValueError: It has no settings yet, its data have changed, it is being run, or this version
            would train it otherwise.
        OSError: The ledger cannot be read.
    """
    study, state = read_study(folder)
    assert state.study is not None
    targets(study.notify)
    check_trainable(state.study, folder)
    if study.trainer is None:
        note_old_names(state.study["config"].get("train", {}), f"{folder}: train.")
    check_data(state.study, content_hash(study.data.store), study, folder)
    with open_as_driver(folder) as ledger:
        yield StudySession(with_its_trainer(study, folder), folder.resolve(), ledger)


def run_study(
    session: StudySession,
    address: str,
    *,
    only: Iterable[int] | None = None,
    fit: str = "trainer.loop:fit",
    show: Callable[[Path], str] | None = None,
) -> int:
    """Run what is left of a study and show what it found.

    Args:
        session: The study.
        address: From `ray_address`.
        only: Run these trials and no others, whatever the budget; None for the whole plan.
        fit: `module:function` with the contract of `trainer.loop.fit`.
        show: What to print of the study's folder at the end; None is the leaderboard.

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
    with tracker if runs or tracker.behind else nullcontext(), notices or nullcontext():
        if runs:
            from search.tuning.run import run_trials

            (session.folder / "stop").unlink(missing_ok=True)
            with progress:
                run_trials(session, progress, links, address=address, fit=fit)
        else:
            _score_masks(session)
        found = look(session.folder)
        _show(session, found, show)
        tracker.found = found._replace(page=update_page(session.folder, found.result))
        take_up(session)  # what was asked for in the last minutes, for whoever launches again
        status = _conclude(session)
        if notices:
            notices.ended(status == BROKEN)
    while not links.empty():
        session.record(links.get())
    return status


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


def _with_its_gpus(study: StudyConfig, state: StudyState, address: str) -> StudyConfig:
    """Return a study whose file says `gpus_per_trial: auto` with the number that it has for good.

    Raises:
        ValueError: The cluster does not answer, or the study does not suit the number.
    """
    from search.execution.gpus import automatic, with_gpus

    if state.study and state.trials:
        gpus = study_of(state.study, study.study).trials.gpus
    else:
        gpus = automatic(study, address, lambda line: print(f"note: {line}", flush=True))
    return with_gpus(study, gpus, study.study)


def _create_or_continue(
    study: StudyConfig,
    store_hash: str,
    folder: Path,
    ledger: Ledger,
    sources: Sequence[Path],
    weights: FirstWeights | None = None,
) -> StudyConfig:
    """Write a new study's first event, or check that an existing one is this very study.

    One without a trial has not begun, and takes any settings.

    Returns:
        The study under what it froze when it was begun.

    Raises:
        ConfigError: It has other settings, another data set or another warm start, or this version
            would train it otherwise.
    """
    state = StudyState.of(ledger)
    found = continuation(study, store_hash, folder, state, sources)
    study, begun, warm = found.study, found.begun, found.warm
    for note in found.notes:
        print(f"note: {note}", flush=True)
    frozen = birth(study)
    if not found.same or {source.resolve().name for source in sources} - {*warm}:
        imported: list[Event] = []
        if not state.trials:
            imported, warm = _warm_start(study, sources)
        overlaps = (weights or first_weights(study)).overlaps
        event = {
            "event": "study",
            "uid": begun["uid"] if begun else uuid.uuid4().hex,
            "config": found.config,
            "config_hash": study.config_hash(),
            **frozen._asdict(),
            "store_hash": store_hash,
            **({"first_weights": overlaps} if overlaps else {}),
            "commit": code_commit(),
            "versions": package_versions(),
        }
        ledger.append(event | ({"warm_start": warm} if warm else {}), *imported)
    write_settings(folder, found.config)
    return study.under(frozen)


def _warm_start(study: StudyConfig, sources: Sequence[Path]) -> tuple[list[Event], list[str]]:
    """Return what earlier studies teach, and their names, saying what is left out."""
    if not sources:
        return [], []
    from search.sampler.warm_start import warm_start

    events, lines = warm_start(study, sources)
    for line in lines:
        print(line, flush=True)
    return events, list(dict.fromkeys(source.resolve().name for source in sources))


def _show(session: StudySession, found: Found, show: Callable[[Path], str] | None) -> None:
    """Print what was found."""
    from search.report.leaderboard import leaderboard_text, terminal_width

    text = show(session.folder) if show else leaderboard_text(found.result, terminal_width())
    print(f"\n{text}\n\nLook at  {display_path(session.folder)}", flush=True)


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


def _conclude(session: StudySession) -> int:
    """Say where to look next, and return the exit status."""
    print(f"MLflow   {ui_command(session.folder)}", flush=True)
    runs = shlex.quote(display_path(session.folder.parent))
    trials = [t for t in session.state.trials.values() if session.includes(t)]
    nothing = session.state.exhausted and not session.state.searched()
    status = BROKEN if session.broken or nothing or only_failures(trials) else 0
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
    resolved = shlex.quote(f"{session.folder}/study.yaml")
    command = f"segtune launch {resolved} --runs {runs}"
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
