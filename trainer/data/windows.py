"""What each modality's numbers mean: its unit in the store, the range kept, the default window."""

import re
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.configfile import ConfigError, did_you_mean
from trainer.data.summary.notes import Note


class Modality(NamedTuple):
    unit: str
    scaling: Literal["physical", "adc", "robust"]
    """physical: stored as read; adc: brought to one unit; robust: percentiles become 0 and 1."""
    kept: tuple[float, float]
    """The store clips to this range: beyond anything a scanner measures, and safe in float16."""
    window: tuple[float, float]
    """Values that become -1 and 1 unless a study says otherwise."""


# Windows: the ISLES24 winner's (Kurtlab); NCCT as in stroke reading, width 80, level 40.
MODALITIES: dict[str, Modality] = {
    "ncct": Modality("HU", "physical", (-1024, 3071), (0, 80)),
    "cta": Modality("HU", "physical", (-1024, 3071), (0, 90)),
    "ct": Modality("HU", "physical", (-1024, 3071), (-160, 240)),
    "cbf": Modality("mL/100 g/min", "physical", (0, 1000), (0, 35)),
    "cbv": Modality("mL/100 g", "physical", (0, 100), (0, 10)),
    "mtt": Modality("s", "physical", (0, 100), (0, 20)),
    "tmax": Modality("s", "physical", (0, 100), (0, 7)),
    "adc": Modality("1e-3 mm2/s", "adc", (0, 10), (0, 3)),
}
UNITLESS = Modality("scaled", "robust", (-10, 50), (0, 1))
"""Any other, such as DWI, FLAIR or T1: the brain's 1st and 99th percentile become 0 and 1."""
PICTURE = Modality("share of white", "physical", (0, 1), (0, 1))
"""PNG and JPEG: already windowed by whoever saved them."""


TYPICAL = {"cbf": 40.0, "cbv": 3.0, "mtt": 5.0, "tmax": 2.0}
"""A brain's median."""
MUCH = 0.9
"""Of the brain outside a window: a network sees nearly nothing there."""
LITTLE, LITTLE_OF_WHITE = 0.02, 1 / 16
"""Of a window, that a brain's values span; 12 of a picture's 16 bits are little of its white."""
SAMPLE = 300_000
"""Voxels that are looked at, about."""
LARGEST = 1e9


def modality(name: str) -> Modality:
    """Return what is known about a modality."""
    if name.startswith("picture"):
        return PICTURE
    return MODALITIES.get(kind(name), UNITLESS)


def kind(name: str) -> str:
    """Return a modality without what tells several of one kind apart: ct_0, ct_venous are ct."""
    first = re.split(r"[ _.-]", name.lower(), maxsplit=1)[0]
    return first if first in MODALITIES else name


def scale(
    volume: NDArray[np.float32], name: str, brain: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], float, float]:
    """Bring a modality to its unit in the store and clip it to the kept range.

    Args:
        volume: Values as read from the file.
        name: Modality.
        brain: Voxels over which percentiles are taken; same shape.

    Returns:
        The float32 values, and the factors (offset, divisor): stored = (read - offset) / divisor.
    """
    what = modality(name)
    offset, divisor = 0.0, 1.0
    inside = volume[brain] if brain.any() else volume
    match what.scaling:
        case "adc":
            # Brain has 0.6-1.0e-3 mm2/s and CSF 3e-3: the median tells the three units apart.
            typical = float(np.median(inside))
            divisor = 1e-3 if typical < 0.05 else 1000.0 if typical > 50 else 1.0
        case "robust":
            low, high = np.percentile(inside, (1, 99)).tolist()
            offset, divisor = low, (high - low) or 1.0
    scaled = ((np.asarray(volume, np.float64) - offset) / divisor).astype(np.float32)
    return np.clip(scaled, *what.kept), offset, divisor


Factors = Mapping[str, tuple[float, float]]
"""What a modality's values are multiplied with before anything else, and what is then added."""


def parse_factors(words: Sequence[str], modalities: Sequence[str]) -> Factors:
    """Read `tmax=0.001` and `ncct=1,-1024`: MODALITY=FACTOR[,OFFSET].

    Raises:
        ConfigError: A word of another form, or of a modality that the data set lacks.
    """
    factors: dict[str, tuple[float, float]] = {}
    problems = []
    for word in words:
        name, _, numbers = word.partition("=")
        where = f"command line: scale: {word}"
        try:
            factor, offset = [*map(float, numbers.split(",")), 0.0][:2]
            if numbers.count(",") > 1 or not (0 < factor <= LARGEST and abs(offset) <= LARGEST):
                raise ValueError
        except ValueError:
            problems.append(
                f"{where}: must be MODALITY=FACTOR or MODALITY=FACTOR,OFFSET, such as tmax=0.001 "
                "or ncct=1,-1024, with a factor above 0"
            )
            continue
        if name not in modalities:
            known = f"has {', '.join(modalities)}{did_you_mean(name, modalities)}"
            problems.append(f"{where}: no modality {name!r}: the data set {known}")
        elif name in factors:
            problems.append(f"{where}: {name} is given twice")
        factors[name] = factor, offset
    if problems:
        raise ConfigError(problems)
    return factors


def value_notes(volume: NDArray[np.float32], name: str, brain: NDArray[np.bool_]) -> list[Note]:
    """Say where a modality's values can hardly be in the unit that its name stands for.

    Args:
        volume: Values as read from the file, in `--scale`'s unit.
        name: Modality.
        brain: Same shape.
    """
    step = max(1, int(np.sqrt(volume.size / SAMPLE)))
    some = np.s_[::step, ::step]
    inside = volume[some][brain[some]]
    if not len(inside):
        return []
    if inside.min() == inside.max() and np.ptp(volume[brain]) == 0:
        return [Note(f"{name} is constant in the brain", f"{inside[0]:g}")]
    what = modality(name)
    if what.scaling != "physical":
        return []
    low, high = what.window
    first, median, last = np.percentile(inside, (1, 50, 99)).tolist()
    window = f"its window of {low:g} to {high:g} {what.unit}{_remedy(name, median, last)}"
    detail = f"median {median:.3g}"
    if float(((inside <= low) | (inside >= high)).mean()) > MUCH:
        return [Note(f"nearly all of {name} in the brain lies outside {window}", detail)]
    little = LITTLE_OF_WHITE if what is PICTURE else LITTLE
    if last - first < little * (high - low):
        return [Note(f"{name} in the brain fills less than {little:.0%} of {window}", detail)]
    return []


def _remedy(name: str, median: float, last: float) -> str:
    """Return the option that would bring a brain's median to where it is expected."""
    ct = kind(name) in ("ncct", "cta", "ct")
    if ct and 800 < median < 1400:
        return f" (air at 0? --scale {name}=1,-1024)"
    if modality(name) is PICTURE and 0 < last <= 1 / 16:
        return f" (12 of 16 bits? --scale {name}=16)"
    if kind(name) in TYPICAL and median > 0:
        power = round(float(np.log10(TYPICAL[kind(name)] / median)))
        if power <= -2 and modality(name).unit == "s":
            power = -3
        if power:
            return f" (another unit? --scale {name}={10.0**power:g})"
    return f" (another unit? --scale {name}=FACTOR,OFFSET)"
