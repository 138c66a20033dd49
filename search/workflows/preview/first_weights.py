"""The weights that a study's trials begin with, read once: do they fit, and who was trained on."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from search.analysis.first_weights import named
from search.storage.dataset_cache import read_manifest
from search.study.config import StudyConfig
from trainer.config import TrainConfig
from trainer.configfile import ConfigError
from trainer.saved.seen import ANYBODY, Overlap, overlap, patients, sentence

if TYPE_CHECKING:
    from trainer.data.inputs import InputSpec


class FirstWeights(NamedTuple):
    """What the weights that a study names are."""

    problems: list[str]
    """Why trials cannot begin with them, a line each."""
    overlaps: dict[str, dict[str, Any]]
    """By path, how many of those who judge the study's trials they were trained on."""

    control: str = ""
    """Why the control cannot begin with those of `train`, as it would."""

    @property
    def notes(self) -> list[str]:
        """A line for each that may have been trained on those who judge, and for the control."""
        said = {path: sentence(Overlap(**each)) for path, each in self.overlaps.items()}
        notes = [f"init_from: {path}: {text}" for path, text in said.items() if text]
        rule = "`control.init_from: null` lets it begin with random ones"
        return notes + ([f"control: will fail: {self.control}; {rule}"] if self.control else [])


def first_weights(study: StudyConfig) -> FirstWeights:
    """Read the weights that a study's trials begin with.

    Raises:
        OSError: The store cannot be read.
        ValueError: It is damaged.
    """
    if not (given := named(study)):
        return FirstWeights([], {})
    from trainer.saved.model_io import TrainedModel, load, misfit, seen_by

    manifest = json.loads(read_manifest(study.data.store))
    everyone = patients(manifest["cases"])
    problems: list[str] = []
    models: dict[str, TrainedModel | None] = {}
    control = ""
    for key, path in given:
        params = _params(study, key, path)
        config = _config(study, params)
        sees = config and _sees(config, manifest)
        try:
            if path not in models:
                models[path] = None
                models[path] = load(path, "cpu", like=(config, sees) if config and sees else None)
        except (ConfigError, OSError) as error:
            problems.append(f"{key}: {error}")
        if not (model := models[path]):
            continue
        if config and sees and (problem := misfit(model, config, sees, _undecided(study, params))):
            problems.append(f"{key}: {path}: {problem}")
        if key == "train.init_from" and study.has_control and "init_from" not in study.control:
            config = _config(study, study.control_params)
            sees = config and _sees(config, manifest)
            control = misfit(model, config, sees) if config and sees else ""
    overlaps = {}
    for path, found in models.items():
        seen = seen_by(found, manifest["content_hash"], everyone) if found else ANYBODY
        overlaps[path] = overlap(seen, everyone, study.data.fold)._asdict()
    return FirstWeights(problems, overlaps, control)


def _params(study: StudyConfig, key: str, path: str) -> Mapping[str, Any]:
    match key.split("."):
        case "control", *_:
            return study.control_params
        case "references", number, *_:
            return study.references[int(number)].settings
        case "enqueue", number, *_:
            return study.enqueue[int(number)]
    return {"init_from": path}


def _config(study: StudyConfig, params: Mapping[str, Any]) -> TrainConfig | None:
    try:
        return study.train_config(params)
    except ConfigError:  # said when the study is checked
        return None


def _sees(config: TrainConfig, manifest: Mapping[str, Any]) -> "InputSpec | None":
    """Return what a model sees of the store; None where that lacks a modality, which is said."""
    from trainer.data.inputs import InputSpec

    windows = {name: (low, high) for name, (low, high) in manifest["windows"].items()}
    factors = {name: (f, o) for name, (f, o) in manifest.get("scale", {}).items()}
    modalities = config.data.modalities or manifest["modalities"]
    if not set(modalities) <= windows.keys():
        return None
    return InputSpec.of(config, modalities, windows, manifest["image_size"], factors)


def _undecided(study: StudyConfig, params: Mapping[str, Any]) -> set[str]:
    """Return the settings, or sections, that trials with these parameters may have otherwise."""
    searched = {name for name in study.space if name not in params}
    sections = {"data": "inputs", "model": "model"}
    first = {name.split(".")[0] for name in searched}
    return searched | {sections[name] for name in first & sections.keys()}
