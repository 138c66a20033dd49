"""What the weights that a study's trials begin with were trained on, read at its birth."""

import json
from typing import Any

from search.analysis.first_weights import named
from search.storage.dataset_cache import read_manifest
from search.study.config import StudyConfig
from trainer.configfile import ConfigError
from trainer.saved.seen import ANYBODY, Overlap, overlap, patients, sentence


def first_weights(study: StudyConfig) -> dict[str, dict[str, Any]]:
    """Return by path how many of those who judge the study's trials the weights were trained on.

    Raises:
        OSError: The store cannot be read.
    """
    if not (paths := dict.fromkeys(path for _, path in named(study))):
        return {}
    from trainer.saved.model_io import load, seen_by

    manifest = json.loads(read_manifest(study.data.store))
    everyone = patients(manifest["cases"])
    found = {}
    for path in paths:
        try:
            seen = seen_by(load(path, "cpu"), manifest["content_hash"], everyone)
        except ConfigError:  # the trials say so
            seen = ANYBODY
        found[path] = overlap(seen, everyone, study.data.fold)._asdict()
    return found


def notes(study: StudyConfig) -> list[str]:
    """Return a line for each weights that may have been trained on those who judge."""
    said = {path: sentence(Overlap(**each)) for path, each in first_weights(study).items()}
    return [f"init_from: {path}: {text}" for path, text in said.items() if text]
