"""A model that was taken away from its study: a folder of plain files with their checksums.

    model.safetensors  the averaged (EMA) weights; in its header, what the model sees of a case
    config.yaml        all settings, sampling and threshold among them
    checksums.txt      SHA-256 of every other file: `sha256sum -c checksums.txt`
    README.md, metrics.json, provenance.json, requirements.txt: what workflows/export.py says of it

Checksums tell damage, and changes by mistake. Nothing in such a folder is code.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from trainer.configfile import ConfigError, read_yaml
from trainer.data.inputs import InputSpec
from trainer.files.regular_files import open_regular
from trainer.saved.seen import Seen

WEIGHTS = "model.safetensors"
CONFIG = "config.yaml"
CHECKSUMS = "checksums.txt"
MAX_CHECKSUMS_BYTES = 1 << 20


def is_exported(folder: Path) -> bool:
    """Return whether a folder is an exported model, or what is left of one."""
    return any((folder / name).is_file() for name in (CHECKSUMS, WEIGHTS))


def write_weights(
    folder: Path,
    weights: Mapping[str, Tensor],
    inputs: InputSpec,
    epoch: int | None,
    trained_on: Seen | None,
    layout: str,
) -> None:
    """Write weights into a folder, with what they see, their epoch, whom they know and whose."""
    # Cloned: tied weights would share memory, which the format refuses.
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in weights.items()}
    about = {
        "format": "pt",
        "inputs": json.dumps(inputs.describe()),
        "epoch": json.dumps(epoch),
        "trained_on": json.dumps(trained_on and trained_on.record()),
        "layout": layout,
    }
    # Not save_file, which lets only its owner read what it writes.
    (folder / WEIGHTS).write_bytes(safetensors.torch.save(plain, metadata=about))


def write_checksums(folder: Path) -> None:
    """List the SHA-256 of all files of a folder, as sha256sum does."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [_line(_sha256(path), path.relative_to(folder).as_posix()) for path in paths]
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8", newline="\n")


def _line(digest: str, name: str) -> str:
    """Return a line as sha256sum writes it: a name with a line end is escaped, and marked so."""
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return f"{'' if escaped == name else chr(92)}{digest}  {escaped}\n"


def _sums(text: str) -> dict[str, str]:
    """Return the digests by name of what `_line` wrote; {} where a line is none of it."""
    sums, signs = {}, {"n": "\n", "r": "\r", "\\": "\\"}
    for line in text.removesuffix("\n").split("\n"):
        if not (found := re.fullmatch(r"(\\?)([0-9a-f]{64})  ([^\n]+)", line)):
            return {}
        escaped, digest, name = found.groups()
        if escaped:
            name = re.sub(r"\\([nr\\])", lambda sign: signs[sign[1]], name)
        sums[name] = digest
    return sums


def read(folder: Path) -> dict[str, Any]:
    """Return what a checkpoint has of an exported model, every file of which is verified.

    Returns:
        `config`, `inputs`, `ema`, `epoch`, `trained_on` and `layout`.

    Raises:
        ConfigError: A file is missing, or is not as it was exported.
    """
    _verify(folder)
    path = folder / WEIGHTS
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            about = file.metadata() or {}
        said = {key: json.loads(about[key]) for key in ("inputs", "epoch")}
        said["trained_on"] = json.loads(about.get("trained_on", "null"))
        said["layout"] = about.get("layout", "")
        weights = safetensors.torch.load_file(path, device="cpu")
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise ConfigError([f"{path}: not weights that segtune exported"]) from error
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror or error}"]) from error
    return {"config": read_yaml(folder / CONFIG), "ema": weights, **said}


def _verify(folder: Path) -> None:
    try:
        with open_regular(folder / CHECKSUMS, follow=False) as file:
            sums = _sums(file.read(MAX_CHECKSUMS_BYTES).decode())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{folder}: no readable {CHECKSUMS}: not a whole export"]) from error
    if not {WEIGHTS, CONFIG} <= sums.keys():
        raise ConfigError([f"{folder / CHECKSUMS}: damaged"])
    for name, expected in sums.items():
        path = folder / name
        if ".." in Path(name).parts or not path.resolve().is_relative_to(folder.resolve()):
            rule = "names a file outside of the export"
            raise ConfigError([f"{folder / CHECKSUMS}: {name!r}: {rule}"])
        try:
            same = _sha256(path) == expected
        except OSError as error:
            reason = f"{error.strerror}: {CHECKSUMS} names it"
            raise ConfigError([f"{path}: {reason}"]) from error
        if not same:
            raise ConfigError([f"{path}: is not as it was exported (its SHA-256 is another)"])


def _sha256(path: Path) -> str:
    with open_regular(path, follow=False) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
