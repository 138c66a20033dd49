"""From images to lesion probabilities: sampled masks, many slices at a time, averaged."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from trainer.config import SamplingConfig
from trainer.diffusion.process import Process
from trainer.diffusion.sampling import sample


@torch.inference_mode()
def predict(
    model: nn.Module,
    cond: Tensor,
    *,
    process: Process,
    sampling: SamplingConfig,
    noise: Sequence[Sequence[np.random.Generator]],
    autocast: torch.autocast,
) -> Tensor:
    """Return the probability of lesion for a stack of slices.

    Args:
        model: A model of `trainer.models`, in evaluation mode.
        cond: Images, (b, M, H, W) in [-1, 1].
        process: The diffusion that the model was trained with.
        sampling: Method, steps and `num_ensemble`.
        noise: `noise[member][slice]` draws that member's noise for that slice, so that a mask
            depends neither on its neighbours in the batch nor on the batch's size.
        autocast: Precision of the model's forward passes.

    Returns:
        float32, (b, 1, H, W) in [0, 1]: the mean over the ensemble.
    """
    with autocast:
        condition = model.condition(cond)
    if model.segments_directly:
        x_t = torch.zeros_like(cond[:, :1])
        with autocast:
            logits = model(x_t, torch.zeros(len(cond), dtype=torch.int64, device=cond.device), condition)
        return torch.sigmoid(logits.float())

    def output(x_t: Tensor, t: Tensor) -> Tensor:
        with autocast:
            return model(x_t, t, condition).float()

    shape = (1, *cond.shape[2:])
    total = torch.zeros_like(cond[:, :1])
    for members in noise:

        def draw(_step: int, members: Sequence[np.random.Generator] = members) -> Tensor:
            return torch.from_numpy(
                np.stack([rng.standard_normal(shape, np.float32) for rng in members])
            ).to(cond.device)

        total += (sample(process, output, draw(0), sampling, draw) + 1) / 2
    return total / len(noise)
