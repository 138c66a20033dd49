"""What values the masks of a data set have, before any case is prepared."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.data.files import BadFile, Source, is_picture, read_pixels
from trainer.data.formats.case import RawCase
from trainer.data.masks.reading import WHOLE, raw_values

FEW = 8
"""Labels have that many values at most, unless they are seen to be areas."""
SMALL = 50
"""Whole numbers below it are labels, however many."""
STEPS = 256
"""Shares of a voxel are told apart in so many steps."""
MAX_COLOURS = 64
"""Distinct colours of a picture whose colours are labels; one that was a JPEG has thousands."""


@dataclass(frozen=True)
class Values:
    """The values of one mask but 0, ascending, with the voxels that have them."""

    values: NDArray[np.float64]
    counts: NDArray[np.int64]
    is_whole: bool
    """All are whole numbers."""
    areas: NDArray[np.int64]
    """Voxels whose neighbor along x has the same value: nearly all of an area, few of an edge."""

    @property
    def high(self) -> float:
        return float(self.values[-1]) if len(self.values) else 0.0


@dataclass(frozen=True)
class Seen:
    """One mask's file."""

    case_id: str
    path: Path
    name: str
    """The case, with the file where it is a further mask."""
    low: float
    """Smallest value."""
    grey: Values
    colours: Values | None
    """Of a picture: by 0xRRGGBB; None where there are too many for labels, and of a volume."""
    is_coloured: bool
    covered: float
    """Share of all voxels from half of this mask's height on."""
    border: float
    """The same of the voxels at the edges of its slices."""


def survey(cases: Sequence[RawCase], workers: int) -> list[Seen]:
    """Look at every mask that can be read, in threads: most of the time zlib has."""
    masks = [(case, mask) for case in cases for mask in (case.mask, *case.more_masks)]
    pool = ThreadPoolExecutor(max(1, min(workers, len(masks))))
    try:
        return [seen for seen in pool.map(_look, *zip(*masks, strict=True)) if seen]
    finally:  # also of an interrupt, which waits for no further mask
        pool.shutdown(wait=False, cancel_futures=True)


def _look(case: RawCase, mask: Source) -> Seen | None:
    try:
        # NIfTI files are stored with x fastest: each pass goes through memory in order.
        values = raw_values(mask).data.T
        coloured, colours = False, None
        if is_picture(mask.path):
            pixels = read_pixels(mask.path)
            coloured = pixels.values.ndim == 3
            colours = _values(pixels.colours.astype(np.float32))[0]
    except BadFile:
        return None  # and refused with its line when the case is prepared
    grey, some = _values(values)
    half = max(grey.high / 2, WHOLE)
    edges = (values[..., 0], values[..., -1], values[:, 0], values[:, -1])
    border = np.concatenate([edge.reshape(-1) for edge in edges]) >= half
    return Seen(
        case_id=case.case_id,
        path=mask.path,
        name=case.case_id if mask == case.mask else f"{case.case_id} ({mask.path.name})",
        low=min(float(some.min(initial=0)), 0.0),
        grey=grey,
        colours=colours if colours and len(colours.values) <= MAX_COLOURS else None,
        is_coloured=coloured,
        covered=float((some >= half).sum() / values.size),
        border=float(border.mean()),
    )


def _values(values: NDArray[np.float32]) -> tuple[Values, NDArray[np.float32]]:
    """Count values; where they are no whole numbers, in STEPS of their largest.

    Args:
        values: (..., x).

    Returns:
        The counts, and the values but 0.
    """
    some = values[values != 0]  # few, and all that is to be sorted
    whole = np.rint(some)
    is_whole = bool((np.abs(some - whole) < WHOLE).all())
    step = 1.0 if is_whole else float(np.abs(some).max()) / STEPS
    found, counts = np.unique(whole if is_whole else np.rint(some / step), return_counts=True)
    areas = np.zeros_like(counts)
    if (len(found) > 1 and found[-1] * step >= SMALL) or len(found) > FEW:
        steps = np.rint(values / np.float32(step))
        same = steps[..., 1:][steps[..., :-1] == steps[..., 1:]]
        alike, times = np.unique(same[same != 0], return_counts=True)
        areas[np.searchsorted(found, alike)] = times
    kept = found != 0
    return Values(found[kept] * np.float64(step), counts[kept], is_whole, areas[kept]), some
