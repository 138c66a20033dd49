"""What the values of somebody's masks are, and one of them on its case's native grid."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from trainer.configfile import ConfigError
from trainer.data.files import BadFile, Source, is_picture
from trainer.data.masks.reading import WHOLE, raw_values
from trainer.data.masks.survey import FEW, SMALL
from trainer.data.nifti import SAME_GRID_MM, Volume
from trainer.data.store import Case
from trainer.data.summary.notes import first_names
from trainer.progress import tracked

CUT = 0.5
"""Probability from which on a voxel is lesion."""
WHITE = 255.0
"""Of a picture in 8 bits."""
MOST_KINDS = 64
"""Distinct values that are kept of a file: more are no labels."""


@dataclass(frozen=True)
class Meaning:
    """How the values of a folder's masks are read."""

    labels: tuple[int, ...] | None
    """These are lesion; None: all but 0, or of probabilities those from `CUT` on."""
    probabilities: frozenset[Path]
    said: list[str] = field(default_factory=list)
    """Lines that say so."""
    resampled: list[Case] = field(default_factory=list)
    """Whose masks lie on another grid than theirs."""


def find_meaning(
    files: Sequence[tuple[Case, Path]],
    store_labels: Sequence[Mapping[str, Any]],
    wished: str = "",
) -> Meaning:
    """Read all files once, and decide what their values are: labels or probabilities.

    Args:
        files: One a case.
        store_labels: The labels that the store was prepared from, of its manifest.
        wished: Labels that are lesion, as a person says: `1,3`; empty decides.

    Raises:
        ConfigError: A file is neither, cannot be read or cannot be brought to its case's grid; or
            none has a label that is asked for.
    """
    found: set[int] = set()
    soft, problems, resampled = list[Path](), list[str](), list[Case]()
    for case, path in tracked(files, "reading masks"):
        try:
            mask = raw_values(Source(path))
            labels = _labels(mask)
            if _other_grid(mask, case) is not None:
                resampled.append(case)
        except BadFile as error:
            problems.append(str(error))
            continue
        if labels is None:
            soft.append(path)
        else:
            found |= labels
    if problems:
        raise ConfigError(problems[:3] + [f"and {len(problems) - 3} more"] * (len(problems) > 3))
    said = []
    if soft:
        some = f"{len(soft)} of {len(files)} files" if len(soft) < len(files) else "the files"
        said.append(f"probabilities: {some} have values between 0 and 1: lesion from {CUT} on")
    chosen, line = _chosen(found, store_labels, wished, bool(soft))
    return Meaning(chosen, frozenset(soft), said + [line] * bool(line), resampled)


def _chosen(
    found: set[int], store_labels: Sequence[Mapping[str, Any]], wished: str, soft: bool
) -> tuple[tuple[int, ...] | None, str]:
    """Return which labels are lesion, None for all, and a line that says so."""
    there = ", ".join(map(str, sorted(found))) or "none"
    if wished:
        words = [word.strip() for word in wished.split(",")]
        if unknown := [word for word in words if not word.isdecimal() or int(word) not in found]:
            kind = "probabilities" if soft and not found else f"the labels {there}"
            raise ConfigError([f"command line: labels: {unknown[0]!r}: the masks have {kind}"])
        return tuple(sorted({int(word) for word in words})), ""
    if len(found) < 2:
        return None, ""
    lesion = {_number(each) for each in store_labels if each["lesion"]}
    known = {_number(each) for each in store_labels}
    if found <= known and not found <= lesion:
        chosen = tuple(sorted(found & lesion))
        named = ", ".join(map(str, chosen)) or "none"
        return chosen, f"labels: of {there}, {named} is lesion, as in the store; else say --labels"
    return None, f"labels: {there}, merged to one lesion: choose with --labels {min(found)}"


def _number(label: Mapping[str, Any]) -> int:
    """Return the number of a label in a manifest, -1 of a colour."""
    value = str(label["value"])
    return int(value) if value.lstrip("-").isdecimal() else -1


def _labels(mask: Volume) -> set[int] | None:
    """Return the labels of a file but 0, None where it has probabilities.

    Raises:
        BadFile: It has neither.
    """
    values, path = mask.data, mask.path
    some = values[values != 0]
    if not some.size:
        return set()
    low, high = float(some.min()), float(some.max())
    kinds = np.unique(np.rint(some))
    if not (np.abs(some - np.rint(some)) < WHOLE).all():
        if low < 0 or high > 1 + WHOLE:
            raise BadFile(
                path, f"has values from {min(low, 0.0):.4g} to {high:.4g}: neither labels (0, 1, "
                "2, ...) nor probabilities (0 to 1); of logits, save the sigmoid or the softmax"
            )  # fmt: skip
        return None
    if low < 0 or len(kinds) > MOST_KINDS or (len(kinds) > FEW and high >= SMALL):
        if is_picture(path) and low >= 0 and high <= WHITE:
            return None
        raise BadFile(
            path, f"has {len(kinds)} values from {min(low, 0.0):.4g} to {high:.4g}: neither labels "
            "(0, 1, 2, ...) nor probabilities (0 to 1)"
        )  # fmt: skip
    return {int(kind) for kind in kinds}


