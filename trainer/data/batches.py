"""Training batches: gathered from the mapped store by counter, one step ahead, in one thread."""

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from trainer.config import TrainConfig
from trainer.configfile import ConfigError
from trainer.data.augment import augment, draw_light
from trainer.data.store import Case, Store
from trainer.randomness import generator

Item = TypeVar("Item")


@dataclass(frozen=True)
class Batch:
    """One optimizer step's images, before windowing; `b` is the effective batch."""

    images: Tensor
    """(b, M, H, W) float16, physical units."""
    masks: Tensor
    """(b, 1, H, W) uint8, 0 or 1."""
    t: Tensor
    """(b,) int64 timesteps."""
    noise: Tensor
    """(b, 1, H, W) float32."""
    augmentation: Tensor
    """(b, 5 + 2M) float32, or (b, 0) for none."""

    def to(self, device: torch.device) -> "Batch":
        return Batch(*(getattr(self, f.name).to(device) for f in fields(self)))

    def micro(self, size: int) -> Iterator["Batch"]:
        """Split into micro-batches of `size` images."""
        for parts in zip(*(getattr(self, f.name).split(size) for f in fields(self)), strict=True):
            yield Batch(*parts)


def input_channels(store: Store, config: TrainConfig) -> tuple[str, ...]:
    """Return the modalities that the model sees.

    Raises:
        ConfigError: One is not in the store, or a window is given for a modality that is not used.
    """
    modalities = config.data.modalities or store.modalities
    for name in modalities:
        if name not in store.modalities:
            raise ConfigError(
                [
                    f"data.modalities: {name!r}: not in {config.data.store}, "
                    f"which has {', '.join(store.modalities)}"
                ]
            )
    for name in config.data.windows:
        if name not in modalities:
            raise ConfigError(
                [f"data.windows: {name!r}: not among the modalities {', '.join(modalities)}"]
            )
    return tuple(modalities)


class Windows:
    """Maps each channel's physical window to [-1, 1]."""

    def __init__(self, store: Store, config: TrainConfig, device: torch.device):
        bounds = [
            config.data.windows.get(name, store.windows[name])
            for name in input_channels(store, config)
        ]
        low, high = torch.tensor(bounds, dtype=torch.float32, device=device).unbind(1)
        self.low = low[:, None, None]
        self.width = (high - low)[:, None, None]

    def __call__(self, images: Tensor) -> Tensor:
        """(b, M, H, W) in physical units -> float32 in [-1, 1]."""
        return ((images.float() - self.low) / self.width).clamp(0, 1) * 2 - 1


def augmented(batch: Batch, windows: Windows) -> tuple[Tensor, Tensor]:
    """Return cond, windowed images (b, M, H, W), and x_start, (b, 1, H, W), both in [-1, 1]."""
    images, masks = windows(batch.images), batch.masks.float()
    if batch.augmentation.shape[1]:
        images, masks = augment(images, masks, batch.augmentation)
    return images, masks * 2 - 1


class Draws:
    """Decides, for the training image with a given number, all that is random about it."""

    def __init__(self, store: Store, config: TrainConfig, rows: np.ndarray):
        """
        Args:
            rows: Store rows to train on.
        """
        self.store = store
        self.config = config
        self.channels = input_channels(store, config)
        self.rows = rows
        self.lesion_rows = rows[store.lesion_slice[rows]]
        if not len(self.lesion_rows):
            raise ConfigError(
                [
                    f"{config.data.store}: no lesion among the training cases "
                    f"of fold {config.data.fold}"
                ]
            )

    def row(self, image: int) -> int:
        """Return the store row of training image number `image`."""
        rng = generator(self.config.seed, "slice", image)
        lesion = rng.random() < self.config.data.foreground_fraction
        return int(rng.choice(self.lesion_rows if lesion else self.rows))

    def batch(self, first: int) -> Batch:
        """Gather the optimizer step that begins with image number `first`."""
        seed, size = self.config.seed, self.store.image_size
        numbers = range(first, first + self.config.batch.effective)
        rows = np.array([self.row(number) for number in numbers])
        noise = [
            generator(seed, "noise", n).standard_normal((1, size, size), np.float32)
            for n in numbers
        ]
        t = [
            generator(seed, "timestep", n).integers(self.config.diffusion.num_timesteps)
            for n in numbers
        ]
        if self.config.data.augment == "light":
            drawn = [draw_light(generator(seed, "augment", n), len(self.channels)) for n in numbers]
        else:
            drawn = [np.empty(0, np.float32) for _ in numbers]
        return Batch(
            images=torch.from_numpy(self.store.images(rows, self.channels)),
            masks=torch.from_numpy(self.store.masks(rows))[:, None],
            t=torch.tensor(t, dtype=torch.int64),
            noise=torch.from_numpy(np.stack(noise)),
            augmentation=torch.from_numpy(np.stack(drawn)),
        )

    def batches(self, first: int, device: torch.device) -> Iterator[Batch]:
        """Yield the steps from image number `first` on, for ever."""
        while True:
            yield self.batch(first).to(device)
            first += self.config.batch.effective


def rows_of(cases: Sequence[Case]) -> np.ndarray:
    """Return the store rows of the cases, in order."""
    return np.concatenate([case.rows for case in cases])


def prefetch(items: Iterator[Item], depth: int = 2) -> Generator[Item]:
    """Yield from an endless iterator that a thread keeps `depth` items ahead."""
    with ThreadPoolExecutor(1, "prefetch") as thread:
        ahead = deque(thread.submit(next, items) for _ in range(depth))
        try:
            while True:
                item = ahead.popleft().result()
                ahead.append(thread.submit(next, items))
                yield item
        finally:
            for future in ahead:
                future.cancel()
