"""A trained network, ready for use, from a run folder, a checkpoint or an exported folder."""

import hashlib
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer.config import SamplingConfig, TrainConfig
from trainer.configfile import ConfigError, build, flatten, nest
from trainer.data.inputs import InputSpec
from trainer.data.store import Store
from trainer.devices import pick_device, wants_bf16
from trainer.diffusion.process import Process
from trainer.models.guided_unet import resolved
from trainer.models.network import Network
from trainer.models.new_network import new_network
from trainer.old_names import as_measured
from trainer.saved import foreign, model_package, weights_file
from trainer.saved.frozen_threshold import FILE, FrozenThreshold
from trainer.saved.seen import (
    ANYBODY,
    NOBODY,
    Patient,
    Seen,
    overlap,
    patients,
    sentence,
    trained_in,
)

WEIGHTS = "ema.pt"
"""In a run folder: the averaged weights that the last validation judged."""

BEST = "best.pt"
"""In a run folder of version 0.1, instead: the weights of its best validation by val/dice."""

OF_BEST = "of version 0.1: the weights of the run's best single validation, not of its last"

OURS = {"config", "inputs", "ema"}
"""What a file of ours holds, among other things."""

CURVE = (
    "diffusion.num_timesteps",
    "diffusion.noise_schedule",
    "diffusion.zero_terminal_snr",
    "diffusion.input_scale",
    "diffusion.background",
)
"""Settings that training further can get used to."""


@dataclass(frozen=True)
class TrainedModel:
    """A network with its averaged weights, in evaluation mode, and how to use it."""

    path: Path
    """The file that it was read from."""
    config: TrainConfig
    model: Network
    process: Process
    inputs: InputSpec
    device: torch.device
    autocast: torch.autocast
    epoch: int | None = None
    """After which the weights were saved, where the file says so."""
    trained_on: Seen | None = None
    """Whom they were trained on, where the file says so."""
    layout: str = ""
    """The program whose weights they are, where that is another."""


def load(
    path: str | Path,
    device: torch.device | str = "auto",
    *,
    like: tuple[TrainConfig, InputSpec] | None = None,
) -> TrainedModel:
    """Load the averaged (EMA) weights and what they need, without running code from the file.

    Args:
        path: A run folder, of which ema.pt is taken, or else best.pt of version 0.1, which a note
            says, or else the newest checkpoint that can be read; or one such file; or a folder
            that `segtune export` wrote; or weights of another program (trainer/saved/foreign.py).
        device: Where to predict: a device, or a word of the setting `device`. Where the model was
            trained does not matter.
        like: A run that begins with the weights, and what it sees: another program's are taken
            for these data where they do not say theirs.

    Raises:
        ConfigError: There is no such path, no checkpoint in the folder, a file is damaged, changed
            or of nothing that is known, or the device is not here.
    """
    file, saved = _read(Path(path), like)
    try:
        values, inputs = as_measured(saved["config"]), InputSpec.parse(saved["inputs"])
        weights = saved["ema"]
        if not isinstance(weights, Mapping):
            raise TypeError
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError([f"{file}: not a segtune checkpoint"]) from error
    config = build(TrainConfig, values, file)
    if isinstance(device, str):
        asked = build(TrainConfig, {**values, "device": device}, "command line")
        device = pick_device(asked)
    with torch.random.fork_rng(devices=[]):
        model = new_network(config, inputs, device)
    try:
        model.load_state_dict(dict(weights))
    except RuntimeError as error:
        why = "its weights do not fit its own configuration: another version wrote it"
        if saved.get("layout"):
            different = foreign.differences(model, weights)
            why = f"no network here is its: {different}; {foreign.REMEDY}"
        raise ConfigError([f"{file}: {why}"]) from error
    return TrainedModel(
        path=file,
        config=config,
        model=model.requires_grad_(False).eval(),
        process=Process(config.diffusion),
        inputs=inputs,
        device=device,
        autocast=torch.autocast(device.type, torch.bfloat16, enabled=wants_bf16(config, device)),
        epoch=saved.get("epoch"),
        trained_on=Seen.parse(saved.get("trained_on")),
        layout=saved.get("layout", ""),
    )


