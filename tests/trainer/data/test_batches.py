"""Draws by counter: what is random about an image depends on its number and nothing else."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.trainer.tiny import tiny_config
from trainer.data.batches import Batch, Draws, rows_of
from trainer.data.store import Store
from trainer.randomness import generator

NAMES = [field.name for field in fields(Batch)]


@pytest.fixture(scope="module")
def store(phantom_store: Path) -> Store:
    return Store.open(phantom_store)


def draws(store: Store, **settings: object) -> Draws:
    return Draws(store, tiny_config(store.path, **settings), rows_of(store.split(0)[0]))


@pytest.mark.parametrize("world_size", [2, 3, 4])
@pytest.mark.parametrize("augment", ["none", "light", "heavy"])
def test_ranks_share_the_batch_in_order(store: Store, world_size: int, augment: str) -> None:
    drawn = draws(store, data__augment=augment)
    whole = drawn.batch(4)
    shares = [drawn.batch(4, rank, world_size) for rank in range(world_size)]
    assert sum(len(share.numbers) for share in shares) == 4
    for name in NAMES:
        together = torch.cat([getattr(share, name) for share in shares])
        assert torch.equal(together, getattr(whole, name)), name
    assert whole.numbers.tolist() == [4, 5, 6, 7]


def test_micro_batches_are_the_batch(store: Store) -> None:
    whole = draws(store).batch(0)
    parts = list(whole.micro(2))
    assert [len(part.numbers) for part in parts] == [2, 2]
    for name in NAMES:
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))


def test_position_holds_the_timestep_that_was_always_drawn(store: Store) -> None:
    position = torch.cat([draws(store).batch(first).position for first in range(0, 400, 4)])
    expected = [int(generator(0, "timestep", n).integers(1000)) for n in range(400)]
    assert position.dtype == torch.float64
    assert position.long().tolist() == expected
    fraction = position - position.floor()
    assert fraction.min() >= 0 and fraction.max() < 1
    assert fraction.mean() == pytest.approx(0.5, abs=0.05)  # sd 0.014


def test_position_never_rounds_up_to_the_next_timestep(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Last:
        def integers(self, high: int) -> int:
            return high - 1

        def random(self) -> float:
            return float(np.nextafter(1, 0))

    drawn = draws(store)
    monkeypatch.setattr("trainer.data.batches.generator", lambda *_: Last())
    assert 999 < drawn._position(0) < 1000


def test_coins_are_uniform_and_their_own(store: Store) -> None:
    drawn = draws(store)
    coins = torch.cat([drawn.batch(first).coins for first in range(0, 800, 4)])
    position = torch.cat([drawn.batch(first).position for first in range(0, 800, 4)])
    assert coins.dtype == torch.float32
    assert coins.min() >= 0 and coins.max() < 1
    assert torch.histc(coins, 4, 0, 1).min() > 150  # 200 expected, sd 12
    assert abs(np.corrcoef(coins, position)[0, 1]) < 0.12  # sd 0.035
