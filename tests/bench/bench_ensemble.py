"""An ensemble of 5 and 25 DDIM steps at 64 x 64: sampled in batches, or one mask after another.

In batches of slices times members, as a validation does it (`evaluation.ensemble.in_batches`; 32
masks with the default settings), against two ways to do without: the slices together, one member
after another; and slice by slice, one member after another, as the official code does. For a whole
case of the phantom, and for two slices of it, whose 10 masks are one batch. On V2 also against a
condition computed anew at every step for every member. Networks of width 16 and depth 4, on one
thread; what they have learned does not matter to the time.

On one thread, batches save only what calling the operators costs, and from about 5 masks on a mask
takes no less time. So members gain from company where slices are few; a case of many slices is a
batch already with one member.

Ways take turns, and the best turn's CPU time counts.
"""

import io
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path

import torch
from torch import Tensor, nn

from tests.bench.row import Row, show
from trainer.config import DataConfig, DiffusionConfig, SamplingConfig, TrainConfig
from trainer.data.inputs import Inputs
from trainer.data.phantom import write_phantom
from trainer.data.prepare import prepare
from trainer.data.store import Store
from trainer.diffusion.process import Process
from trainer.evaluation.ensemble import in_batches, sample_members
from trainer.model_config import ModelConfig
from trainer.models import build_model
from trainer.models.network import ImageItself, Network
from trainer.randomness import generator

SIZE = 64
MEMBERS = 5
SAMPLING = SamplingConfig(method="ddim", timestep_respacing=25, num_ensemble=MEMBERS)
BATCH = 32
"""Masks sampled together: of a validation with the default settings, 4 x batch.effective."""
FEW, SOME = 2, 6
"""Slices of the small case; slices whose members fill a batch."""


def run() -> Iterator[Row]:
    """Yield rows."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        whole = _case()
        middle = len(whole) // 2
        few, some = whole[middle:][:FEW], whole[middle:][:SOME]
        v1, v2 = _network("medsegdiff_v1", whole), _network("medsegdiff_v2", whole)
        yield from _batching(v1, whole, turns=1)
        yield from _batching(v1, few, turns=3)
        yield _caching(v2, some, turns=2)
        yield _caching(v2, few, turns=3)
    finally:
        torch.set_num_threads(threads)


def _case() -> Tensor:
    """Return the slices of a phantom case, (b, C, SIZE, SIZE) in [-1, 1]."""
    with tempfile.TemporaryDirectory() as folder:
        with redirect_stdout(io.StringIO()):
            write_phantom(Path(folder) / "dataset", num_cases=5, seed=0)
            prepare(Path(folder) / "dataset", Path(folder) / "store", image_size=SIZE)
        store = Store.open(Path(folder) / "store")
        config = TrainConfig(data=DataConfig(store=folder))
        inputs = Inputs(store, config, torch.device("cpu"))
        return inputs.window(inputs.gather(store.cases[0].rows)).clone()


def _network(family: str, cond: Tensor) -> Network:
    torch.manual_seed(0)
    config = ModelConfig.model_validate({"family": family, "width": 16, "depth": 4})
    model = build_model(config, in_channels=cond.shape[1], image_size=SIZE, outputs_logits=True)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.eval()


def _sample(model: Network, cond: Tensor, members: range, slices: range) -> Tensor:
    """Sample some members of some slices, as a validation does: (members, slices, H, W)."""
    return sample_members(
        model,
        cond[slices.start : slices.stop],
        process=Process(DiffusionConfig()),
        sampling=SAMPLING,
        noise=[[generator(0, "validate", i, member) for i in slices] for member in members],
        autocast=torch.autocast("cpu", torch.bfloat16, enabled=False),
    )


def _batching(model: Network, cond: Tensor, turns: int) -> list[Row]:
    members, slices = range(MEMBERS), range(len(cond))

    def one_by_one() -> Tensor:
        masks = [[_sample(model, cond, _only(m), _only(i)) for i in slices] for m in members]
        return torch.cat([torch.cat(of_member, 1) for of_member in masks])

    ours, member_s, single_s = _seconds(
        turns,
        lambda: _batched(model, cond),
        lambda: torch.cat([_sample(model, cond, _only(m), slices) for m in members]),
        one_by_one,
    )
    what = f"V1, {MEMBERS} members of {len(cond)} slices: batched"
    return [
        Row(f"{what} / member by member", "s", ours, member_s),
        Row(f"{what} / slice by slice, member by member", "s", ours, single_s),
    ]


def _batched(model: Network, cond: Tensor) -> Tensor:
    def sample_some(members: range, slices: range) -> Tensor:
        return _sample(model, cond, members, slices)

    return torch.cat([*in_batches(len(cond), MEMBERS, BATCH, sample_some)], 1)


def _only(i: int) -> range:
    return range(i, i + 1)


class _Uncached(nn.Module):
    """A network whose condition is computed anew in every forward pass."""

    segments_directly = False

    def __init__(self, model: Network):
        super().__init__()
        self.condition = ImageItself()
        self.model = model

    def forward(self, x_t: Tensor, t: Tensor, condition: tuple[Tensor, ...]) -> Tensor:
        return self.model(x_t, t, self.model.condition(*condition))


def _caching(model: Network, cond: Tensor, turns: int) -> Row:
    uncached: Network = _Uncached(model)  # type: ignore[assignment]
    once, anew = _seconds(turns, lambda: _batched(model, cond), lambda: _batched(uncached, cond))
    what = f"V2, {MEMBERS} members of {len(cond)} slices"
    return Row(f"{what}: condition once / at every step", "s", once, anew)


def _seconds(turns: int, *ways: Callable[[], Tensor]) -> list[float]:
    """Return the least CPU time of each way; all must sample the same masks."""
    best = [float("inf")] * len(ways)
    for _ in range(turns):
        masks = []
        for i, way in enumerate(ways):
            begun = time.process_time()
            masks.append(way())
            best[i] = min(best[i], time.process_time() - begun)
        for other in masks[1:]:
            assert torch.allclose(masks[0], other, atol=1e-3)
    return best


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    show(run())
