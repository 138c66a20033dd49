"""Gradient checkpointing: memory for time (Chen et al. 2016, arXiv 1604.06174)."""

from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint


class _Recomputed:
    """Put before a module's class: keeps its inputs alone, and runs it again in the backward."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        # No model draws random numbers (dropout is counted), so there is no state to keep.
        return checkpoint(
            super().forward,  # type: ignore[misc]
            *args,
            use_reentrant=False,
            preserve_rng_state=False,
            **kwargs,
        )


def recompute(modules: Iterable[nn.Module]) -> None:
    """Let modules compute their activations again in the backward pass instead of keeping them.

    In place, and with the same parameter names. Gradients are the same, bit for bit on a CPU.
    """
    for module in modules:
        kind = type(module)
        # A wrapper would rename the weights, and a changed `forward` would, in a deep copy of the
        # module, still belong to the original.
        module.__class__ = type(kind.__name__, (_Recomputed, kind), {})
