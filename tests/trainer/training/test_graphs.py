"""What decides whether micro-batches run as a CUDA graph; the graph itself is for tests/gpu."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainer.tiny import tiny_config
from trainer.data.batches import Draws, rows_of
from trainer.data.store import Store
from trainer.training import graphs
from trainer.training.graphs import GRADIENT_TOLERANCE, Graphs, no_graph
from trainer.training.micro_batch import MicroBatch, micro_batches
from trainer.training.train_state import TrainState

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def state_and_micro(
    store_path: Path, size: int = 4, draws_noise: bool = True
) -> tuple[TrainState, MicroBatch]:
    store = Store.open(store_path)
    config = tiny_config(store_path)
    state = TrainState(config, store, CPU)
    batch = Draws(store, config, rows_of(store.split(0)[0])).batch(0, draws_noise=draws_noise)
    t, importance = state.timestep_sampler.draw(batch.position)
    weights = torch.tensor(list(state.term_weights.given(0.0).values()))
    return state, micro_batches(batch, size, t, importance, weights)[0]


@pytest.mark.parametrize(
    ("device", "settings", "reason"),
    [
        (CUDA, {}, None),
        (CPU, {}, "the device is cpu"),
        (CUDA, {"cuda_graph": False}, "cuda_graph is false"),
        (CUDA, {"loss__boundary": 0.1}, "loss.boundary measures distances on the CPU"),
    ],
)
def test_a_graph_is_for_gpus_and_what_runs_on_them(
    device: torch.device, settings: dict[str, Any], reason: str | None
) -> None:
    assert no_graph(tiny_config(Path("store"), **settings), device) == reason


def test_memory_that_is_too_small_for_recording_asks_for_a_smaller_micro_batch(
    phantom_store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def record(self: Graphs, micro: MicroBatch) -> None:
        try:
            raise torch.OutOfMemoryError("CUDA out of memory")
        except torch.OutOfMemoryError:
            raise RuntimeError("operation failed due to a previous error during capture")  # noqa: B904

    monkeypatch.setattr(Graphs, "_record", record)
    state, micro = state_and_micro(phantom_store)
    wanted = Graphs(state.graphs.step, state.gradients, None)
    with pytest.raises(torch.OutOfMemoryError):
        wanted.prepare(micro)
    assert wanted.refused is None
    _, single = state_and_micro(phantom_store, size=1)
    wanted.prepare(single)
    assert wanted.refused == "CUDA out of memory"
    assert capsys.readouterr().out == ("note: steps run without a CUDA graph: CUDA out of memory\n")


@pytest.mark.parametrize("draws_noise", [True, False])
@pytest.mark.parametrize("size", [1, 4])
def test_the_batches_that_a_graph_is_tried_on_differ_in_everything_that_may_freeze(
    phantom_store: Path, size: int, draws_noise: bool
) -> None:
    state, micro = state_and_micro(phantom_store, size, draws_noise)
    others = [graphs._varied(micro, by, state.process.num_timesteps) for by in (1, 2)]
    for other in others:
        for name, value in other._asdict().items():
            mine = getattr(micro, name)
            assert value.shape == mine.shape
            assert value.dtype == mine.dtype
            assert name == "augmentation" or not torch.equal(value, mine), name
        assert other.t.max() < state.process.num_timesteps


def test_a_gradient_that_is_off_is_refused() -> None:
    exact = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    graphs._compare("gradients", exact * (1 + 0.5 * GRADIENT_TOLERANCE), exact, GRADIENT_TOLERANCE)
    for wrong in (exact * (1 + 2 * GRADIENT_TOLERANCE), exact.flip(0), exact * float("nan")):
        with pytest.raises(RuntimeError, match="its gradients differ"):
            graphs._compare("gradients", wrong, exact, GRADIENT_TOLERANCE)
