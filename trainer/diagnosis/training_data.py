"""What training sees: the modalities after windowing, and how much lesion is in the batches."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.config import TrainConfig
from trainer.data.batches import Draws, rows_of
from trainer.data.store import Store

MAX_SLICES = 200
"""Of the training cases that are looked at, half of them with lesion."""
MAX_VOXELS = 200_000
"""Brain voxels that are ranked."""
MAX_DRAWS = 2000
"""Training images whose slices are looked up."""


@dataclass(frozen=True)
class WindowedModality:
    """A modality inside the brain, as the model sees it."""

    modality: str
    window: tuple[float, float]
    """Physical values that become -1 and 1."""
    default: tuple[float, float]
    """The store's."""
    clipped: float
    """Share of brain voxels at or beyond the window's ends."""
    clipped_by_default: float
    """Likewise with the store's window."""
    spread: float
    """Distance of the windowed values' 10th and 90th percentile; the window is 2 wide."""
    auc: float
    """How well the values order lesion and other brain: 0.5 not at all, 1 perfectly, either way
    round."""
    auc_windowed: float
    """Likewise after windowing: clipped values are equal."""
    auc_by_default: float
    """Likewise with the store's window."""
    common: tuple[float, float]
    """Physical values that 1 % of the brain is below, and above."""


@dataclass(frozen=True)
class Foreground:
    """Lesion in the training batches and in the training cases."""

    drawn: int
    """Training images looked up: the first ones."""
    images: float
    """Share of them with lesion."""
    images_of_all: float
    """Share of the training slices with lesion."""
    pixels: float
    """Share of the drawn images' pixels that are lesion."""
    lesion_pixels: float
    """Median number of lesion pixels in a slice with lesion."""
    image_size: int


def windowed_modalities(store: Store, config: TrainConfig) -> list[WindowedModality]:
    """Look at the training cases through the windows of a configuration, modality by modality."""
    rows = rows_of(store.split(config.data.fold)[0])
    lesion = store.lesion_slice[rows]
    rng = np.random.default_rng(0)
    some = np.concatenate(
        [
            rng.choice(part, min(len(part), MAX_SLICES // 2), replace=False)
            for part in (rows[lesion], rows[~lesion])
        ]
    )
    brain, truth = store.brain(some).astype(bool), store.masks(some).astype(bool)
    kept = np.flatnonzero(brain | truth)
    kept = rng.choice(kept, min(len(kept), MAX_VOXELS), replace=False)
    is_lesion = truth.ravel()[kept]
    result = []
    for name in config.data.modalities or store.modalities:
        values = store.images(some, (name,))[:, 0].ravel()[kept].astype(np.float32)
        default = store.windows[name]
        window = config.data.windows.get(name, default)
        windowed, by_default = _through(values, window), _through(values, default)
        low, high = np.percentile(windowed, [10, 90])
        result.append(
            WindowedModality(
                modality=name,
                window=window,
                default=default,
                clipped=float((np.abs(windowed) >= 1).mean()),
                clipped_by_default=float((np.abs(by_default) >= 1).mean()),
                spread=float(high - low),
                auc=_auc(values, is_lesion),
                auc_windowed=_auc(windowed, is_lesion),
                auc_by_default=_auc(by_default, is_lesion),
                common=(float(np.percentile(values, 1)), float(np.percentile(values, 99))),
            )
        )
    return result


def foreground(store: Store, config: TrainConfig, images: int) -> Foreground:
    """Look up the slices of the first training images.

    Args:
        store: The data.
        config: Whose batches.
        images: Training images seen, at least 1.
    """
    rows = rows_of(store.split(config.data.fold)[0])
    draws = Draws(store, config, rows)
    drawn = np.array([draws.row(number) for number in range(min(images, MAX_DRAWS))])
    each, counts = np.unique(drawn, return_counts=True)
    pixels = store.masks(each).sum((1, 2), dtype=np.int64)
    of_lesion_slices = pixels[pixels > 0]
    return Foreground(
        drawn=len(drawn),
        images=float(store.lesion_slice[drawn].mean()),
        images_of_all=float(store.lesion_slice[rows].mean()),
        pixels=float((pixels * counts).sum() / (len(drawn) * store.image_size**2)),
        lesion_pixels=float(np.median(of_lesion_slices)) if len(of_lesion_slices) else 0.0,
        image_size=store.image_size,
    )


def _through(values: NDArray[np.float32], window: tuple[float, float]) -> NDArray[np.float32]:
    low, high = window
    return np.clip((values - low) / (high - low), 0, 1) * 2 - 1


def _auc(values: NDArray[np.float32], positive: NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve, at least 0.5, from the ranks (Mann & Whitney 1947)."""
    from scipy.stats import rankdata

    num, others = int(positive.sum()), int((~positive).sum())
    if not num or not others:
        return 0.5
    ranks = rankdata(values)[positive].sum() - num * (num + 1) / 2
    area = float(ranks / (num * others))
    return max(area, 1 - area)
