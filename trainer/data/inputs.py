"""What a model sees of a case: which modalities, in which windows, with how many neighbours.

Channel order: all modalities of the lowest neighbour first, then of the next slice up, and so on;
the slice itself is in the middle. At a case's ends its last slice stands in for those beyond it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from trainer.config import TrainConfig
from trainer.configfile import ConfigError, did_you_mean
from trainer.data.store import Store
from trainer.data.windows import Factors


@dataclass(frozen=True)
class InputSpec:
    """A model's input in plain values: a checkpoint carries it, so that use needs no store."""

    modalities: tuple[str, ...]
    windows: tuple[tuple[float, float], ...]
    """Physical values that become -1 and 1, by modality."""
    context_slices: int
    image_size: int
    factors: Factors = field(default_factory=dict)
    """By modality, also the reference's: what brings values as read from files to their unit."""

    @property
    def num_channels(self) -> int:
        return len(self.modalities) * (1 + 2 * self.context_slices)

    @classmethod
    def of(
        cls,
        config: TrainConfig,
        modalities: Sequence[str],
        windows: Mapping[str, tuple[float, float]],
        image_size: int,
        factors: Factors,
    ) -> "InputSpec":
        """Return what a configuration's model sees of a store with these properties."""
        return cls(
            tuple(modalities),
            tuple(config.data.windows.get(name, windows[name]) for name in modalities),
            config.data.context_slices,
            image_size,
            factors,
        )

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> "InputSpec":
        """Read what `describe` returned.

        Raises:
            KeyError, TypeError, ValueError: It is something else.
        """
        windows = tuple((float(low), float(high)) for low, high in values["windows"])
        spec = cls(
            tuple(map(str, values["modalities"])),
            windows,
            int(values["context_slices"]),
            int(values["image_size"]),
            {str(k): (float(f), float(o)) for k, (f, o) in dict(values.get("factors", {})).items()},
        )
        if not 0 < len(spec.modalities) == len(spec.windows):
            raise ValueError("needs one window a modality")
        return spec

    def describe(self) -> dict[str, Any]:
        """Return lists, strings and numbers only."""
        values = asdict(self) | {
            "modalities": list(self.modalities),
            "windows": [list(window) for window in self.windows],
            "factors": {name: list(numbers) for name, numbers in self.factors.items()},
        }
        return {key: value for key, value in values.items() if value != {}}

    def with_context(self, rows: ArrayLike, first: ArrayLike, last: ArrayLike) -> NDArray[np.int64]:
        """Return each row's neighbours and itself, kept within first..last of its case.

        Args:
            rows: (n,) slices.
            first: First slice of each row's case, (n,) or one for all.
            last: Last slice of each row's case, likewise.

        Returns:
            (n, 1 + 2 * context_slices), from inferior to superior.
        """
        rows = np.asarray(rows, np.int64).reshape(-1)
        reach = np.arange(-self.context_slices, self.context_slices + 1)
        low, high = (np.broadcast_to(end, rows.shape)[:, None] for end in (first, last))
        return np.clip(rows[:, None] + reach, low, high)


class Window:
    """Maps each channel's physical window to [-1, 1], and what lies beyond to its ends."""

    def __init__(self, spec: InputSpec, device: torch.device):
        bounds = spec.windows * (1 + 2 * spec.context_slices)
        low, high = torch.tensor(bounds, dtype=torch.float32, device=device).unbind(1)
        self.low = low[:, None, None]
        self.width = (high - low)[:, None, None]

    def __call__(self, images: Tensor) -> Tensor:
        """(b, C, H, W) in physical units -> float32 in [-1, 1]."""
        return ((images.float() - self.low) / self.width).clamp(0, 1) * 2 - 1


class Inputs:
    """Gathers from a store what a configuration's model sees."""

    def __init__(self, store: Store, config: TrainConfig, device: torch.device):
        """
        Args:
            device: Where images are windowed.

        Raises:
            ConfigError: A modality is not in the store, or a window is given for an unused one.
        """
        self.store = store
        self.channels = _modalities(store, config)
        self.spec = InputSpec.of(
            config, self.channels, store.windows, store.image_size, store.factors
        )
        self.window = Window(self.spec, device)

    @property
    def num_channels(self) -> int:
        """Modalities times slices: the channels of `gather`."""
        return self.spec.num_channels

    def gather(self, rows: ArrayLike) -> Tensor:
        """Return float16 (b, num_channels, H, W) on the CPU, in physical units."""
        first, last = self.store.ends(rows)
        seen = self.spec.with_context(rows, first, last)
        images = self.store.images(seen.reshape(-1), self.channels)
        size = self.store.image_size
        return torch.from_numpy(images).reshape(len(seen), self.num_channels, size, size)

    def describe(self) -> dict[str, Any]:
        """Return the plain values that `InputSpec.parse` reads."""
        return self.spec.describe()


def _modalities(store: Store, config: TrainConfig) -> tuple[str, ...]:
    modalities = config.data.modalities or store.modalities
    problems = [
        f"data.modalities: {name!r}: not in {config.data.store}, "
        f"which has {', '.join(store.modalities)}{did_you_mean(name, store.modalities)}"
        for name in modalities
        if name not in store.modalities
    ]
    problems += [
        f"data.windows: {name!r}: not among the modalities {', '.join(modalities)}"
        f"{did_you_mean(name, modalities)}"
        for name in config.data.windows
        if name not in modalities
    ]
    if problems:
        raise ConfigError(problems)
    return tuple(modalities)
