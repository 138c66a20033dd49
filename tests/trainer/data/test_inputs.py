"""What the model sees: windows, neighbours in their order and at a case's ends, mistakes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.trainer.tiny import tiny_config
from trainer.configfile import ConfigError
from trainer.data.inputs import Inputs, InputSpec, Window
from trainer.data.store import Store

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def store(phantom_store: Path) -> Store:
    return Store.open(phantom_store)


def test_without_context_a_slice_is_what_the_store_holds(store: Store) -> None:
    inputs = Inputs(store, tiny_config(store.path, data__modalities=["tmax", "ncct"]), CPU)
    images = inputs.gather([3, 50, 3])
    assert images.dtype == torch.float16
    assert np.array_equal(images.numpy(), store.images([3, 50, 3], ["tmax", "ncct"]))
    assert inputs.num_channels == 2


@pytest.mark.parametrize("reach", [1, 3])
def test_neighbours_come_from_below_to_above_and_stop_at_the_cases_ends(
    store: Store, reach: int
) -> None:
    names = ["cbf", "tmax", "ncct"]
    config = tiny_config(store.path, data__modalities=names, data__context_slices=reach)
    inputs = Inputs(store, config, CPU)
    rows = [row for case in store.cases[1:4] for row in case.rows]
    images = inputs.gather(rows).numpy()
    assert inputs.num_channels == images.shape[1] == 3 * (1 + 2 * reach)
    for case in store.cases[1:4]:
        volume = store.images(case.rows, names)
        for row in case.rows:
            index = row - case.first
            for place, offset in enumerate(range(-reach, reach + 1)):
                neighbour = volume[min(max(index + offset, 0), case.num_slices - 1)]
                seen = images[rows.index(row), 3 * place : 3 * place + 3]
                assert np.array_equal(seen, neighbour)


def test_windows_map_physical_values_to_minus_one_and_one(store: Store) -> None:
    config = tiny_config(
        store.path,
        data__modalities=["ncct", "tmax"],
        data__windows={"ncct": "w80l40", "tmax": [4, 12]},
        data__context_slices=1,
    )
    values = torch.tensor([-100.0, 0, 40, 80, 500]).half().expand(1, 6, 1, 5)
    windowed = Inputs(store, config, CPU).window(values)
    assert windowed.dtype == torch.float32
    for place in range(3):
        assert windowed[0, 2 * place].tolist() == [[-1, -1, 0, 1, 1]]
        assert windowed[0, 2 * place + 1].tolist() == [[-1, -1, 1, 1, 1]]


def test_a_description_survives_json_and_stands_for_the_store(store: Store) -> None:
    config = tiny_config(store.path, data__modalities=["ncct", "tmax"], data__context_slices=2)
    inputs = Inputs(store, config, CPU)
    spec = InputSpec.parse(json.loads(json.dumps(inputs.describe())))
    assert spec == inputs.spec
    images = inputs.gather([5, 6])
    assert torch.equal(Window(spec, CPU)(images), inputs.window(images))


@pytest.mark.parametrize("broken", [{}, {"modalities": ["a"], "windows": []}, {"modalities": 3}])
def test_a_broken_description_is_refused(broken: dict[str, object]) -> None:
    whole = {"windows": [[0, 1]], "context_slices": 0, "image_size": 32}
    with pytest.raises((KeyError, TypeError, ValueError)):
        InputSpec.parse(whole | broken)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            {"data__modalities": ["tmxa"]},
            "not in .*; did you mean tmax",
        ),
        (
            {"data__modalities": ["tmax"], "data__windows": {"cbf": [0, 35]}},
            "data.windows: 'cbf': not among the modalities tmax",
        ),
    ],
)
def test_mistakes_are_one_line(store: Store, settings: dict[str, object], line: str) -> None:
    with pytest.raises(ConfigError, match=line) as caught:
        Inputs(store, tiny_config(store.path, **settings), CPU)
    assert len(caught.value.lines) == 1
