"""Slices a second from the store, against the same slices from MONAI's PersistentDataset.

Both read what a training batch reads, in the same random order, in one process: six modalities
and the mask of one slice. PersistentDataset has every case resampled, cropped and cached, one
file a slice, before the clock starts: it only has to load what it prepared.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from monai.data import PersistentDataset

from tests.bench.row import Row, show
from trainer.data.phantom import write_phantom
from trainer.data.prepare import prepare
from trainer.data.store import Store

BATCH = 16
SECONDS = 4.0
ROUNDS = 3


def run() -> Iterator[Row]:
    """Yield a row."""
    with tempfile.TemporaryDirectory() as folder:
        write_phantom(Path(folder) / "dataset", num_cases=8, seed=0)
        store = prepare(Path(folder) / "dataset", Path(folder) / "store")

        def whole(row: int) -> dict[str, torch.Tensor]:
            image, mask = store.images([row])[0], store.masks([row])[0]
            return {"image": torch.from_numpy(image), "mask": torch.from_numpy(mask)}

        cached = PersistentDataset(range(store.num_slices), whole, Path(folder) / "cache")
        for row in range(store.num_slices):
            cached[row]
        ours, theirs = _rates(store, cached)
    yield Row("slices from the store / MONAI PersistentDataset", "1/s", ours, theirs, "more")


def _rates(store: Store, cached: PersistentDataset) -> tuple[float, float]:
    """Return the best slices per second of each, measured in turns."""

    def from_store(rows: np.ndarray) -> torch.Tensor:
        store.masks(rows)
        return torch.from_numpy(store.images(rows))

    def from_cache(rows: np.ndarray) -> torch.Tensor:
        items = [cached[int(row)] for row in rows]
        torch.stack([item["mask"] for item in items])
        return torch.stack([item["image"] for item in items])

    rows = np.arange(store.num_slices)[:BATCH]
    assert torch.equal(from_store(rows), from_cache(rows))
    best = {from_store: 0.0, from_cache: 0.0}
    for _ in range(ROUNDS):
        for read in best:
            best[read] = max(best[read], _rate(read, store.num_slices))
    return best[from_store], best[from_cache]


def _rate(read: Callable[[np.ndarray], torch.Tensor], num_slices: int) -> float:
    random = np.random.default_rng(0)
    start, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < SECONDS / ROUNDS:
        read(random.integers(num_slices, size=BATCH))
        count += BATCH
    return count / elapsed


if __name__ == "__main__":
    show(run())
