"""How the masks of a data set are read: labels or heights, and which of them are lesion.

Labels are few values, or many that form areas, and all but 0 are lesion unless a person chooses.
Heights are what a JPEG, a resize or a linear resampling leaves of a mask: many values, nearly all
of them next to 0 or to the largest. They are cut at half of it, and refused where too many lie
between.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from trainer.configfile import ConfigError, did_you_mean
from trainer.data.formats.case import TOGETHER
from trainer.data.masks.reading import WHOLE, Reading
from trainer.data.masks.survey import FEW, SMALL, Seen, Values
from trainer.data.summary.notes import Note, first_names

BETWEEN = (0.25, 0.75)
"""Shares of the height between which a value is neither background nor lesion."""
MAX_BETWEEN = 0.02
"""Voxels between them, as a share of those above."""
NOISE = 0.1
"""Share of the height below which a value beside the height may be noise, or a label."""
AREA = 0.5
"""Share of such voxels with an equal neighbor from which on they are labels."""
SHARES = 1.25
"""Shares of a voxel reach 1, or a little more where they were resampled with a cubic."""
NAMED = 12
"""Labels that a line names."""
_LESION = re.compile(
    r"lesion|tumou?r|stroke|infarct|core|penumbra|o?edema|h(?:a)?emorrhage|cancer|necro|enhanc",
    re.I,
)
INVERTED = 0.5
"""Share of an image, and of its border, above which a mask's foreground is its background."""
NAMES = {0xFF0000: "red", 0x00FF00: "green", 0x0000FF: "blue", 0xFFFF00: "yellow",
         0xFF00FF: "magenta", 0x00FFFF: "cyan", 0xFFFFFF: "white"}  # fmt: skip


@dataclass(frozen=True)
class Decision:
    """How masks are read, and what is said about it."""

    reading: Reading
    record: dict[str, Any]
    """What stands in the manifest: labels, or cut and height."""
    said: list[str] = field(default_factory=list)
    """Lines that say how they are read."""
    notes: list[str] = field(default_factory=list)
    """About the whole data set."""
    refused: dict[str, str] = field(default_factory=dict)
    """Cases whose mask does not go with the others: its file and why."""
    case_notes: dict[str, list[Note]] = field(default_factory=dict)


@dataclass(frozen=True)
class Wish:
    """What a person said of the masks on the command line."""

    labels: tuple[str, ...] = ()
    """Numbers or names of the labels that are lesion."""
    threshold: float | None = None
    """Lesion from this value on."""

    @classmethod
    def parse(cls, labels: str, threshold: float | None) -> "Wish":
        """Read the options `--labels 1,3` and `--mask-threshold 127.5`.

        Raises:
            ConfigError: Both are given, or labels without one.
        """
        words = tuple(sorted(word.strip() for word in labels.split(",")))
        if labels and threshold is not None:
            raise ConfigError(
                ["command line: labels: not together with mask-threshold: masks are labels or not"]
            )
        if labels and not all(words):
            raise ConfigError(
                [f"command line: labels: {labels!r}: must be labels with commas between, such as "
                 "1,3"]
            )  # fmt: skip
        return cls(words if labels else (), threshold)

    def request(self) -> dict[str, Any]:
        """Return what is asked for, and nothing where nothing is."""
        asked = {"labels": list(self.labels), "mask_threshold": self.threshold}
        return {key: value for key, value in asked.items() if value not in ([], None)}


def decide(
    dataset: Path,
    seen: Sequence[Seen],
    names: Mapping[int, str],
    ignore: int | None,
    wish: Wish,
) -> Decision:
    """Decide how the masks of a data set are read.

    Args:
        dataset: Its folder.
        seen: What `survey` saw.
        names: Of labels, from a description of the data set.
        ignore: Label of voxels that nobody annotated.
        wish: What the command line says.

    Raises:
        ConfigError: A wish that cannot be, or values that are neither labels nor heights.
    """
    decision = _of_files(dataset, seen, names, ignore, wish)
    refused: dict[str, str] = {}
    case_notes: dict[str, list[Note]] = {}
    for each in seen:
        if why := decision.refused.get(each.name):
            refused.setdefault(each.case_id, f"{each.path}: {why}")
        if notes := decision.case_notes.get(each.name):
            case_notes.setdefault(each.case_id, []).extend(notes)
    return replace(decision, refused=refused, case_notes=case_notes)


