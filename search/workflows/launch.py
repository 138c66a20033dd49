"""`segtune launch`: create a study or continue it, carry it out, and show what it found."""

import uuid
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from search.execution.environment import code_commit, package_versions
from search.execution.extra import need_search
from search.execution.session import ray_address
from search.ledger.journal import Event, Ledger
from search.ledger.lease import BeingRun
from search.ledger.patience import patiently
from search.ledger.session import StudySession
from search.ledger.state import StudyState
from search.storage.continuation import asked_of_driver, continuation
from search.storage.dataset_cache import content_hash
from search.storage.requests import ask_driver, take_up, waiting_here
from search.storage.settings_file import write_settings
from search.storage.studies import display_path, open_as_driver, refresh, writer_of
from search.study.config import StudyConfig
from search.study.frozen import birth, study_of
from search.study.notify.targets import targets
from search.workflows.conclusion import before_trials
from search.workflows.confirming.at_the_end import confirm_best
from search.workflows.preview.first_weights import FirstWeights, first_weights
from search.workflows.run_study import run_study
from trainer.configfile import ConfigError
from trainer.exit_status import Exit
from trainer.training.stop_signals import ending_signals


@ending_signals(before_trials)
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
        Exit status: DONE when the study ended or can be continued, BROKEN when its trials only
        fail, nothing could be proposed, or its data are not what they were.

    Raises:
        ValueError: The study exists with other settings or data, is being run as it is, or cannot
            run here.
        OSError: The study's folder cannot be written.
    """
    need_search()
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
            session, at_end = StudySession(study, folder, ledger), partial(confirm_best, address)
            return run_study(session, address, fit=fit, show=show, at_end=at_end)
    except BeingRun as error:
        refresh(folder)
        if not (folder / "ledger.jsonl").is_file():  # it has just begun
            raise
        _ask_driver(study, folder, warm_start, error.who)
        return Exit.DONE


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
            **({} if begun else {"lets_go": True}),
            "commit": code_commit(),
            "versions": package_versions(),
        }
        first = event | ({"warm_start": warm} if warm else {})
        patiently(lambda: ledger.append(first, *imported), ledger.path)
    patiently(lambda: write_settings(folder, found.config), folder / "study.yaml")
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
