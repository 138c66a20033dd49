"""The reverse process over some of the timesteps, which is a diffusion of its own.

Its betas are derived from alphas_cumprod at the kept timesteps (Nichol & Dhariwal 2021, sec. 4),
and with them everything else that a reverse step needs.
"""

import math
from typing import NamedTuple

from torch import Tensor


class Step(NamedTuple):
    """One reverse step, from x_t to the next x_t that is kept; the last one ends at x_start.

    Attributes:
        t: Timestep.
        abar: alphas_cumprod at t.
        abar_prev: alphas_cumprod after the step, 1 at the end.
        beta: Forward variance of the step, the largest variance that can be right for it.
        x_start_weight: Of x_start in the mean of q(x_prev | x_t, x_start) (Ho et al. 2020, eq. 7).
        x_t_weight: Of x_t in that mean.
        variance: Of q(x_prev | x_t, x_start), the smallest that can be right; 0 at the end.
        min_log_variance: Its logarithm; at the end, where it is 0, of the step before.
    """

    t: int
    abar: float
    abar_prev: float
    beta: float
    x_start_weight: float
    x_t_weight: float
    variance: float
    min_log_variance: float

    @property
    def max_log_variance(self) -> float:
        """Logarithm of beta."""
        return math.log(self.beta)


def chain(alphas_cumprod: Tensor, timesteps: list[int]) -> list[Step]:
    """Return the reverse steps over falling timesteps.

    Args:
        alphas_cumprod: Of the whole process, (T,), float64; the last may be 0.
        timesteps: Those to visit, strictly falling, at least one.
    """
    kept = [*alphas_cumprod[timesteps].tolist(), 1.0]
    steps: list[Step] = []
    for t, abar, abar_prev in zip(timesteps, kept, kept[1:], strict=False):
        beta = 1 - abar / abar_prev
        variance = beta * (1 - abar_prev) / (1 - abar)
        if variance > 0:
            min_log_variance = math.log(variance)
        else:
            min_log_variance = steps[-1].min_log_variance if steps else math.log(beta)
        steps.append(
            Step(
                t=t,
                abar=abar,
                abar_prev=abar_prev,
                beta=beta,
                x_start_weight=math.sqrt(abar_prev) * beta / (1 - abar),
                x_t_weight=math.sqrt(abar / abar_prev) * (1 - abar_prev) / (1 - abar),
                variance=variance,
                min_log_variance=min_log_variance,
            )
        )
    return steps