def _of_files(
    dataset: Path,
    seen: Sequence[Seen],
    names: Mapping[int, str],
    ignore: int | None,
    wish: Wish,
) -> Decision:
    """Decide, with the files' names in the place of the cases'."""
    masks = {each.name: each.grey for each in seen if len(each.grey.values)}
    if coloured := _colours(seen):
        masks, names = coloured, NAMES
    reading = Reading(colours=bool(coloured), ignore=ignore)
    if not masks:
        return Decision(reading, {"labels": []})
    if wish.threshold is not None:
        return _cut_as_wished(wish.threshold, seen, reading)
    if wish.labels:
        return _labels_as_wished(wish.labels, masks, names, reading)

    low = {each.name: each.low for each in seen}
    decision = _labels_or_heights(dataset, masks, low, names, reading)
    if any(ignore in mask.values for mask in masks.values()):
        return decision  # which may well cover all that nobody annotated
    inverted = {e.name: e for e in seen if min(e.covered, e.border) > INVERTED}
    if len(inverted) == len(masks):
        largest = max(values.high for values in masks.values())
        if coloured:
            remedy = "choose the lesion's colour: " + "; ".join(decision.said)
        elif decision.reading.cut == Reading().cut:
            remedy = f"--labels 0 takes what is 0, --labels {largest:g} what is {largest:g}"
        else:
            remedy = f"invert them, or take them so with --mask-threshold {largest / 2:g}"
        raise ConfigError(
            [f"{dataset}: all {len(masks)} masks look inverted: more than half of each is "
             f"foreground, and so is its border: {remedy}"]
        )  # fmt: skip
    for name, each in inverted.items():
        note = Note("the mask looks inverted: its border is foreground", f"{each.covered:.0%}")
        decision.case_notes.setdefault(name, []).append(note)
    return decision


def _colours(seen: Sequence[Seen]) -> dict[str, Values]:
    """Return the masks by their colours, if those are labels; nothing otherwise."""
    if not any(each.is_coloured for each in seen):
        return {}
    masks = {each.name: each.colours for each in seen}
    all_few = [values for values in masks.values() if values is not None]
    if len(all_few) < len(masks):
        return {}
    found = {value for values in all_few for value in values.values.tolist()}
    if len(found) > FEW and _share_of_areas(all_few, 0, np.inf) < AREA:
        return {}
    return {name: values for name, values in masks.items() if values and len(values.values)}


def _labels_or_heights(
    dataset: Path,
    masks: dict[str, Values],
    low: Mapping[str, float],
    names: Mapping[int, str],
    reading: Reading,
) -> Decision:
    found = {value for mask in masks.values() for value in mask.values.tolist()}
    is_whole = all(mask.is_whole for mask in masks.values())
    soft = {n: mask for n, mask in masks.items() if not mask.is_whole or len(mask.values) > 1}
    as_labels = _as_labels(masks, names, reading)
    if is_whole and min(found) > 0:
        is_small = max(found) < SMALL or (names and found <= set(names))
        if reading.colours or not soft or is_small:
            return as_labels
        if len(found) <= FEW:
            mixed = [n for n, mask in soft.items() if _is_mixed(mask)]
            if mixed and _share_of_areas([soft[n] for n in mixed], 0, NOISE * max(found)) >= AREA:
                values = ", ".join(f"{value:g}" for value in sorted(found))
                raise ConfigError(
                    [f"{dataset}: masks have the values {values} ({_few(mixed)}): labels or "
                     f"noise? Choose with --labels {int(max(found))}, or say where lesion begins "
                     f"with --mask-threshold {max(found) / 2:g}"]
                )  # fmt: skip
            if _share_of_areas([*soft.values()], 0, max(found)) >= AREA:
                return as_labels
    return _heights(dataset, masks, soft, low, as_labels)


