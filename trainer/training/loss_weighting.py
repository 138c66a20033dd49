"""How the loss terms are weighted against each other, and how that moves over training."""

import math
from collections.abc import Sequence
from typing import assert_never

import torch
from torch import Tensor, nn

from trainer.config import LossConfig

MAX_LOG_VARIANCE = 7.0
"""A learned weight stays within e^7, about 1,100 times, of the configured one, either way: enough
to bring terms of any usual size together, and a term that is nearly solved is not blown up."""

OPTIMIZER = {"lr": 1e-2, "betas": (0.9, 0.9), "weight_decay": 0.0}
"""AdamW's settings for log-variances; lr is that at the peak of the schedule.

A step changes a weight by about 1 %, whatever the network's learning rate, which says how far its
own weights may move and nothing of these: a weight finds its place, be it a thousand times more or
less, in 200 to 700 steps. With Adam's usual memory of 1,000 steps, a term a thousand times too
large would take 5,000: its first gradients are that large, and hold back the later ones.
"""

VARIANCE_WEIGHT = 1.0
"""Of the vb term: hybrid loss's own (Nichol & Dhariwal 2021, eq. 16), in every mode."""


class TermWeights(nn.Module):
    """The weight of each loss term after a share of training.

    fixed: the configured weights. warm_in: the same, but all except noise's rise from 0. learned:
    with s the logarithm of its variance, a term costs exp(-s) w L + s (Kendall et al. 2018, arXiv
    1705.07115, without the factor 1/2). So s follows log(w E[L]), and every term comes to weigh 1,
    whatever its size: the configured weights are only the beginning. What is 0 for some images
    (behind the gate of eps, or the anchor loss) counts in E[L] with those zeros.

    The vb term has the constant weight 1 in every mode: it trains the variance alone.

    Attributes:
        log_variance: The learned s by term, each beginning at 0; empty unless learned. They are
            optimized as OPTIMIZER says, and `clamp_` follows each step.
    """

    def __init__(self, config: LossConfig, names: Sequence[str]):
        """Begin at the configured weights.

        Args:
            config: Weights, and how they move.
            names: The terms, from `trainer.training.losses.term_names`.
        """
        super().__init__()
        self.config = config
        self.names = tuple(names)
        learned = [name for name in self.names if config.weighting == "learned" and name != "vb"]
        self.log_variance = nn.ParameterDict({s: nn.Parameter(torch.zeros(())) for s in learned})

    def forward(self, raw: dict[str, Tensor], given: Tensor) -> Tensor:
        """Return each image's loss: its weighted terms, and once the penalty.

        Args:
            raw: The terms, each (b,).
            given: Their weights before anything learned, (terms,): those of `given`. A tensor, as
                a CUDA graph would keep the first numbers for ever.

        Returns:
            Loss, (b,).
        """
        terms = {
            name: weight * term for (name, term), weight in zip(raw.items(), given, strict=True)
        }
        for name, s in self.log_variance.items():
            terms[name] = torch.exp(-s) * terms[name]
        return torch.stack(list(terms.values())).sum(0) + self.penalty()

    def penalty(self) -> Tensor | int:
        """Return the sum of all s, the price of learned weights; it may be negative."""
        total: Tensor | int = sum(self.log_variance.values())
        return total

    def given(self, progress: float) -> dict[str, float]:
        """Return each term's weight before anything learned, after this share of training."""
        return {name: self._given(name, progress) for name in self.names}

    def log_variances(self) -> Tensor:
        """Return all s, (learned terms,), as they are now."""
        values = [s.detach() for s in self.log_variance.values()]
        return torch.stack(values) if values else torch.zeros(0)

    def with_learned(
        self, given: dict[str, float], log_variances: Sequence[float]
    ) -> dict[str, float]:
        """Return the weight that multiplies each raw term, from both of its parts."""
        learned = dict(zip(self.log_variance, log_variances, strict=True))
        return {
            name: weight * math.exp(-learned[name]) if name in learned else weight
            for name, weight in given.items()
        }

    def current(self, progress: float) -> dict[str, float]:
        """Return the weight that multiplies each raw term after this share of training."""
        return self.with_learned(self.given(progress), self.log_variances().tolist())

    @torch.no_grad()
    def clamp_(self) -> None:
        """Bring log-variances that an optimizer step took beyond the bounds back to them.

        The parameter itself is clamped, not its use: at a bound its gradient is whole, so that it
        comes back as soon as the loss calls for it, and it cannot run further and further away.
        """
        for s in self.log_variance.values():
            s.clamp_(-MAX_LOG_VARIANCE, MAX_LOG_VARIANCE)

    def _given(self, name: str, progress: float) -> float:
        """Return a term's weight by configuration and time, before anything learned."""
        if name == "vb":
            return VARIANCE_WEIGHT
        weight: float = getattr(self.config, name)
        # Without a noise loss there is nothing that the others could be warmed in beside.
        rises = self.config.weighting == "warm_in" and name != "noise" and "noise" in self.names
        return weight * warm_in(self.config, progress) if rises else weight


def warm_in(config: LossConfig, progress: float) -> float:
    """Return how far the terms are warmed in, 0 to 1, after a share `progress` of training."""
    share = min(1.0, progress / config.warm_in_fraction)
    match config.warm_in_shape:
        case "step":
            return float(share == 1.0)
        case "linear":
            return share
        case "cosine":
            return (1 - math.cos(math.pi * share)) / 2
        case _:
            assert_never(config.warm_in_shape)
