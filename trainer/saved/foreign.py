"""Weights of another program as if a run of ours had saved them: docs/weights.md.

Names and shapes tell the network. What they do not, a YAML file beside the weights says, in the
trainer's settings: `emasavedmodel_0.9999_100000.yaml` beside `emasavedmodel_0.9999_100000.pt`.
Everything on which an output depends is asked for; nothing is guessed.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainer.config import TrainConfig
from trainer.configfile import ConfigError, build, flatten, nest, read_yaml
from trainer.data.inputs import Inputs, InputSpec
from trainer.data.store import Store
from trainer.saved.layouts import Found, Unknown, recognize
from trainer.saved.seen import ANYBODY
from trainer.saved.weights_file import weights_in

REMEDY = (
    "`segtune evaluate MASKS STORE` scores masks that it made, and a study may search over its own "
    "trainer (docs/weights.md)"
)

ALWAYS = (
    "model.layout.input_order",
    "model.layout.image_range",
    "diffusion.target",
    "diffusion.noise_schedule",
    "diffusion.num_timesteps",
    "diffusion.background",
)
"""Settings that no file of weights tells, whatever its layout."""

HYPER = {
    "num_heads": "model.layout.num_heads",
    "num_head_channels": "model.layout.head_channels",
    "norm_num_groups": "model.layout.norm_groups",
    "norm_eps": "model.layout.norm_eps",
}
"""Settings by what Lightning's hyper_parameters may call them."""


def as_saved(
    path: Path, content: Mapping[str, Any], like: tuple[TrainConfig, InputSpec] | None
) -> dict[str, Any]:
    """Return what a checkpoint of ours would hold.

    Args:
        path: Of the weights.
        content: What the file holds.
        like: A run that begins with them, whose data they are taken for where their settings name
            none.

    Returns:
        `config`, `inputs`, `ema` and `trained_on`, and the program as `layout`.

    Raises:
        ConfigError: No network here computes what they do, or a setting is missing or wrong.
    """
    file = weights_in(path, content)
    try:
        found = recognize(file.weights)
        if found.out_channels > 2:
            raise Unknown(f"it predicts {found.out_channels} channels, and a mask has one")
    except Unknown as why:
        raise ConfigError(
            [f"{path}: not a segtune checkpoint, and no network here is its: {why}; {REMEDY}"]
        ) from why
    said = path.with_suffix(".yaml")
    given = flatten(read_yaml(said)) if said.is_file() else {}
    told = {key: value for key, value in _told(file.settings).items() if given.get(key) is None}
    of_hyper = f"its hyper_parameters say {_words(told)}" if told else ""
    if note := "; ".join(filter(None, [file.note, of_hyper])):
        print(f"note: {path}: {note}", file=sys.stderr, flush=True)
    given = told | given
    _check_all_said(path, said, found, given, like)
    values = _settings(said, found, given)
    config, inputs = _data(said, values, like)
    if inputs.num_channels != found.in_channels - 1:
        raise ConfigError(
            [f"{said}: data.modalities: {', '.join(inputs.modalities)}: {inputs.num_channels} "
             f"channels, but {path.name} takes {found.in_channels - 1} beside the noisy mask"]
        )  # fmt: skip
    return {
        "config": config.model_dump(mode="json"),
        "inputs": inputs.describe(),
        "ema": found.weights,
        "trained_on": ANYBODY.record(),
        "layout": found.program,
    }