def _is_mixed(mask: Values) -> bool:
    """Tell values of which some may be noise about 0, as 1 is beside 255, or a label."""
    share = mask.values / mask.high
    return bool((share < NOISE).any() and (share > BETWEEN[1]).any())


def _heights(
    dataset: Path,
    masks: dict[str, Values],
    soft: dict[str, Values],
    low: Mapping[str, float],
    as_labels: Decision,
) -> Decision:
    height = _height(soft)
    plain = {name: mask for name, mask in masks.items() if name not in soft}
    other = {n for n, mask in plain.items() if abs(mask.high - height) > 0.02 * height}
    refused = {
        n: f"has values from {low[n]:g} to {mask.high:g}, but a mask has labels (0, 1, 2, ...) or "
        "shares of a voxel (0 to 1): --labels or --mask-threshold say which are lesion"
        for n, mask in soft.items()
        if low[n] < -BETWEEN[0] * height
    }
    if len(other) * 2 > len(masks):
        refused |= {
            n: f"has {len(mask.values)} values up to {mask.high:g}, but of {len(masks)} masks "
            f"{len(plain)} have one: --mask-threshold says where lesion begins"
            for n, mask in soft.items()
        }
        kept = {n: mask for n, mask in masks.items() if n not in refused}
        return replace(_as_labels(kept, {}, as_labels.reading), refused=refused)
    refused |= {
        n: f"has the one value {plain[n].high:g}, but other masks are of height {height:g}: "
        "--mask-threshold says where lesion begins"
        for n in other
    }
    soft = {n: mask for n, mask in soft.items() if n not in refused}
    if not soft:
        return replace(as_labels, refused=refused)
    height = _height(soft)
    edges = (BETWEEN[0] * height, BETWEEN[1] * height)
    between = sum(_count(mask, *edges) for mask in soft.values())
    above = sum(_count(mask, edges[1], np.inf) for mask in soft.values())
    number = len({value for mask in soft.values() for value in mask.values.tolist()})
    values = f"{number} values up to {height:g}"
    if between > MAX_BETWEEN * above:
        all_soft = [*soft.values()]
        if all(m.is_whole for m in all_soft) and _share_of_areas(all_soft, *edges) >= AREA:
            return replace(as_labels, refused=refused)
        share = f"{between / above:.0%} of those above" if above else "none above"
        raise ConfigError(
            [f"{dataset}: masks have {values} ({_few([*soft])}), with too many voxels between 25 "
             f"and 75 % of the height ({share}): say where lesion begins, at half of it with "
             f"--mask-threshold {height / 2:g}"]
        )  # fmt: skip
    cut = height / 2
    emptied = {
        name: [Note(f"the mask is empty, cut at {cut:g}", f"values up to {mask.high:g}")]
        for name, mask in soft.items()
        if mask.high < cut
    }
    note = f"masks have {values} in {_few([*soft])}: cut at half of the height, {cut:g}"
    reading = replace(as_labels.reading, cut=cut)
    record = {"cut": cut, "height": height}
    return Decision(reading, record, [], [note], refused, emptied)


def _height(soft: Mapping[str, Values]) -> float:
    highest = max(mask.high for mask in soft.values())
    return 1.0 if highest <= SHARES else highest


def _count(mask: Values, low: float, high: float) -> int:
    return int(mask.counts[(mask.values >= low) & (mask.values < high)].sum())


def _share_of_areas(masks: Sequence[Values], low: float, high: float) -> float:
    """Return which share of the voxels with these values has an equal neighbor along x."""
    inside = [(mask.values >= low) & (mask.values < high) for mask in masks]
    total = sum(int(mask.counts[some].sum()) for mask, some in zip(masks, inside, strict=True))
    alike = sum(int(mask.areas[some].sum()) for mask, some in zip(masks, inside, strict=True))
    return alike / total if total else 0.0


def _cut_as_wished(threshold: float, seen: Sequence[Seen], reading: Reading) -> Decision:
    highest = max(each.grey.high for each in seen)
    if not WHOLE < threshold <= highest:
        raise ConfigError(
            [f"command line: mask-threshold: {threshold:g}: must be above 0 and at most "
             f"{highest:g}, the masks' largest value"]
        )  # fmt: skip
    line = f"masks: lesion from {threshold:g} on, of values up to {highest:g} (--mask-threshold)"
    reading = Reading(cut=threshold, ignore=reading.ignore)
    return Decision(reading, {"cut": threshold, "height": highest}, [line])


