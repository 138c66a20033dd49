"""`segtune resume`: the best trials are worth more epochs than max_t, and get them.

A resumed trial goes on from its latest checkpoint, in its own folder and its own MLflow run. What
is a share of training goes on as in a run of N epochs: the cosine or linear schedule is stretched
to N epochs, so the learning rate, which had fallen towards 0, rises again to what such a run has
after as many images, and falls from there (a warm restart, as in Loshchilov & Hutter 2017, to a
part of the peak); and a warm-in of losses that such a run would not have finished by then goes back
to where that run would be. So the result is not quite that of N epochs from scratch: its learning
rate has fallen twice. The warm-up is in images, and is not repeated.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from search.analysis.ranking import ranked
from search.execution.session import ray_address
from search.ledger.journal import Event
from search.ledger.session import StudySession
from search.ledger.trial_state import TrialState
from search.storage.run_folders import checkpoints_of
from search.storage.trials.names import trial_name, trial_of
from search.study.config import StudyConfig
from search.workflows.run_study import reopened, run_study
from trainer.configfile import ConfigError

CAN_GO_ON = ("completed", "stopped", "stalled")
"""Endings after which more epochs make sense."""


def resume(
    folder: Path,
    *,
    epochs: int,
    top: int | None = None,
    trials: Sequence[int] = (),
    address: str | None = None,
    fit: str = "trainer.loop:fit",
) -> int:
    """Give trials that ended a longer training. No other trial of the study runs.

    The same call again, after a kill, chooses the same trials and goes on with them.

    Args:
        folder: The study's.
        epochs: What they are to reach in all.
        top: Take so many of the best that ended, by the mean of each one's last validations.
        trials: Or take these.
        address: A Ray cluster, as in `search.workflows.launch.launch`.
        fit: `module:function` with the contract of `trainer.loop.fit`.

    Returns:
        Exit status, as `launch`.

    Raises:
        ValueError: A trial cannot go on, the study is being run, or its data have changed.
        OSError: The study's folder cannot be read or written.
    """
    address = ray_address(address)
    with reopened(folder) as session:
        session.record(*resumed_events(session, epochs=epochs, top=top, trials=trials))
        resumed = [t.number for t in session.state.live() if t.segments]
        return run_study(session, address, only=resumed, fit=fit)


def resumed_events(
    session: StudySession, *, epochs: int, top: int | None = None, trials: Sequence[int] = ()
) -> list[Event]:
    """Return the events that resume trials.

    A `resume` with what was chosen, unless an equal one chose before, and a `resumed` for each of
    its trials that does not have one.

    Raises:
        ConfigError: One line for every reason why not.
    """
    wanted: dict[str, Any] = {"top": top, "epochs": epochs}
    if top is None:
        wanted["trials"] = sorted(set(trials))
    for event in session.state.resumes:
        if all(event[key] == value for key, value in wanted.items()):
            chosen = [session.state.trials[number] for number in event["trials"]]
            left = [t for t in chosen if all(s.epochs != epochs for s in t.segments)]
            _check(session, left, epochs)
            return _resumed(left, epochs)
    if problem := unsuitable(session.study, epochs):
        raise ConfigError([f"--epochs {epochs}: {problem}"])
    chosen = _named(session, trials) if top is None else _best(session, top)
    _check(session, chosen, epochs)
    chose = {"event": "resume", "top": top, "epochs": epochs}
    return [chose | {"trials": [t.number for t in chosen]}, *_resumed(chosen, epochs)]


def _resumed(trials: Sequence[TrialState], epochs: int) -> list[Event]:
    return [
        {"event": "resumed", "trial": trial.number, "epoch": trial.epoch, "epochs": epochs}
        for trial in trials
    ]


def unsuitable(study: StudyConfig, epochs: int) -> str:
    """Return why no trial of a study can be trained for so many epochs; empty if it can."""
    every = study.validate_every
    if not study.trains:
        return "this study's trials train nothing (max_t 0)"
    if epochs % every:
        return f"must be a multiple of train.validation.every ({every})"
    return ""


def _named(session: StudySession, numbers: Sequence[int]) -> list[TrialState]:
    return [trial_of(session.folder, session.state, number) for number in sorted(set(numbers))]


def _best(session: StudySession, top: int) -> list[TrialState]:
    able = [trial for trial in session.state.searched() if trial.ending in CAN_GO_ON]
    best = ranked(session.study, able)
    if len(best) < top:
        raise ConfigError(
            [f"{session.folder}: --top {top}: only {len(best)} searched trials ended with a result"]
        )
    return best[:top]


def _check(session: StudySession, trials: Sequence[TrialState], epochs: int) -> None:
    problems = [(trial.number, _problem(session, trial, epochs)) for trial in trials]
    named = [(trial_name(session.folder, number), why) for number, why in problems]
    if lines := [f"{name}: {why}" for name, why in named if why]:
        raise ConfigError(lines)


def _problem(session: StudySession, trial: TrialState, epochs: int) -> str:
    """Return why a trial cannot be resumed; empty if it can."""
    if trial.kind == "confirm":
        return f"confirms trial {trial.of}, and is compared at equal epochs: resume that one"
    if trial.ending is None:
        return "has not ended: `segtune launch` continues it"
    if trial.ending not in CAN_GO_ON:
        return f"{trial.ending} ({trial.reason}): more epochs cannot help"
    if epochs <= trial.epoch:
        return f"is at epoch {trial.epoch} already: --epochs must be above it"
    try:
        session.study.check_settings(trial.params, epochs=epochs)
    except ConfigError as error:
        return error.lines[0]
    if trial.deleted:
        return f"{trial.deleted.in_words()}; segtune enqueue trains its settings again"
    run_dir = session.trial_dir(trial.number)
    if session.study.trainer:
        return ""  # what it goes on from, it knows itself
    if not checkpoints_of(run_dir):
        where, keep = run_dir / "checkpoints", session.study.checkpoints.keep
        if keep == "all":
            return f"{where}: no checkpoint here; was it trained on another machine's disk?"
        return (
            f"{where}: no checkpoint here: the study keeps those of its best {keep} "
            "(checkpoints.keep); segtune enqueue trains its settings again"
        )
    return ""
