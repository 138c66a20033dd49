"""`segtune launch --warm-start STUDY`: an earlier study's trials, as this one's sampler sees them.

They become `imported` events of the new ledger, once, when it is created: the sampler learns from
them as from its own trials, but no rung, leaderboard or budget knows of them. Imported are the
searched trials up to their first end; the failed tell nothing, and the control, references and
confirming trials are of no search. What an earlier study itself had imported stays there.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from search.ledger.events import lasting
from search.ledger.journal import Event, Ledger
from search.storage.dataset_cache import read_manifest
from search.study.config import StudyConfig
from search.study.frozen import study_of
from search.study.sampler_limits import LEARNS_NOTHING, USES_PRIOR
from search.study.space import placed
from trainer.configfile import ConfigError, flatten

OF_A_STUDY = {"data.store", "epochs", "seed"}
"""Trainer settings that are compared elsewhere, or need not agree."""


class WarmStart(NamedTuple):
    """What is taken from earlier studies."""

    events: list[Event]
    """An `imported` event for each trial: its parameters in this study's space, and as `values`
    [epoch, objective, *further objectives] for each report."""
    lines: list[str]
    """For people: what differs, what was left out and why, and how many trials remain."""


@dataclass
class _PastTrial:
    """A searched trial of an earlier study until its first end."""

    params: dict[str, Any]
    reports: list[Event] = field(default_factory=list)
    ending: str = ""


def warm_start(study: StudyConfig, folders: Iterable[Path]) -> WarmStart:
    """Translate earlier studies' trials into a study's space.

    Settings that the earlier study did not search have the values that it fixed. A trial with a
    value outside this space is left out, with a line for each such value: without that value its
    result would mislead, and take the dimension out of what TPE models jointly.

    Args:
        study: The new study.
        folders: Those of the earlier ones.

    Raises:
        ValueError: The sampler learns from no trial, or an earlier study has another objective, or
            its ledger is damaged.
        OSError: A ledger cannot be read.
    """
    kind, as_prior = study.sampler.type, study.sampler.warm_start == "prior"
    if as_prior and kind not in USES_PRIOR:
        raise ConfigError([f"--warm-start: sampler.warm_start: prior: {kind} draws from none"])
    if kind in LEARNS_NOTHING and not as_prior:
        rule = " (sampler.warm_start: prior begins around their best)" * (kind in USES_PRIOR)
        raise ConfigError([f"--warm-start: sampler.type: {kind}: learns from none{rule}"])
    result = WarmStart([], [])
    for folder in dict.fromkeys(folder.resolve() for folder in folders):
        _add(study, folder, result)
    return result


def _add(study: StudyConfig, folder: Path, result: WarmStart) -> None:
    ledger = Ledger.open(folder / "ledger.jsonl", writer=False)
    begun = next((e for e in reversed(ledger.events) if e["event"] == "study"), None)
    if begun is None:
        raise ConfigError([f"--warm-start {folder}: has no settings: it was never launched"])
    source = study_of(begun, ledger.path)
    if source.objective != study.objective:
        there, here = source.objective, study.objective
        raise ConfigError(
            [
                f"--warm-start {folder}: objective: {there.metric} ({there.mode}): must be that of "
                f"this study, {here.metric} ({here.mode})"
            ]
        )
    said = f"warm start: {source.study}"
    differences = _differences(study, source, begun["store_hash"])
    result.lines.extend(f"{said}: {line}" for line in differences)
    stories = {number: s for number, s in _stories(ledger.events).items() if s.ending}
    kept = 0
    for number, story in stories.items():
        told = _told(study, story)
        if told is None:
            continue
        params, outside = _translate(study, source, story.params)
        result.lines.extend(f"{said}:{number}: {line}; left out" for line in outside)
        if not outside:
            about = {"event": "imported", "source": source.study, "uid": begun["uid"]}
            result.events.append({**about, "source_trial": number, "params": params, **told})
            kept += 1
    what = "ended trials inform the sampler"
    if study.sampler.warm_start == "prior":
        what = "ended trials lie in this space; the best of them is a prior"
    result.lines.append(f"{said}: {kept} of {len(stories)} {what}")


def _stories(events: Iterable[Event]) -> dict[int, _PastTrial]:
    stories: dict[int, _PastTrial] = {}
    for event in lasting(events):
        story = stories.get(event.get("trial", -1))
        match event["event"]:
            case "proposed" if not event["protected"]:
                stories[event["trial"]] = _PastTrial(event["params"])
            case "reported" if story and not story.ending:
                story.reports.append(event)
            case "ended" if story and not story.ending:
                story.ending = event["ending"]
    return stories


def _translate(
    study: StudyConfig, source: StudyConfig, params: dict[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Return a trial's parameters in a study's space, and a line for each that is outside it."""
    try:
        there = flatten(source.settings(params)) | params
    except ConfigError as error:  # a combination that this trainer refuses
        return {}, error.lines
    return placed(study.space, there)


def _told(study: StudyConfig, story: _PastTrial) -> dict[str, Any] | None:
    """Return a trial's reports and ending as they would be in a study with this max_t, or None.

    What it did beyond max_t is left out, so that it completed. What completed before max_t is a
    trial that was stopped there: TPE compares it with others at that epoch.
    """
    metrics = [objective.metric for objective in study.further_objectives]
    max_t, ending = study.scheduler.max_t, story.ending
    values = [
        [report["epoch"], report["value"], *(report["metrics"].get(m, math.nan) for m in metrics)]
        for report in story.reports
        if report["epoch"] <= max_t
    ]
    if len(values) < len(story.reports):
        ending = "completed"
    elif ending == "completed" and values[-1][0] < max_t:
        ending = "stopped"
    if ending == "failed" or (ending == "completed" and not values):
        return None
    return {"values": values, "ending": ending}


def _content(study: StudyConfig) -> str:
    if not study.has_data:
        return ""
    content: str = json.loads(read_manifest(study.data.store))["content_hash"]
    return content


def _differences(study: StudyConfig, source: StudyConfig, store_hash: str) -> list[str]:
    """Return a line for every fixed setting in which two studies differ."""
    lines = []
    if _content(study) != store_hash:
        lines.append(f"data.store: {source.data.store}: has other content than this study's")
    there, here = source.scheduler.max_t, study.scheduler.max_t
    if there != here:
        lines.append(f"scheduler.max_t: {there} there, {here} here")
    ours, theirs = flatten(study.settings({})), flatten(source.settings({}))
    for key in sorted((ours.keys() | theirs.keys()) - OF_A_STUDY - study.space.keys()):
        value = ours.get(key)
        if key in source.space:
            lines.append(f"{key}: searched there, {value!r} here")
        elif theirs.get(key) != value:
            lines.append(f"{key}: {theirs.get(key)!r} there, {value!r} here")
    return lines
