"""What a person asks of a study, as events: another trial, a trial's end, a note, other settings.

A request is a JSON object with `kind` and what that takes:

    enqueue    params, like (the trial that they are of), reference (its name, if it is to be one)
    stop       trial
    note       trial, text
    settings   config, of the whole study

The command checks it, and so does the driver, for others may have written it.
"""

from collections.abc import Callable, Mapping
from typing import Any

from search.ledger.by_hand import by_hand_problems
from search.ledger.journal import Event
from search.ledger.state import StudyState
from search.ledger.trial_state import BY_HAND, MAX_TEXT, TrialState
from search.study.changes import changes, changes_while_running, frozen_beside
from search.study.config import StudyConfig
from search.study.frozen import birth, frozen_of
from search.study.reference import Reference
from trainer.configfile import ConfigError, build
from trainer.terminal import one_line

Request = Mapping[str, Any]


def requested_events(
    study: StudyConfig,
    state: StudyState,
    request: Request,
    name: str,
    *,
    by: str = "",
    fits: Callable[[StudyConfig], str] = lambda study: "",
) -> list[Event]:
    """Return the events that a request becomes.

    Args:
        study: As it is now.
        state: What its ledger says.
        request: What is asked for.
        name: By which the request is known for ever.
        by: Who asks for it; empty where that is not known.
        fits: Returns why trials of a study have no room where it runs; empty if they have.

    Raises:
        ConfigError: It cannot be, one line for every reason.
    """
    asked = {"request": name} | ({"by": by} if by else {})
    match request.get("kind"), request.get("trial"):
        case "enqueue", _:
            event = _enqueued(study, state, request)
        case "stop", int(number):
            event = {"event": "stop_asked", "trial": _live(study, state, number).number}
        case "note", int(number):
            trial, text = _trial(study, state, number), note_text(request.get("text"))
            event = {"event": "note", "trial": trial.number, "text": text}
        case "settings", _:
            event, *more = _settings(study, state, request, fits)
            return [event | asked, *more]
        case kind, _:
            raise ConfigError([f"{str(kind)[:40]!r}: no such request: a newer segtune wrote it?"])
    return [event | asked]


def what_of(request: Request) -> str:
    """Return in words what is asked for."""
    match request.get("kind"):
        case "enqueue":
            params = request.get("params")
            given = params if isinstance(params, Mapping) else {}
            words = "  ".join(f"{key}={value}" for key, value in given.items())
            name = request.get("reference")
            return one_line(f"enqueue {f'reference {name} ' if name else ''}{words}".rstrip())
        case "settings":
            return "other settings"
        case kind:
            return one_line(f"{kind} of trial {request.get('trial')}")


def ended_by_hand(trial: TrialState) -> Event:
    """Return the event of a trial's end that a person asked for."""
    about = {"trial": trial.number, "epoch": trial.epoch}
    return {"event": "ended", **about, "ending": "stopped", "reason": BY_HAND}


def note_text(text: Any) -> str:
    """Return a note in one line, without control characters.

    Raises:
        ConfigError: There is none, or too much.
    """
    if not isinstance(text, str) or not one_line(text):
        raise ConfigError(["note: is empty; it is some words about the trial"])
    if len(text) > MAX_TEXT:
        raise ConfigError([f"note: has {len(text)} characters, but may have {MAX_TEXT}"])
    return one_line(text)


def _enqueued(study: StudyConfig, state: StudyState, request: Request) -> Event:
    params, name, like = (request.get(key) for key in ("params", "reference", "like"))
    if not isinstance(params, Mapping) or not (params or name):
        raise ConfigError(["enqueue: needs KEY=VALUE or --like TRIAL, that is, what to try"])
    event: Event = {"event": "enqueued", "params": dict(params)}
    if isinstance(like, str):
        event["like"] = one_line(like)
    problems = by_hand_problems(study, params, "command line", reference=name is not None)
    if name is not None:
        problems += _name_problems(study, state, name)
        event["reference"] = name
    if problems:
        raise ConfigError(problems)
    return event


def _name_problems(study: StudyConfig, state: StudyState, name: Any) -> list[str]:
    """Return what is wrong with the name of a reference by hand."""
    try:
        build(Reference, {"name": name}, "--reference")
    except ConfigError as error:
        return error.lines
    taken = {"control", *(reference.name for reference in study.references)}
    taken |= {trial.reference for trial in state.trials.values() if trial.reference}
    taken |= {event["reference"] for event in state.enqueued if event.get("reference")}
    if name in taken:
        return [f"--reference {name}: {study.study} has one of that name"]
    return []


def _trial(study: StudyConfig, state: StudyState, number: int) -> TrialState:
    if number not in state.trials:
        raise ConfigError([f"{study.study}:{number}: no such trial"])
    return state.trials[number]


def _live(study: StudyConfig, state: StudyState, number: int) -> TrialState:
    trial = _trial(study, state, number)
    name = f"{study.study}:{number}"
    if trial.ending:
        raise ConfigError([f"{name}: has ended: {trial.ending} ({trial.reason})"])
    if trial.stop_asked:
        raise ConfigError([f"{name}: was asked to stop already, and ends at its checkpoint"])
    return trial


def _settings(
    study: StudyConfig,
    state: StudyState,
    request: Request,
    fits: Callable[[StudyConfig], str],
) -> list[Event]:
    """Return the `study` event of other settings, and again what was imported before any trial."""
    begun = state.study
    assert begun is not None
    if not isinstance(request.get("config"), Mapping):
        raise ConfigError(["settings: has no config"])
    wanted = build(StudyConfig, request["config"], study.study).under(frozen_of(begun))
    problems, changed = changes(study, wanted)
    later, changed = changes_while_running(study, wanted) if not problems else ([], changed)
    problems += later
    if not problems and (why := fits(wanted)):
        problems = [why]
    if problems:
        raise ConfigError(f"{study.study}: {problem}" for problem in problems)
    if not changed:
        raise ConfigError([f"{study.study}: has these settings already"])
    wanted = wanted.under(frozen_beside(frozen_of(begun), study, wanted))
    event = _content(begun) | {
        "config": wanted.model_dump(mode="json"),
        "config_hash": wanted.config_hash(),
        **birth(wanted)._asdict(),
        "changed": changed,
    }
    # Written again before the first trial, it begins anew: with its own imports.
    imports = [] if state.trials else state.imported
    return [event, *map(_content, imports)]


def _content(event: Event) -> Event:
    """Return an event without what its line in the ledger adds."""
    line = {"time", "v", "fence", "more", "crc"}
    return {key: value for key, value in event.items() if key not in line}