def read_on_grid(path: Path, case: Case, meaning: Meaning) -> NDArray[np.bool_]:
    """Return one mask on its case's native grid, (X, Y, Z): where `values_on_grid` has lesion."""
    return np.asarray(values_on_grid(path, case, meaning) >= CUT)


def values_on_grid(path: Path, case: Case, meaning: Meaning) -> NDArray[np.float32]:
    """Return the probability of lesion on a case's native grid, (X, Y, Z): of labels, 0 or 1.

    Labels are resampled to the nearest voxel, probabilities linearly; beyond the file's own grid
    nothing is lesion. That the file can be used, `find_meaning` has seen.
    """
    mask = raw_values(Source(path))
    soft = path in meaning.probabilities
    if soft:
        white = WHITE if is_picture(path) and mask.data.max() > 1 else 1.0
        values: NDArray[Any] = mask.data / np.float32(white)
    elif meaning.labels is None:
        values = np.rint(mask.data) != 0
    else:
        values = np.isin(np.rint(mask.data), meaning.labels)
    values = values.astype(np.float32)
    if (to_file := _other_grid(mask, case)) is None:
        return values
    resampled = ndimage.affine_transform(
        values, to_file[:3, :3], to_file[:3, 3], case.native_shape,
        order=1 if soft else 0, mode="constant", cval=0.0,
    )  # fmt: skip
    return np.asarray(resampled, np.float32)


def _other_grid(mask: Volume, case: Case) -> NDArray[np.float64] | None:
    """Return the way from a case's voxels to a mask's, (4, 4); None where they are the same.

    Raises:
        BadFile: Its grid does not overlap the case's, says nothing of where it lies, or is another
            than the case's in a store that does not know where that lies.
    """
    shape = "x".join(map(str, mask.data.shape))
    native = "x".join(map(str, case.native_shape))
    same_shape = mask.data.shape == case.native_shape
    if case.affine is None:
        apart_mm = np.abs(np.subtract(mask.spacing_mm, case.native_spacing_mm)).max()
        if same_shape and apart_mm < SAME_GRID_MM:
            return None
        raise BadFile(
            mask.path, f"shape {shape}, but {case.case_id} has {native}, and a store of version "
            "0.1 does not know where that lies: prepare it again, which gives the same content"
        )  # fmt: skip
    affine = np.array(case.affine)
    last = np.array(mask.data.shape) - 1
    corners = np.array(np.meshgrid(*[(0, end) for end in last])).reshape(3, -1)
    shifts = (mask.affine - affine)[:3, :3] @ corners + (mask.affine - affine)[:3, 3:]
    if same_shape and np.linalg.norm(shifts, axis=0).max() < SAME_GRID_MM:
        return None
    if _says_nothing(mask):
        of_picture = "" if is_picture(mask.path) else ": save it with its image's affine"
        raise BadFile(
            mask.path, f"shape {shape}, and nothing says where it lies; {case.case_id} has "
            f"{native}{of_picture}"
        )  # fmt: skip
    to_file: NDArray[np.float64] = np.linalg.inv(mask.affine) @ affine
    ends = np.array(np.meshgrid(*[(-0.5, size - 0.5) for size in case.native_shape])).reshape(3, -1)
    reach = to_file[:3, :3] @ ends + to_file[:3, 3:]
    low, high = reach.min(1), reach.max(1)
    if (high <= -0.5).any() or (low >= last + 0.5).any():
        raise BadFile(
            mask.path, f"its grid ({shape}) does not overlap that of {case.case_id} ({native}): "
            "are they of one image?"
        )  # fmt: skip
    return to_file


def _says_nothing(mask: Volume) -> bool:
    """Return whether an affine is what programs write that were given none: 1 mm, from 0 on.

    In canonical axes: those that ran backwards begin at their other end.
    """
    ends = np.array(mask.data.shape) - 1
    offsets = mask.affine[:3, 3]
    return np.array_equal(mask.affine[:3, :3], np.eye(3)) and bool(
        np.all((offsets == 0) | (offsets == -ends))
    )


def resampled_text(cases: Collection[str]) -> str:
    """Return a line about masks that lay on another grid."""
    which = "mask was" if len(cases) == 1 else "masks were"
    return f"{len(cases)} {which} resampled to their case's grid: {first_names(sorted(cases))}"
