"""Forward and backward pass of one micro-batch: from its images to sums of losses and gradients."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from trainer.config import TrainConfig
from trainer.data.augment import counter_normal
from trainer.data.batches import Batch, augmented
from trainer.data.inputs import Inputs
from trainer.devices import dtype
from trainer.diffusion.process import Process
from trainer.diffusion.self_conditioning import own_estimate, recycled
from trainer.models.dropout import set_images
from trainer.models.network import Network
from trainer.training.loss_weighting import TermWeights
from trainer.training.losses import loss_terms


class MicroBatch(NamedTuple):
    """Everything that a pass depends on but the weights: tensors alone, all on one device."""

    images: Tensor
    """(b, C, H, W) float16, physical units."""
    masks: Tensor
    """(b, 1, H, W) uint8, 0 or 1."""
    numbers: Tensor
    """(b,) int64: which training images."""
    noise: Tensor
    """(b, 1, H, W) float32, or keys that draw it, (b, 2) int64: see `Batch.noise`."""
    coins: Tensor
    """(b,) float32 in [0, 1)."""
    augmentation: Tensor
    """(b, P) float32."""
    t: Tensor
    """(b,) int64, timesteps."""
    importance: Tensor
    """(b,) float32: what each image's loss is multiplied with."""
    term_weights: Tensor
    """(terms,): the loss terms' weights by configuration and time."""


def micro_batches(
    batch: Batch, size: int, t: Tensor, importance: Tensor, term_weights: Tensor
) -> list[MicroBatch]:
    """Split a batch and what was drawn for it into micro-batches of `size` images."""
    parts = zip(batch.micro(size), t.split(size), importance.split(size), strict=True)
    return [
        MicroBatch(
            images=part.images,
            masks=part.masks,
            numbers=part.numbers,
            noise=part.noise,
            coins=part.coins,
            augmentation=part.augmentation,
            t=part_t,
            importance=part_importance,
            term_weights=term_weights,
        )
        for part, part_t, part_importance in parts
    ]


def pinned(tensor: Tensor) -> Tensor:
    """Return a tensor of the CPU in memory that a GPU copies from without anyone waiting."""
    return tensor if tensor.is_pinned() else tensor.pin_memory()


def moved(micro: Sequence[Tensor], device: torch.device) -> MicroBatch:
    """Bring a micro-batch to the device; on a GPU the copies are queued, and nothing waits."""
    if device.type != "cuda":
        return MicroBatch(*(tensor.to(device) for tensor in micro))
    return MicroBatch(*(pinned(tensor).to(device, non_blocking=True) for tensor in micro))


class Pass(NamedTuple):
    """What a pass adds up, without gradient."""

    sums: Tensor
    """Raw terms summed over the images, (terms,)."""
    losses: Tensor
    """Each image's weighted loss, (b,)."""


class MicroStep:
    """The pass itself: one function of tensors, which never waits for the device."""

    def __init__(
        self,
        config: TrainConfig,
        *,
        model: Network,
        term_weights: TermWeights,
        process: Process,
        inputs: Inputs,
        autocast: torch.autocast,
    ):
        """
        Args:
            config: Settings of a run.
            model: In training mode.
            term_weights: How its loss terms are weighted.
            process: Its diffusion.
            inputs: What it sees, windowed on its device.
            autocast: Precision of the forward passes.
        """
        self.config = config
        self.model = model
        self.term_weights = term_weights
        self.process = process
        self.inputs = inputs
        self.autocast = autocast

    def __call__(self, micro: MicroBatch, *, recycles: bool, conditions: bool) -> Pass:
        """Add a micro-batch's gradients to the parameters'.

        Args:
            micro: On the model's device.
            recycles: Some image's x_t may be recycled.
            conditions: Some image may see its own estimate.
        """
        raw = self._raw_terms(micro, recycles=recycles, conditions=conditions)
        per_image = self.term_weights(raw, micro.term_weights)
        # The denominator is the effective batch's, so that the micro-batch only rounds.
        loss = (per_image * micro.importance).sum() / self.config.batch.effective
        loss.backward()
        return Pass(
            torch.stack([term.detach().sum() for term in raw.values()]),
            (per_image - self.term_weights.penalty()).detach(),
        )

    def _raw_terms(
        self, micro: MicroBatch, *, recycles: bool, conditions: bool
    ) -> dict[str, Tensor]:
        cond, x_start = (x.to(dtype(self.config)) for x in augmented(micro, self.inputs))
        noise, t = noise_of(micro.noise, x_start.shape[1:]).to(x_start.dtype), micro.t
        set_images(self.model, self.config.seed, micro.numbers)
        with self.autocast:
            condition = self.model.condition(cond)
        x_t = self.process.q_sample(x_start, t, noise)
        estimate = None

        def model_fn(model_input: Tensor, t: Tensor) -> Tensor:
            with self.autocast:
                output: Tensor = self.model(model_input, t, condition)
                return output

        coins = micro.coins[:, None, None, None]
        if recycles:
            again = recycled(self.process, model_fn, noise, t)
            x_t = torch.where(coins < self.config.diffusion.recycling, again, x_t)
        if conditions:
            own = own_estimate(self.process, model_fn, x_t, t)
            estimate = torch.where(coins < self.config.diffusion.self_conditioning, own, 0)
        output = model_fn(self.process.model_input(x_t, estimate), t)
        return loss_terms(
            output,
            process=self.process,
            x_start=x_start,
            x_t=x_t,
            noise=noise,
            t=t,
            config=self.config.loss,
            segments_directly=self.model.segments_directly,
            anchor_logits=condition[0] if self.model.has_anchor else None,
        )


def noise_of(noise: Tensor, shape: torch.Size) -> Tensor:
    """Return standard normal noise, (b, *shape) float32: as it is, or drawn from its keys."""
    return counter_normal(noise, shape) if noise.dtype == torch.int64 else noise
