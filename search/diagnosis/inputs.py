"""What a trial's data tell: modalities after windowing, lesion in the batches."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from search.diagnosis.finding import Finding, Word
from trainer.files.documents import strict

if TYPE_CHECKING:
    from trainer.diagnosis.training_data import Foreground, WindowedModality

NARROW = 0.05
"""Spread of a windowed modality, of 2, below which it is all but constant."""
TELLS = 0.6
"""Area under the curve from which a modality tells lesion from brain."""
LOST = 0.5
"""Share of what it tells that a blind modality's window takes away."""
FEW = 0.1
"""Share of the drawn images with lesion that is little."""
TINY = 4
"""Lesion pixels in the median slice that has any."""


def inputs(modalities: Sequence["WindowedModality"]) -> Finding:
    """Say whether the windows leave what tells lesion from brain."""
    blind = [m for m in modalities if m.auc >= TELLS and _is_blind(m)]
    best = max(modalities, key=lambda m: m.auc)
    told = blind or sorted(modalities, key=lambda m: -m.auc)[:3]
    figure = "; ".join(
        f"{m.modality} {m.clipped:.0%} of the brain clipped, AUC {m.auc_windowed:.2f}" for m in told
    )
    word: Word = "ok"
    compared = f"best of {len(modalities)} before windowing: {best.modality}, AUC {best.auc:.2f}"
    if blind:
        word = "cause likely" if max(m.auc for m in blind) > best.auc - 0.1 else "suspicious"
        compared = "before windowing: " + ", ".join(
            f"{m.modality} AUC {m.auc:.2f}" for m in sorted(blind, key=lambda m: -m.auc)
        )
        compared += f"; the store's windows clip {max(m.clipped_by_default for m in blind):.0%}"
    step = " ".join(f"data.windows.{m.modality}={_window(m)}" for m in blind)
    values = {m.modality: asdict(m) for m in modalities}
    return Finding("inputs", word, figure, compared, step, values)


def _is_blind(seen: "WindowedModality") -> bool:
    left = (seen.auc_windowed - 0.5) / (seen.auc - 0.5)
    return left < LOST or seen.spread < NARROW


def _window(seen: "WindowedModality") -> str:
    """Return the store's window if it shows more, else what 98 % of the brain's values span."""
    by_default = (seen.auc_by_default - 0.5) / (seen.auc - 0.5) >= 1 - LOST
    low, high = seen.default if by_default and seen.window != seen.default else seen.common
    return f"[{low:.3g},{high:.3g}]"


def foreground(seen: "Foreground", weak: bool) -> Finding:
    """Say how much lesion training sees.

    Args:
        seen: What it draws.
        weak: The trial's Dice is below its yardstick.
    """
    figure = (
        f"{seen.images:.0%} of the drawn images have lesion, {seen.pixels:.2%} of their pixels; "
        f"median lesion slice {seen.lesion_pixels:g} px of {seen.image_size} x {seen.image_size}"
    )
    compared = f"{seen.images_of_all:.0%} of all training slices have lesion"
    word: Word = "ok"
    step = ""
    if seen.images < FEW:
        word = "cause likely" if weak else "suspicious"
        step = "data.foreground_fraction=0.5"
    elif seen.lesion_pixels < TINY:
        word = "suspicious"
        compared += "; lesions of so few pixels need larger images (segtune prepare --image-size)"
    return Finding("foreground", word, figure, compared, step, strict(asdict(seen)))
