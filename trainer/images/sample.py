"""One slice and what a model made of it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.data.store import Case


@dataclass(frozen=True)
class Moment:
    """A step of one mask's chain; both arrays (H, W)."""

    t: int
    x_t: NDArray[np.float32]
    x_start: NDArray[np.float32]
    """What the network makes of x_t, in [-1, 1]."""


@dataclass(frozen=True)
class Sample:
    """One slice and what a model made of it, on the store's pixels; (H, W) where not said."""

    case: Case
    index: int
    """Of the slice, from inferior."""
    seen: NDArray[np.float32]
    """The slice's modalities as the model sees them, (M, H, W) in [-1, 1]."""
    telling: int
    """The modality in which the lesions of all samples stand out most."""
    truth: NDArray[np.bool_]
    brain: NDArray[np.bool_]
    members: NDArray[np.float32]
    """Lesion probability of each mask, (members, H, W)."""
    probability: NDArray[np.float32]
    """Of the members together, as `sampling.fuse` makes it; 0 outside the brain."""
    uncertainty: NDArray[np.float32]
    """Standard deviation of the members; 0 outside the brain."""
    mask: NDArray[np.bool_]
    """The probability is at least the threshold."""
    path: list[Moment]
    """Of the first member, falling in t; empty for a model that segments directly."""
    path_steps: int
    """Of the chain that `path` shows: the members' own, unless that is too short."""
    sampling_steps: int
    """Of the members' chains."""

    @property
    def dice(self) -> float:
        """Of this slice."""
        return slice_dice(self.mask, self.truth)


def slice_dice(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Return the Dice of two masks, at least one of which is not empty."""
    return float(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))