def _told(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what hyper_parameters tell, of whichever network: nothing where two differ."""
    told: dict[str, list[Any]] = {}
    for name, value in settings.items():
        if (key := HYPER.get(name.rpartition(".")[2])) and value not in (None, -1):
            told.setdefault(key, []).append(value)
    return {key: values[0] for key, values in told.items() if all(v == values[0] for v in values)}


def _words(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def _check_all_said(
    path: Path,
    said: Path,
    found: Found,
    given: Mapping[str, Any],
    like: tuple[TrainConfig, InputSpec] | None,
) -> None:
    asked = [*(f"model.{name}" for name in found.asked), *ALWAYS]
    if "model.layout.num_heads" in asked:
        if given.get("model.layout.head_channels") is not None:
            asked.remove("model.layout.num_heads")
        elif given.get("model.layout.num_heads") == 1:  # which has one order
            asked.remove("model.layout.attention_order")
    if found.family == "monai_unet" and found.out_channels == 2:
        asked.append("diffusion.variance")  # or a second class
    if like is None or any(name.startswith("data.") for name in given):
        asked += ["data.store", *(() if _names_inputs(given) else ("data.modalities",))]
    if missing := [name for name in asked if given.get(name) is None]:
        raise ConfigError(
            [f"{path}: {found.program}: it does not say {', '.join(missing)}: write them into "
             f"{said}, as docs/weights.md shows"]
        )  # fmt: skip


def _names_inputs(given: Mapping[str, Any]) -> bool:
    return any(name.startswith("inputs.") for name in given)


def _settings(said: Path, found: Found, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all settings: those of the weights, and those that were given.

    Raises:
        ConfigError: They contradict each other.
    """
    told = {f"model.{name}": value for name, value in found.model.items()}
    told["model.family"] = found.family
    learned = found.out_channels == 2
    told["diffusion.variance"] = "learned_range" if learned else "fixed_small"
    problems = [
        f"{said}: {name}: {given[name]}: but its weights have {value}"
        for name, value in told.items()
        if name != "diffusion.variance" and name in given and given[name] != value
    ]
    variance = given.get("diffusion.variance", told["diffusion.variance"])
    if (variance == "learned_range") != learned:
        rule = f"its weights predict {found.out_channels} channels"
        problems.append(f"{said}: diffusion.variance: {variance}: but {rule}")
    if given.get("diffusion.target") == "x_start":
        rule = "there it is the mask itself, here its logits: eps and v can be used"
        problems.append(f"{said}: diffusion.target: x_start: {rule}")
    schedule, timesteps = given["diffusion.noise_schedule"], given["diffusion.num_timesteps"]
    is_same = schedule == "cosine" or (schedule, timesteps) == ("linear", 1000)
    if found.family == "monai_unet" and not is_same:
        rule = "MONAI has another of this name; cosine, and linear of 1000 timesteps, are equal"
        problems.append(f"{said}: diffusion.noise_schedule: {schedule}: {rule}")
    if problems:
        raise ConfigError(problems)
    return {**told, **given}


def _data(
    said: Path, values: dict[str, Any], like: tuple[TrainConfig, InputSpec] | None
) -> tuple[TrainConfig, InputSpec]:
    """Return the configuration, and what the network sees of a case.

    Raises:
        ConfigError: There is no such store, or a setting is wrong.
    """
    own = {name: value for name, value in values.items() if not name.startswith("inputs.")}
    if like is not None and not any(name.startswith("data.") for name in own):
        own["data"] = like[0].data.model_dump(mode="json")
        if not _names_inputs(values):
            return build(TrainConfig, nest(own), said), like[1]
    if _names_inputs(values):
        config = build(TrainConfig, nest(own), said)
        named = nest({n.removeprefix("inputs."): v for n, v in values.items() if n not in own})
        try:
            return config, InputSpec.parse({"context_slices": 0, **_windows(named)})
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            rule = "must be modalities, windows (each [low, high]) and image_size"
            raise ConfigError([f"{said}: inputs: {error}: {rule}"]) from error
    config = build(TrainConfig, nest(own), said)
    store = Store.open(config.data.store)
    data = config.data.model_copy(update={"store_hash": store.content_hash})
    config = config.model_copy(update={"data": data})
    return config, Inputs(store, config, torch.device("cpu")).spec


def _windows(named: dict[str, Any]) -> dict[str, Any]:
    """Return `inputs` with its windows in the order of its modalities."""
    windows = named["windows"]
    if isinstance(windows, Mapping):
        windows = [windows[name] for name in named["modalities"]]
    return {**named, "windows": windows}


def differences(model: nn.Module, weights: Mapping[str, Any]) -> str:
    """Return in words the first names and shapes in which two sets of weights differ."""
    here = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    there = {name: tuple(value.shape) for name, value in weights.items()}
    different = [name for name in {**there, **here} if there.get(name) != here.get(name)]
    first = "; ".join(
        f"{name} is {there.get(name, 'not')} there and {here.get(name, 'not')} here"
        for name in different[:2]
    )
    return f"{len(different)} weights differ: {first}"
