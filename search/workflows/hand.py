"""`segtune enqueue`, `stop STUDY:7` and `note`: a hand on every trial, also while the study runs.

Where nobody runs the study it is done at once. Else its driver is asked, which does it within
seconds (search/storage/requests.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.ledger.budget import budget_rule, overspent
from search.ledger.hand import Request, note_text, requested_events, what_of
from search.ledger.lease import BeingRun
from search.ledger.session import StudySession
from search.ledger.users import user_name
from search.storage.archives.opened import check_not_archived
from search.storage.requests import ask_driver, end_by_hand, new_name, take_up
from search.storage.studies import display_path, open_as_driver, read_study, writer_of
from search.storage.trials.names import trial_name, trial_of
from search.study.checks import FIDELITY, setting_problem
from search.study.config import StudyConfig
from search.study.frozen import check_trainable
from search.study.space import active
from trainer.configfile import quoted


@dataclass(frozen=True)
class Wanted:
    """A trial that a person asks for."""

    given: Mapping[str, Any]
    """Its settings by dotted trainer path."""
    reference: str | None = None
    """Its name, where it is to be a reference."""
    like: tuple[Path, int] | None = None
    """The folder and number of a trial whose settings it has, those given apart."""


def enqueue(folder: Path, wanted: Wanted, *, dry_run: bool = False) -> str:
    """Ask for a trial, and return in lines what comes of it.

    Args:
        folder: The study's.
        wanted: The trial.
        dry_run: Only say it.

    Raises:
        ValueError: The study cannot have such a trial, or it cannot be trained on.
        OSError: The study's folder, or S3, cannot be reached.
    """
    check_not_archived(folder)
    study, state = read_study(folder)
    assert state.study is not None
    check_trainable(state.study, folder)
    params, left_out = _params(study, wanted)
    request: dict[str, Any] = {"kind": "enqueue", "params": params}
    if wanted.like:
        request["like"] = trial_name(*wanted.like)
    if wanted.reference is not None:
        request["reference"] = wanted.reference
    lines = [f"note: left out of {request['like']}: {line}" for line in left_out]
    if spent := overspent(study, state.meter):
        more = f"budget.{spent['what']}=MORE"
        lines.append(f"note: {budget_rule(spent)}: nothing runs without {more}")
    drawn = [name for name in study.space if name not in params]
    if drawn and wanted.reference is None:
        lines.append(f"note: the sampler fills in what applies of {', '.join(drawn)}")
    if dry_run:
        requested_events(study, state, request, "", by=user_name())
        who = writer_of(folder / "ledger.jsonl")
        then = f"{who} would take it up" if who else "it would be the next at another launch"
        return "\n".join([*lines, f"{display_path(folder)}: {what_of(request)}; {then}"])
    who = _ask(folder, request)
    if who:
        said = f"asked {who}: {what_of(request)}; it comes next there"
    else:
        said = f"{what_of(request)}: it comes next when `segtune launch` continues the study"
    return "\n".join([*lines, f"{display_path(folder)}: {said}"])


def stop_trial(folder: Path, number: int) -> str:
    """Let a trial write its checkpoint and end, and return in a line what comes of it.

    Raises:
        ValueError: There is no such trial, or it has ended.
        OSError: The study's folder, or S3, cannot be reached.
    """
    trial_of(folder, read_study(folder)[1], number)
    name = trial_name(folder, number)
    if who := _ask(folder, {"kind": "stop", "trial": number}):
        return f"{name}: asked {who} to stop it; it writes its checkpoint and ends as stopped"
    return f"{name}: ended as stopped"


def note(folder: Path, number: int, text: str) -> str:
    """Write a note about a trial, and return in a line what comes of it.

    Raises:
        ValueError: There is no such trial, or the text is empty or too long.
        OSError: The study's folder, or S3, cannot be reached.
    """
    trial_of(folder, read_study(folder)[1], number)
    text = note_text(text)
    who = _ask(folder, {"kind": "note", "trial": number, "text": text})
    return f"{trial_name(folder, number)}: {f'asked {who} to note' if who else 'noted'}: {text}"


def _ask(folder: Path, request: Request) -> str:
    """Do what is asked for, or where somebody runs the study leave it to the driver.

    Returns:
        The driver; empty where it is done.

    Raises:
        ValueError: It cannot be.
        OSError: The study's folder, or S3, cannot be reached.
    """
    check_not_archived(folder)
    study, state = read_study(folder)
    requested_events(study, state, request, "", by=user_name())
    who = writer_of(folder / "ledger.jsonl")
    if who is None:
        try:
            with open_as_driver(folder) as ledger:
                session = StudySession(study, folder.resolve(), ledger)
                take_up(session)
                now = session.study, session.state
                events = requested_events(*now, request, new_name(), by=user_name())
                session.record(*events)
                end_by_hand(session)
                return ""
        except BeingRun as error:
            who = error.who
    ask_driver(folder, request)
    return who


def _params(study: StudyConfig, wanted: Wanted) -> tuple[dict[str, Any], list[str]]:
    """Return a trial's settings, and what of the one that it is like is left out, and why."""
    if wanted.like is None:
        return dict(wanted.given), []
    folder, number = wanted.like
    theirs = read_study(folder)[1].trials[number].params
    why = {
        name: _unfit(study, name, value, reference=wanted.reference is not None)
        for name, value in theirs.items()
        if name not in wanted.given
    }
    params = {name: theirs[name] for name, problem in why.items() if not problem}
    params |= wanted.given
    if wanted.reference is None:
        while idle := [n for n in why if n in params and n not in active(study.space, params)]:
            for name in idle:
                del params[name]
                why[name] = "is not searched beside the others"
    return params, [f"{name} {quoted(theirs[name])}: {said}" for name, said in why.items() if said]


def _unfit(study: StudyConfig, name: str, value: Any, *, reference: bool) -> str:
    """Return why a trial of this study cannot have another's setting; empty if it can."""
    if name in study.settings_elsewhere or (name in FIDELITY and study.trainer is None):
        return "is equal in all trials here"
    if reference:
        return setting_problem(name, study)
    if name not in study.space:
        return "is not searched here"
    return "" if study.space[name].contains(value) else f"is outside space.{name}"