def _labels_as_wished(
    wished: Sequence[str], masks: dict[str, Values], names: Mapping[int, str], reading: Reading
) -> Decision:
    whole = [mask for mask in masks.values() if mask.is_whole]
    found = sorted({int(value) for mask in whole for value in mask.values} | set(names) - {0})
    if reading.colours:
        found = [value for value in found if any(value in mask.values for mask in whole)]
    by_name = {"0": {0}} | {_number(value, reading): {value} for value in found}
    for value in found:
        for name in names.get(value, "").split(TOGETHER):
            by_name.setdefault(name, set()).add(value)
    problems = [
        f"command line: labels: {word}: the masks have {_list(found, names, reading)}"
        f"{did_you_mean(word, by_name)}"
        for word in wished
        if word.lower() not in by_name
    ]
    if problems:
        raise ConfigError(problems)
    chosen = tuple(sorted({value for word in wished for value in by_name[word.lower()]}))
    ignore = None if reading.ignore in chosen else reading.ignore
    reading = replace(reading, labels=chosen, ignore=ignore)
    refused = {
        name: "has values that are no whole numbers: no labels to choose from"
        for name, mask in masks.items()
        if not mask.is_whole
    }
    return replace(_as_labels(masks, names, reading), refused=refused)


def _as_labels(masks: Mapping[str, Values], names: Mapping[int, str], reading: Reading) -> Decision:
    """List each label with its cases and voxels, and say which are lesion."""
    cases: dict[int, int] = {}
    voxels: dict[int, int] = {}
    for mask in masks.values():
        for value, count in zip(mask.values.tolist(), mask.counts.tolist(), strict=True):
            cases[int(value)] = cases.get(int(value), 0) + 1
            voxels[int(value)] = voxels.get(int(value), 0) + count
    found = sorted(cases)
    lesion = [value for value in found if value != reading.ignore]
    if reading.labels is not None:
        lesion = [value for value in reading.labels if value != reading.ignore]
    labels = [
        {
            "value": _number(value, reading),
            "name": names.get(value),
            "cases": cases[value],
            "voxels": voxels[value],
            "lesion": value in lesion,
        }
        for value in found
    ]
    ignored = reading.ignore is not None and reading.ignore in found
    parts = []
    if reading.labels is not None:
        others = [value for value in found if value not in lesion and value != reading.ignore]
        parts.append(
            f"{_list(lesion, names, reading)} {'is' if len(lesion) == 1 else 'are'} lesion"
        )
        if others:
            parts.append(f"{_list(others, names, reading)} not")
    elif len(lesion) > 1:
        parts.append(f"{_list(lesion, names, reading)}, merged to one lesion")
        # A brain or an organ may be labelled too.
        named = [value for value in lesion if _LESION.search(names.get(value, ""))]
        parts.append(f"choose with --labels {_number((named or lesion)[0], reading)}")
    elif lesion and ignored:
        parts.append(_list(lesion, names, reading))
    if ignored:
        assert reading.ignore is not None
        parts.append(
            f"{_list([reading.ignore], names, reading)} is not scored, and background in training"
        )
    said = ["labels: " + "; ".join(parts)] if parts else []
    return Decision(reading, {"labels": labels}, said)


def _list(values: Sequence[int], names: Mapping[int, str], reading: Reading) -> str:
    named = [f"{_number(value, reading)} {names.get(value, '')}".strip() for value in values]
    if len(named) > NAMED:
        return f"{named[0]}, {named[1]}, ... {named[-1]} ({len(named)} labels)"
    return ", ".join(named) or "none"


def _number(value: int, reading: Reading) -> str:
    return f"#{value:06x}" if reading.colours and value else str(value)


def _few(names: Sequence[str]) -> str:
    return (f"{len(names)} masks: " if len(names) > 1 else "") + first_names(names)
