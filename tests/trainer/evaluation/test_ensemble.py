"""Ensembles: a member is the same however many are sampled beside it; how members are fused."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.trainer.tiny import tiny_config
from trainer.config import SamplingConfig, TrainConfig
from trainer.data.store import Store
from trainer.evaluation.ensemble import (
    Prediction,
    fuse,
    in_batches,
    predict,
    sample_members,
)
from trainer.evaluation.staple import staple
from trainer.evaluation.validate import Validator
from trainer.exceptions import OutOfMemory
from trainer.randomness import generator
from trainer.training.train_state import TrainState

CPU = torch.device("cpu")
FP32 = torch.autocast("cpu", torch.bfloat16, enabled=False)


@pytest.fixture(scope="module")
def store(phantom_store: Path) -> Store:
    return Store.open(phantom_store)


def varied(config: TrainConfig, store: Store, dtype: torch.dtype = torch.float32) -> TrainState:
    """A network that has learned nothing, whose output varies."""
    state = TrainState(config, store, CPU)
    torch.manual_seed(0)
    for parameter in state.ema.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    state.ema.to(dtype)
    return state


def ensemble(
    state: TrainState, store: Store, members: Sequence[int], slices: Sequence[int]
) -> Prediction:
    rows = store.split(0)[1][0].rows[0] + np.array(slices)
    return predict(
        state.ema,
        # float64, where another batch size rounds in the last digits and noise is as it was.
        state.inputs.window(state.inputs.gather(rows)).double(),
        process=state.process,
        sampling=state.config.sampling,
        noise=[[generator(0, "test", member, index) for index in slices] for member in members],
        autocast=FP32,
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"model__family": "medsegdiff_v1"},
        {"model__family": "medsegdiff_v1", "sampling__eta": 1.0},
        {"model__family": "medsegdiff_v1", "sampling__method": "ddpm", "diffusion__target": "v"},
        {"model__family": "medsegdiff_v1", "diffusion__self_conditioning": 0.5},
        {"model__family": "medsegdiff_v2", "sampling__eta": 1.0},
        {"model__family": "medsegdiff_v2", "sampling__method": "dpmpp_2m"},
    ],
    ids=["v1", "v1-eta", "v1-ddpm-v", "v1-self-conditioned", "v2-eta", "v2-dpmpp"],
)
@pytest.mark.one_in(5)
def test_members_are_the_same_alone_and_together(store: Store, settings: dict[str, object]) -> None:
    state = varied(tiny_config(store.path, **settings), store, torch.float64)
    together = ensemble(state, store, (0, 1, 2), range(4))
    alone = torch.stack(
        [
            torch.cat([ensemble(state, store, [m], [i]).probability for i in range(4)])
            for m in range(3)
        ]
    )
    assert alone.std(0).max() > 0.01, "members must differ"
    assert together.probability.dtype == torch.float64
    assert together.probability.shape == together.uncertainty.shape == (4, 1, 32, 32)
    torch.testing.assert_close(together.probability, alone.mean(0), atol=1e-9, rtol=0)
    torch.testing.assert_close(together.uncertainty, alone.std(0, correction=0), atol=1e-9, rtol=0)


@pytest.mark.parametrize("family", ["medsegdiff_v1", "medsegdiff_v2"])
def test_what_depends_on_the_image_alone_is_computed_once(store: Store, family: str) -> None:
    """Once for each slice: not for every member, and not at every step."""
    state = varied(tiny_config(store.path, model__family=family), store, torch.float64)
    images: list[int] = []
    steps: list[int] = []
    state.ema.condition.register_forward_hook(lambda _, args, __: images.append(len(args[0])))
    state.ema.register_forward_hook(lambda _, args, __: steps.append(len(args[0])))
    ensemble(state, store, range(3), range(4))
    assert images == [4]
    assert steps == [12, 12, 12]


def test_a_model_that_segments_directly_is_its_own_ensemble(store: Store) -> None:
    state = varied(tiny_config(store.path, model__family="unet"), store, torch.float64)
    one, three = (ensemble(state, store, range(n), range(4)) for n in (1, 3))
    assert torch.equal(one.probability, three.probability)
    assert not three.uncertainty.any()


@pytest.mark.parametrize("how", ["mean", "majority", "staple"])
def test_fusing_needs_no_more_than_the_members(how: str) -> None:
    members = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    fused = fuse(members, how)  # type: ignore[arg-type]
    if how == "mean":
        expected = members.mean(0)
    elif how == "majority":
        expected = (members >= 0.5).sum(0) / 5
    else:
        expected = torch.from_numpy(staple((members >= 0.5).numpy()).posterior).float()
    torch.testing.assert_close(fused.probability, expected)
    torch.testing.assert_close(fused.uncertainty, ((members - members.mean(0)) ** 2).mean(0).sqrt())
    alone = fuse(members[:1], how)  # type: ignore[arg-type]
    assert torch.equal(alone.probability, members[0])
    assert not alone.uncertainty.any()


def test_uncertainty_is_at_most_a_half() -> None:
    split = torch.tensor([0.0, 1.0])[:, None, None, None].expand(2, 1, 2, 2)
    assert torch.equal(fuse(split, "mean").uncertainty, torch.full((1, 2, 2), 0.5))


@pytest.mark.parametrize("capacity", [1, 2, 5, 100])
@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_batches_shrink_until_they_fit_and_lose_nothing(batch_size: int, capacity: int) -> None:
    sizes: list[int] = []

    def sample_some(members: range, slices: range) -> Tensor:
        sizes.append(len(members) * len(slices))
        if sizes[-1] > capacity:
            raise torch.OutOfMemoryError("out of memory")
        return torch.tensor(members)[:, None] * 100 + torch.tensor(slices)

    out = torch.cat(list(in_batches(7, 3, batch_size, sample_some)), 1)
    assert torch.equal(out, torch.arange(3)[:, None] * 100 + torch.arange(7))
    assert max(sizes) <= max(batch_size, 1)


def test_one_mask_that_does_not_fit_is_an_error() -> None:
    def never(members: range, slices: range) -> Tensor:
        raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(OutOfMemory):
        list(in_batches(2, 2, 4, never))


@pytest.mark.parametrize("batch_size", [4, 10, 400])
@pytest.mark.one_in(3)
def test_the_validator_fuses_whole_cases_whatever_the_batch(store: Store, batch_size: int) -> None:
    config = tiny_config(
        store.path, sampling__num_ensemble=3, sampling__fuse="staple", validation__steps="sampling"
    )
    state = varied(config, store)
    cases = store.split(0)[1]
    validator = Validator(store, cases, config, state.process, CPU)
    probability = validator.probabilities(state.ema, 1, batch_size=batch_size, autocast=FP32)

    first = 0
    for case in cases:
        members = sample_members(
            state.ema,
            state.inputs.window(state.inputs.gather(case.rows)),
            process=state.process,
            sampling=SamplingConfig(timestep_respacing=3),
            noise=[
                [generator(0, "validate", case.case_id, i, 1, m) for i in range(case.num_slices)]
                for m in range(3)
            ],
            autocast=FP32,
        )
        expected = staple((members >= 0.5).numpy()).posterior
        found = probability[first : first + case.num_slices]
        assert 0 < (expected > 0.5).mean() < 1
        # A vote may flip where a member is within rounding of 0.5.
        assert np.mean(np.abs(found - expected) > 1e-3) < 1e-3
        first += case.num_slices
    assert first == len(probability)
