"""A file of weights that another program wrote: read without running code from it."""

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint

from trainer.configfile import ConfigError, flatten
from trainer.files.regular_files import open_regular
from trainer.saved import checkpoint

NESTED = ("ema", "ema_state_dict", "model_ema", "state_dict", "model_state_dict", "model", "net")
"""Keys under which programs keep weights beside other things; averaged ones first."""

DAMAGED = (
    EOFError,
    KeyError,
    RuntimeError,
    ValueError,
    safetensors.SafetensorError,
    zipfile.BadZipFile,
)
"""What reading a damaged file raises."""

BEFORE_1_6 = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How torch's files began before they were archives."""

OUTSIDE = ("time_embed.0.weight", "conv_in.conv.weight")
"""Weights by which the name before them is known: `model.`, `module.`, `net.diffusion_model.`."""


class WeightsFile(NamedTuple):
    """What a file holds, as far as it is of use."""

    weights: dict[str, Tensor]
    """Without what its program puts before each name; in float32 where they were in half."""
    settings: dict[str, Any]
    """What it says of its network (Lightning's hyper_parameters), by dotted name."""
    note: str
    """What of it is used, where that is a choice."""


def content(path: Path) -> Mapping[str, Any]:
    """Read a file of torch's or of safetensors'; nothing in it is run.

    Raises:
        ConfigError: It is damaged, something else, or needs code to be read.
        OSError: It cannot be read.
    """
    with open_regular(path) as file:
        begin = file.read(64)
    try:
        if begin[8:9] == b"{":
            return safetensors.torch.load_file(path, device="cpu")
        if begin[:2] == b"PK":
            found: Any = checkpoint.read(path)
        elif begin.startswith(BEFORE_1_6):
            found = torch.load(path, map_location="cpu", weights_only=True)
        elif begin[:1] == b"\x80":
            raise ConfigError([f"{path}: not a segtune checkpoint: a pickle, and none of torch's"])
        else:
            pointer = begin.startswith(b"version https://git-lfs")
            remedy = ": Git LFS's pointer to one: git lfs pull" if pointer else ""
            raise ConfigError([f"{path}: not a segtune checkpoint{remedy}"])
    except pickle.UnpicklingError as error:
        raise ConfigError([f"{path}: not a segtune checkpoint, and {_needs(path, error)}"]) from (
            error
        )
    except ConfigError:
        raise
    except DAMAGED as error:
        raise ConfigError([f"{path}: damaged, or not a checkpoint ({type(error).__name__})"]) from (
            error
        )
    if not isinstance(found, Mapping):
        raise ConfigError([f"{path}: not a segtune checkpoint, nor a state dict"])
    return found


def _needs(path: Path, error: Exception) -> str:
    """Return what a file would run if it were read, and how to do without."""
    try:
        names = [*dict.fromkeys(get_unsafe_globals_in_checkpoint(path))]
    except (ValueError, RuntimeError):  # of torch before 1.6
        names = re.findall(r"GLOBAL ([\w.]+)", str(error))[:1]
    what = ", ".join(sorted(names)[:3]) or "code of its own"
    return (
        f"to be read it would run {what}: where it was written, save its weights alone: "
        "torch.save(model.state_dict(), 'weights.pt')"
    )


def weights_in(path: Path, found: Mapping[str, Any]) -> WeightsFile:
    """Return the weights of what `content` read.

    Raises:
        ConfigError: There are none.
    """
    if "param_groups" in found:
        raise ConfigError([f"{path}: not a segtune checkpoint: an optimizer's state, no weights"])
    nested = [key for key in NESTED if _tensors(found.get(key))]
    known_in = [key for key in nested if any(n.endswith(OUTSIDE) for n in _tensors(found[key]))]
    inside = next(iter([*known_in, *nested]), "")
    named = _tensors(found[inside] if inside else found)
    if not named:
        raise ConfigError([f"{path}: not a segtune checkpoint, and no weights in it"])
    notes = [f"its {inside!r} is used"] if inside.startswith(("ema", "model_ema")) else []
    prefixes = {
        name.removesuffix(known)
        for name in named
        for known in OUTSIDE
        if name == known or name.endswith(f".{known}")
    }
    prefix = min(prefixes, key=lambda each: ("ema" not in each, len(each)), default="")
    if len(prefixes) > 1:
        notes.append(f"weights of {prefix!r} are used, not of {', '.join(sorted(prefixes))}")
    weights = {n.removeprefix(prefix): value for n, value in named.items() if n.startswith(prefix)}
    if len(prefixes) == 1 and len(named) > len(weights):
        other = next(name for name in named if not name.startswith(prefix))
        notes.append(f"{len(named) - len(weights)} weights are left out, as {other}")
    for name, value in weights.items():
        if problem := _unusable(value):
            raise ConfigError([f"{path}: {name}: {problem}"])
    if path.name.startswith("savedmodel") and not inside:
        averaged = sorted(
            path.parent.glob(f"emasavedmodel_*_{path.stem.removeprefix('savedmodel')}*")
        )
        notes += [f"{averaged[0].name} beside it has the averaged weights"] if averaged else []
    hyper = found.get("hyper_parameters")
    return WeightsFile(
        {n: value.float() if value.is_floating_point() else value for n, value in weights.items()},
        flatten(hyper) if isinstance(hyper, Mapping) else {},
        "; ".join(notes),
    )


def _unusable(value: Tensor) -> str:
    if value.is_meta or value.layout != torch.strided:
        return "is no weight: it has no values of its own, or is sparse"
    if not value.is_floating_point():
        return f"is no weight: {str(value.dtype).removeprefix('torch.')}, and not floating point"
    return "" if value.isfinite().all() else "is not finite: its training diverged"


def _tensors(value: Any) -> dict[str, Tensor]:
    if not isinstance(value, Mapping):
        return {}
    return {str(name): each for name, each in value.items() if isinstance(each, Tensor)}
