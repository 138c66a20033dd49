"""What each modality's numbers mean: its unit in the store, the range kept, the default window."""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray


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


def modality(name: str) -> Modality:
    """Return what is known about a modality."""
    if name.startswith("picture"):
        return PICTURE
    return MODALITIES.get(name, UNITLESS)


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
