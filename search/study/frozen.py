"""A study as it was begun: read from its ledger, and trained under what it froze then."""

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from search.study import semantics
from search.study.checks import OWNED, TABLES
from search.study.config import StudyConfig
from search.study.semantics import Frozen
from trainer.config import TrainConfig
from trainer.configfile import ConfigError, build, field_names, flatten
from trainer.old_names import as_measured, in_new_names


def study_of(event: Mapping[str, Any], where: str | Path) -> StudyConfig:
    """Return the study that a `study` event records, under what it froze.

    Raises:
        ConfigError: The event's settings are none of a study.
    """
    return build(StudyConfig, event["config"], where).under(frozen_of(event))


def frozen_of(event: Mapping[str, Any]) -> Frozen:
    """Return what a `study` event froze; one of version 0.1 froze nothing, and has its defaults.

    Settings that this trainer does not have are left out, so that such a study can be read.
    """
    settings = _settings(event)
    if not event["config"].get("trainer"):
        known = set(field_names(TrainConfig))
        settings = {
            name: value
            for name, value in settings.items()
            if name in known or name.rpartition(".")[0] in TABLES
        }
    return Frozen(settings, event.get("semantics", 1))


def _settings(event: Mapping[str, Any]) -> dict[str, Any]:
    if event["config"].get("trainer"):
        return dict(event["settings"])
    if "settings" in event:
        return in_new_names(flatten(as_measured(event["settings"])))
    text = resources.files("search.study").joinpath("defaults_v1.json").read_text()
    return in_new_names(flatten(as_measured(json.loads(text))))


def birth(study: StudyConfig) -> Frozen:
    """Return what a study freezes now, or froze when it was begun."""
    if study.trainer:
        settings = study.frozen.settings if study.frozen else dict(study.defaults)
    else:
        resolved = flatten(study.train_config({}).model_dump(mode="json"))
        settings = {name: value for name, value in resolved.items() if name not in OWNED}
    return Frozen(settings, study.frozen.semantics if study.frozen else semantics.SEMANTICS)


def check_trainable(event: Mapping[str, Any], folder: str | Path) -> None:
    """Refuse to train a study that would be trained otherwise than it was begun.

    Args:
        event: Its newest `study` event.
        folder: To name it by.

    Raises:
        ConfigError: Its semantics is not this version's, or it froze a setting that is not known.
    """
    if event["config"].get("trainer"):
        return  # what its settings mean, another trainer decides
    frozen, ours = frozen_of(event), semantics.SEMANTICS
    its, unknown = frozen.semantics, _settings(event).keys() - frozen.settings.keys()
    if its < ours:
        meant = "; ".join(semantics.RAISES[each] for each in range(its + 1, ours + 1))
        line = f"has semantics {its}, and would be trained with {ours} ({meant}): {_way(event)}"
    elif its > ours:
        line = f"has semantics {its}, newer than this version's {ours}: update segtune"
    elif unknown:
        line = f"has the setting {min(unknown)}, which a newer segtune knows: update segtune"
    else:
        return
    raise ConfigError([f"{folder}: {line} to continue it"])


def _way(event: Mapping[str, Any]) -> str:
    """Return what to do for the version that wrote an event."""
    commit, version = event.get("commit", ""), event.get("versions", {}).get("segtune")
    ways = [f"pip install segtune=={version}"] if version else []
    ways += [f"git checkout {commit.removesuffix('-dirty')}"] if commit else []
    return " or ".join(ways) or "take the version that began it"
