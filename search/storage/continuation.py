"""What a launch makes of a study that may exist: `launch` writes it, `--dry-run` says it."""

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from search.ledger.budget import budget_rule, overspent
from search.ledger.confirming import is_due
from search.ledger.hand import Request, requested_events
from search.ledger.journal import Event, Ledger
from search.ledger.lease import BeingRun
from search.ledger.state import StudyState
from search.storage.dataset_cache import content_hash
from search.storage.studies import display_path, refresh, writer_of
from search.study.changes import changes, frozen_beside
from search.study.config import StudyConfig
from search.study.frozen import check_trainable, frozen_of, study_of
from trainer.configfile import ConfigError


class Continuation(NamedTuple):
    """A study as a launch finds it; one without a trial has not begun, and takes any settings."""

    study: StudyConfig
    """Under what it froze when it was begun."""
    begun: Event | None
    """Its newest `study` event."""
    config: dict[str, Any]
    """As that event would record it now."""
    same: bool
    """Whether it does already."""
    warm: list[str]
    """Names of the studies that it was begun with."""
    notes: list[str]
    """What changes, and may."""


def continuation(
    study: StudyConfig, store_hash: str, folder: Path, state: StudyState, sources: Sequence[Path]
) -> Continuation:
    """Return what becomes of a study, after a check that an existing one is this very study.

    Args:
        study: What to search.
        store_hash: Of its data.
        folder: The study's.
        state: What the ledger there says, if there is one.
        sources: Folders of earlier studies from which its sampler is to learn.

    Raises:
        ConfigError: It has other settings, another data set or another warm start, or this version
            would train it otherwise.
    """
    begun, config = state.study, study.model_dump(mode="json")
    warm = begun.get("warm_start", []) if begun else []
    same = begun is not None and (begun["config"], begun["store_hash"]) == (config, store_hash)
    if not begun or not (state.trials or same):
        return Continuation(study.under(None), begun, config, same, warm, [])
    check_trainable(begun, folder)
    study = study.under(frozen_of(begun))
    notes: list[str] = []
    if state.trials:
        check_data(begun, store_hash, study, folder)
        # Read as a study: in today's keys, and what a newer segtune added with its default.
        last = study_of(begun, folder / "ledger.jsonl")
        problems, notes = changes(last, study)
        notes += _other_defaults(study)
        study = study.under(frozen_beside(frozen_of(begun), last, study))
        rule = "this study was begun without it; give the study another name to begin warm"
        others = sorted({source.resolve().name for source in sources} - {*warm})
        problems += [f"--warm-start {name}: {rule}" for name in others]
        if problems:
            raise ConfigError(f"{folder}: {problem}" for problem in problems)
    return Continuation(study, begun, config, same, warm, notes)


def _other_defaults(study: StudyConfig) -> list[str]:
    """Return a line for each default of its own trainer that is another than at its birth."""
    frozen = study.frozen.settings if study.frozen else {}
    return [
        f"{name}: {value} by default now; this study goes on with {frozen[name]}"
        for name, value in study.defaults.items()
        if name in frozen and frozen[name] != value and name not in study.train
    ]


def check_data(begun: Event, store_hash: str, study: StudyConfig, folder: Path) -> None:
    """Check that a study's data are those that it was begun with.

    Raises:
        ConfigError: They are not.
    """
    if begun["store_hash"] != store_hash:
        raise ConfigError(
            [
                f"{folder}: data.store: {study.data.store}: has the content {store_hash[:12]}, "
                f"but this study was begun with {begun['store_hash'][:12]}"
            ]
        )


def outlook(study: StudyConfig, runs: Path, sources: Sequence[Path]) -> list[str]:
    """Return what a launch would find where the study is to lie, and how much it has left to do.

    Args:
        study: What would be launched.
        runs: The folder of all studies.
        sources: As for `continuation`.

    Raises:
        ValueError: The launch would be refused, for this reason.
        OSError: The folder cannot be read, or not be written.
    """
    folder = runs.expanduser().resolve() / study.study
    refresh(folder)
    ledger = folder / "ledger.jsonl"
    _check_writable(folder)
    if not ledger.is_file():
        return []
    if who := writer_of(ledger):
        _, changed = asked_of_driver(study, folder, sources, who)
        asked = f"is being run by {who}: a launch asks it for other settings"
        return [f"{display_path(folder)}: {asked}", *(f"note: {line}" for line in changed)]
    state = StudyState.of(Ledger.open(ledger, writer=False))
    found = continuation(study, content_hash(study.data.store), folder, state, sources)
    place = display_path(folder)
    if not state.trials:
        return [f"{place}: exists, but no trial of it was begun: it begins"]
    return [f"note: {note}" for note in found.notes] + [f"{place}: {_left(found.study, state)}"]


def asked_of_driver(
    study: StudyConfig, folder: Path, sources: Sequence[Path], who: str
) -> tuple[Request, list[str]]:
    """Return what a launch asks of the driver that has the study: other settings, and which.

    Args:
        study: What is launched.
        folder: The study's, with its newest ledger.
        sources: As for `continuation`.
        who: The driver.

    Raises:
        BeingRun: There is nothing to ask for.
        ConfigError: The study cannot have these settings, or not before another launch.
    """
    state = StudyState.of(Ledger.open(folder / "ledger.jsonl", writer=False))
    run = study_of(state.study, folder) if state.study else study
    if not any(changes(run, study)) and not sources:
        raise BeingRun(folder, who)
    found = continuation(study, content_hash(study.data.store), folder, state, sources)
    request = {"kind": "settings", "config": found.config}
    [event, *_] = requested_events(run, state, request, "")
    return request, event["changed"]


def _left(study: StudyConfig, state: StudyState) -> str:
    ours = [t for t in state.live() if study.confirm is None or t.kind != "confirm"]
    live = len(ours)
    to_propose = state.num_searched_to_come(study) + state.num_protected_to_come(study)
    if not (live or to_propose):
        if is_due(study, state.confirmed):
            return "exists, and its search has ended: a launch tells its best apart (confirm)"
        return f"exists and is {state.standing(study)}: a launch trains nothing more"
    counts = {"to go on": live, "to begin": to_propose}
    left = " and ".join(f"{number} {what}" for what, number in counts.items() if number)
    text = f"exists, and goes on: {len(state.trials) - live} trials have ended, {left}"
    if spent := overspent(study, state.meter):
        more = f"budget.{spent['what']}=MORE"
        text += f"; but {budget_rule(spent)}, and nothing runs without {more}"
    return text


def _check_writable(folder: Path) -> None:
    """Raise what a launch would that cannot write its folder."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(there))
