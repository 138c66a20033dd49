"""From images to lesion probabilities: masks sampled many at a time, and fused into one.

A *member* is one sampled mask. `sample_members` draws all members of some slices in one batch,
`in_batches` does so for any number of slices in bounded memory, and `fuse` makes one probability of
the members of one case. STAPLE estimates rates over a whole case, so members are kept until their
case is complete; `predict` is all of it for a case that fits in one batch.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from trainer.config import SamplingConfig
from trainer.diffusion.process import Process, at_least_float32
from trainer.diffusion.sampling import State, states
from trainer.evaluation.staple import staple
from trainer.exceptions import OutOfMemory, is_out_of_memory
from trainer.models.network import Network

VOTE = 0.5
"""Probability from which a member votes for lesion, in fuse majority and staple."""


@dataclass(frozen=True)
class Prediction:
    """What an ensemble says about some slices; both have the same shape."""

    probability: Tensor
    """Of lesion, in [0, 1]."""
    uncertainty: Tensor
    """Standard deviation of the members' probabilities, in [0, 0.5]; 0 for a single member."""


def num_members(model: Network, sampling: SamplingConfig) -> int:
    """Return how many masks are sampled: 1 for a model that segments directly, without noise."""
    return 1 if model.segments_directly else sampling.num_ensemble


@torch.inference_mode()
def sample_members(
    model: Network,
    cond: Tensor,
    *,
    process: Process,
    sampling: SamplingConfig,
    noise: Sequence[Sequence[np.random.Generator]],
    autocast: torch.autocast,
) -> Tensor:
    """Sample all members of some slices in one batch.

    What depends on the image alone, `model.condition`, is computed once and serves every member and
    every sampling step.

    Args:
        model: A model of `trainer.models`, in evaluation mode.
        cond: Images, (b, C, H, W) in [-1, 1].
        process: The diffusion that the model was trained with.
        sampling: Method and steps.
        noise: `noise[member][slice]` draws that member's noise for that slice, so that a mask
            depends neither on its neighbours in the batch nor on the batch's size. A model that
            segments directly draws none.
        autocast: Precision of the model's forward passes.

    Returns:
        Probabilities, (members, b, H, W) in [0, 1], at least float32: (x_start + 1) / 2.
    """
    if model.segments_directly:
        dtype = next(model.parameters()).dtype
        cond = cond.to(dtype)
        t = torch.zeros(len(cond), dtype=torch.int64, device=cond.device)
        with autocast:
            logits = model(torch.zeros_like(cond[:, :1]), t, model.condition(cond))
        return torch.sigmoid(at_least_float32(logits))[None, :, 0]
    for state in denoising(
        model, cond, process=process, sampling=sampling, noise=noise, autocast=autocast
    ):
        x_start = state.x_start
    return probabilities(x_start, len(noise))


@torch.inference_mode()
def denoising(
    model: Network,
    cond: Tensor,
    *,
    process: Process,
    sampling: SamplingConfig,
    noise: Sequence[Sequence[np.random.Generator]],
    autocast: torch.autocast,
) -> Iterator[State]:
    """Yield what `sample_members` goes through, step by step, with a model that has diffusion.

    Arguments as for `sample_members`.

    Yields:
        States of members times b masks, (members * b, 1, H, W), member by member.
    """
    dtype = next(model.parameters()).dtype
    cond = cond.to(dtype)
    shape = (1, *cond.shape[2:])
    with autocast:
        condition = model.condition(cond)
    if len(noise) > 1:
        condition = tuple(torch.cat([part] * len(noise)) for part in condition)
    generators = [generator for slices in noise for generator in slices]

    def output(x_t: Tensor, t: Tensor) -> Tensor:
        with autocast:
            return at_least_float32(model(x_t, t, condition))

    def draw(_step: int) -> Tensor:
        drawn = [generator.standard_normal(shape, np.float32) for generator in generators]
        return torch.from_numpy(np.stack(drawn)).to(cond.device, dtype)

    yield from states(process, output, draw(0), sampling, draw)


def probabilities(x_start: Tensor, members: int) -> Tensor:
    """Return (x_start + 1) / 2 of a state of `denoising`: (members, b, H, W) in [0, 1]."""
    split: Tensor = ((x_start + 1) / 2)[:, 0].unflatten(0, (members, -1))
    return split


def in_batches(
    num_slices: int,
    members: int,
    batch_size: int,
    sample_some: Callable[[range, range], Tensor],
    halved: Callable[[int], object] = lambda batch_size: None,
) -> Iterator[Tensor]:
    """Sample slices in order, as many at a time as fit.

    Args:
        num_slices: Slices in all.
        members: Members of each.
        batch_size: Masks sampled together: slices times members. Halved while they do not fit; the
            members of a slice are parted only where they do not fit together.
        sample_some: Samples (members, slices), both ranges: returns (members, slices, ...).
        halved: Is told of each smaller batch size.

    Yields:
        All members of the next slices, (members, slices, ...).

    Raises:
        OutOfMemory: One mask does not fit.
    """
    start = 0
    while start < num_slices:
        slices = range(start, min(start + max(1, batch_size // members), num_slices))
        try:
            parts = [
                sample_some(range(first, min(first + batch_size, members)), slices)
                for first in range(0, members, batch_size)
            ]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if batch_size == 1:
                raise OutOfMemory("one image does not fit on the device") from error
            batch_size //= 2
        else:
            yield torch.cat(parts)
            start = slices.stop
            continue
        halved(batch_size)
        torch.cuda.empty_cache()  # what cuBLAS and cuDNN allocate is not torch's to find


def fuse(members: Tensor, how: Literal["mean", "majority", "staple"]) -> Prediction:
    """Make one probability of the members of one case.

    `mean` averages them; `majority` is the share of members that vote for lesion, so that a
    threshold of 0.5 takes what at least half of them do; `staple` is the posterior of
    `trainer.evaluation.staple.staple` over the case. A single member stays as it is.

    Args:
        members: Probabilities, (members, n, H, W) in [0, 1]. With staple, n are all slices of the
            case, in order; mean and majority look at each pixel alone.
        how: `sampling.fuse`.

    Returns:
        Both parts (n, H, W), of the members' dtype and device.
    """
    if len(members) == 1:
        return Prediction(members[0], torch.zeros_like(members[0]))
    match how:
        case "mean":
            # One after the other, as when they were sampled so: a tree would round differently.
            probability = sum(members[1:], start=members[0]) / len(members)
        case "majority":
            probability = (members >= VOTE).to(members.dtype).mean(0)
        case "staple":
            votes = (members >= VOTE).cpu().numpy()
            probability = torch.from_numpy(staple(votes).posterior).to(members)
    return Prediction(probability, members.std(0, correction=0))


def predict(
    model: Network,
    cond: Tensor,
    *,
    process: Process,
    sampling: SamplingConfig,
    noise: Sequence[Sequence[np.random.Generator]],
    autocast: torch.autocast,
) -> Prediction:
    """Sample and fuse the members of the slices of one case, in one batch.

    Arguments as for `sample_members`; with `sampling.fuse` staple, `cond` holds the whole case.

    Returns:
        Probability and uncertainty, (b, 1, H, W) each.
    """
    members = sample_members(
        model, cond, process=process, sampling=sampling, noise=noise, autocast=autocast
    )
    fused = fuse(members, sampling.fuse)
    return Prediction(fused.probability[:, None], fused.uncertainty[:, None])