def with_settings(trained: TrainedModel, changed: Mapping[str, Any]) -> TrainedModel:
    """Return the model with other settings, such as `sampling.num_ensemble`; None keeps one.

    Raises:
        ConfigError: A value is out of range.
    """
    given = {key: value for key, value in changed.items() if value is not None}
    values = nest(given, trained.config.model_dump())
    return replace(trained, config=build(TrainConfig, values, "command line"))


def run_folder(trained: TrainedModel) -> Path:
    """Return the folder of the run, or the exported one, that a model's file belongs to.

    Weights of another program get one each, beside them: several of them lie in one folder.
    """
    folder = trained.path.parent
    if trained.layout and not (folder / model_package.CHECKSUMS).is_file():
        return trained.path.with_suffix(".segtune")
    return folder.parent if folder.name == "checkpoints" else folder


def fingerprint(model: Network) -> str:
    """Return 16 hexadecimal digits that tell a model's weights from others."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def frozen_settings(trained: TrainedModel) -> dict[str, Any]:
    """Return the `sampling` settings that were chosen for these weights, by dotted name.

    They are those with which the validation fold was evaluated last, and the threshold that was
    frozen there: threshold.json. Empty where there is none, or one for other weights.

    Raises:
        ConfigError: The file is damaged, or names settings that there are not.
    """
    folder = run_folder(trained)
    frozen = FrozenThreshold.load(folder)
    if frozen is None or frozen.weights != fingerprint(trained.model):
        return {}
    sampling = {**frozen.sampling, "threshold": frozen.threshold}
    build(SamplingConfig, sampling, folder / FILE)
    return {f"sampling.{name}": value for name, value in sampling.items()}


def seen_by(trained: TrainedModel, store_hash: str, everyone: Iterable[Patient]) -> Seen:
    """Return whom a model was trained on, as far as is known beside a store.

    Args:
        trained: The model.
        store_hash: The store's.
        everyone: The store's patients.
    """
    data = trained.config.data
    if trained.trained_on is not None:
        return trained.trained_on
    if data.store_hash == store_hash and trained.config.init_from is None:
        return NOBODY.also(trained_in(everyone, data.fold))
    return ANYBODY


def unseen(trained: TrainedModel, store: Store | None) -> str:
    """Return in words that the store's validation or test patients may not be new to a model.

    Args:
        trained: The model.
        store: What it was trained on; None where that is not at hand.

    Returns:
        Empty where they are, as they are to all that began with random weights.
    """
    begun_anew = trained.config.init_from is None
    if begun_anew and (trained.trained_on is None or trained.trained_on.is_all):
        return ""
    everyone = patients(map(vars, store.cases)) if store else []
    seen = seen_by(trained, store.content_hash, everyone) if store else ANYBODY
    whose = "its weights" if begun_anew else "its first weights"
    return sentence(overlap(seen, everyone, trained.config.data.fold), whose)


def initial_weights(
    config: TrainConfig, inputs: InputSpec, store: Store
) -> tuple[dict[str, Tensor], Seen]:
    """Return the averaged (EMA) weights that `init_from` names, for a run of these settings.

    Args:
        config: The run, with the content hash of its store.
        inputs: What its model sees.
        store: What it trains on.

    Returns:
        The weights, and whom they were trained on.

    Raises:
        ConfigError: There is no checkpoint; its model, its inputs or, where nothing is trained
            further, its diffusion differ; or it was trained on what this run validates with.
    """
    assert config.init_from is not None
    where = f"init_from: {config.init_from}"
    try:
        trained = load(config.init_from, "cpu", like=(config, inputs))
    except ConfigError as error:
        raise ConfigError(f"init_from: {line}" for line in error.lines) from error
    if problem := misfit(trained, config, inputs):
        raise ConfigError([f"{where}: {problem}"])
    everyone = patients(map(vars, store.cases))
    seen = seen_by(trained, store.content_hash, everyone)
    if said := sentence(overlap(seen, everyone, config.data.fold)):
        print(f"note: {where}: {said}", file=sys.stderr, flush=True)
    return dict(trained.model.state_dict()), seen


def misfit(
    trained: TrainedModel,
    config: TrainConfig,
    inputs: InputSpec,
    undecided: Collection[str] = (),
) -> str:
    """Return why a run cannot begin with a model's weights; empty where it can.

    Args:
        trained: The model.
        config: The run, with the content hash of its store.
        inputs: What its model sees.
        undecided: Settings, or sections of them, that are searched, and so never differ.
    """
    theirs, mine = _meaning(trained.config, trained.inputs), _meaning(config, inputs)
    keys = theirs.keys() | mine.keys()
    if theirs["model.family"] != mine["model.family"]:  # of which the others are
        keys = {key for key in keys if not key.startswith(("model.", "diffusion."))}
        keys.add("model.family")
    different = [
        f"{key} is {theirs.get(key)} there, but {mine.get(key)} here"
        for key in sorted(keys)
        if theirs.get(key) != mine.get(key) and not (config.epochs and key in CURVE)
        if not any(key == name or key.startswith((f"{name} ", f"{name}.")) for name in undecided)
    ]
    if different:
        return f"its weights do not fit: {'; '.join(different)}"
    there, here = trained.config.data, config.data
    if there.store_hash == here.store_hash and there.fold != here.fold and not trained.layout:
        return (
            f"was trained with fold {there.fold} held out, and so on the cases of "
            f"fold {here.fold} (data.fold), which this run validates with"
        )
    return ""


def _meaning(config: TrainConfig, inputs: InputSpec) -> dict[str, Any]:
    """Return what weights depend on, by setting."""
    unimportant = {"preset", "dropout"}
    unimportant |= {"v2"} if config.model.family != "medsegdiff_v2" else set()
    unimportant |= set() if config.model.has_layout else {"layout"}
    model, diffusion = config.model.model_dump(exclude=unimportant), config.diffusion
    if config.model.has_layout:
        model["layout"] |= resolved(config.model)
        del model["num_res_blocks"], model["attention_levels"]
    meaning = flatten({"model": model, "inputs": inputs.describe()})
    if not config.model.segments_directly:
        meaning |= {
            "diffusion.target": diffusion.target,
            "diffusion.variance learned_range": diffusion.variance == "learned_range",
            "diffusion.self_conditioning above 0": diffusion.self_conditioning > 0,
        }
        meaning |= {key: getattr(diffusion, key.removeprefix("diffusion.")) for key in CURVE}
    return meaning


def _read(path: Path, like: tuple[TrainConfig, InputSpec] | None) -> tuple[Path, Mapping[str, Any]]:
    """Return the file that is meant by a path, and its content."""
    if not path.exists():
        raise ConfigError([f"{path}: no such file or folder"])
    folder = path if path.is_dir() else path.parent
    of_export = path.name == model_package.WEIGHTS and any(
        (folder / name).exists() for name in (model_package.CHECKSUMS, model_package.CONFIG)
    )
    if path.is_file() and not of_export:
        return path, _read_file(path, like)
    if model_package.is_exported(folder):
        return folder / model_package.WEIGHTS, model_package.read(folder)
    if (weights := path / WEIGHTS).is_file():
        return weights, _read_file(weights)
    if (best := path / BEST).is_file():
        print(f"note: {best}: {OF_BEST}", file=sys.stderr, flush=True)
        return best, _read_file(best)
    files = sorted((path / "checkpoints").glob("*.pt"), reverse=True)
    if not files:
        raise ConfigError([f"{path}: no checkpoint in it ({WEIGHTS} or checkpoints/*.pt)"])
    problems = []
    for file in files:
        try:
            return file, _read_file(file)
        except ConfigError as error:  # killed while the disk was full, say: the one before it
            problems += error.lines
    raise ConfigError(problems[:1])


def _read_file(path: Path, like: tuple[TrainConfig, InputSpec] | None = None) -> Mapping[str, Any]:
    try:
        content = weights_file.content(path)
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror or error}"]) from error
    return content if content.keys() >= OURS else foreign.as_saved(path, content, like)
