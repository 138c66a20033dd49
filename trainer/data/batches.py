"""Training batches: gathered from the mapped store by counter, one step ahead, in one thread."""

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.config import TrainConfig
from trainer.configfile import ConfigError
from trainer.data.augment import augment, draw_heavy, draw_light
from trainer.data.inputs import Inputs
from trainer.data.store import Case, Store
from trainer.randomness import generator

Item = TypeVar("Item")


@dataclass(frozen=True)
class Batch:
    """One optimizer step's images, before windowing, on the CPU; `b` is the effective batch."""

    images: Tensor
    """(b, C, H, W) float16, physical units."""
    masks: Tensor
    """(b, 1, H, W) uint8, 0 or 1."""
    numbers: Tensor
    """(b,) int64: which training image each is, counted from 0 over the whole training."""
    position: Tensor
    """(b,) float64 in [0, T): its integer part is a uniform timestep."""
    noise: Tensor
    """(b, 1, H, W) float32; for a GPU the keys, (b, 2) int64, from which `counter_normal` draws it
    there: that takes a millisecond, and numpy up to 50 of a thread that others wait for."""
    coins: Tensor
    """(b,) float32 in [0, 1): below a share, the image belongs to it (self-conditioning...)."""
    augmentation: Tensor
    """(b, P) float32, as `trainer.data.augment` draws them; P = 0 for none."""

    def pinned(self) -> "Batch":
        """Return it in memory that a GPU copies from without anyone waiting."""
        return Batch(*(getattr(self, f.name).pin_memory() for f in fields(self)))

    def micro(self, size: int) -> Iterator["Batch"]:
        """Split into micro-batches of `size` images."""
        for parts in zip(*(getattr(self, f.name).split(size) for f in fields(self)), strict=True):
            yield Batch(*parts)


class Augmentable(Protocol):
    """What `augmented` needs of a batch; see `Batch`."""

    @property
    def images(self) -> Tensor: ...

    @property
    def masks(self) -> Tensor: ...

    @property
    def augmentation(self) -> Tensor: ...


def augmented(batch: Augmentable, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Return cond, windowed images (b, C, H, W), and x_start, (b, 1, H, W), -1 or 1."""
    images, masks = inputs.window(batch.images), batch.masks.float()
    if batch.augmentation.shape[1]:
        images, masks = augment(images, masks, batch.augmentation, len(inputs.channels))
    return images, masks * 2 - 1


class Draws:
    """Decides, for the training image with a given number, all that is random about it."""

    def __init__(self, store: Store, config: TrainConfig, rows: NDArray[np.int64]):
        """
        Args:
            rows: Store rows to train on.
        """
        self.store = store
        self.config = config
        self.inputs = Inputs(store, config, torch.device("cpu"))
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

    def batch(
        self, first: int, rank: int = 0, world_size: int = 1, *, draws_noise: bool = True
    ) -> Batch:
        """Gather a rank's images of the optimizer step that begins with image number `first`.

        Ranks take contiguous shares, which differ by one image where they must.

        Args:
            first: Number of the step's first image.
            rank: This process's number.
            world_size: How many there are.
            draws_noise: Draw the noise here; otherwise the keys that draw it elsewhere.
        """
        start, stop = (
            first + share * self.config.batch.effective // world_size for share in (rank, rank + 1)
        )
        numbers = range(start, stop)
        rows = np.array([self.row(number) for number in numbers])
        return Batch(
            images=self.inputs.gather(rows),
            masks=torch.from_numpy(self.store.masks(rows))[:, None],
            numbers=torch.tensor(numbers, dtype=torch.int64),
            position=torch.tensor([self._position(n) for n in numbers], dtype=torch.float64),
            noise=torch.from_numpy(np.stack([self._noise(n, draws_noise) for n in numbers])),
            coins=torch.tensor(
                [generator(self.config.seed, "coin", n).random(dtype=np.float32) for n in numbers]
            ),
            augmentation=torch.from_numpy(np.stack([self._augmentation(n) for n in numbers])),
        )

    def batches(
        self, first: int, device: torch.device, rank: int = 0, world_size: int = 1
    ) -> Iterator[Batch]:
        """Yield a rank's share of the steps from image number `first` on, for ever.

        They are on the CPU; for a GPU in pinned memory, the noise as keys.
        """
        on_gpu = device.type == "cuda"
        while True:
            batch = self.batch(first, rank, world_size, draws_noise=not on_gpu)
            yield batch.pinned() if on_gpu else batch
            first += self.config.batch.effective

    def _noise(self, image: int, draws: bool) -> NDArray[np.float32] | NDArray[np.int64]:
        rng, size = generator(self.config.seed, "noise", image), self.store.image_size
        if draws:
            return rng.standard_normal((1, size, size), np.float32)
        return rng.integers(2**24, size=2)

    def _position(self, image: int) -> float:
        rng = generator(self.config.seed, "timestep", image)
        t = int(rng.integers(self.config.diffusion.num_timesteps))
        # A fraction just below 1 would round up to the next timestep.
        return min(t + rng.random(), float(np.nextafter(t + 1, t)))

    def _augmentation(self, image: int) -> NDArray[np.float32]:
        rng = generator(self.config.seed, "augment", image)
        match self.config.data.augment:
            case "none":
                return np.empty(0, np.float32)
            case "light":
                return draw_light(rng, len(self.inputs.channels))
            case "heavy":
                return draw_heavy(rng, len(self.inputs.channels))


def rows_of(cases: Sequence[Case]) -> NDArray[np.int64]:
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
