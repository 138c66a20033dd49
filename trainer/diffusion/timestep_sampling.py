"""How training draws its timesteps: uniformly, or more often where the loss is large."""

import torch
from torch import Tensor

from trainer.config import DiffusionConfig

HISTORY = 10
"""Losses remembered for each timestep (Nichol & Dhariwal 2021, sec. 3.3)."""

UNIFORM_SHARE = 0.001
"""Share of the draws that stays uniform, improved-diffusion's default."""


class TimestepSampler:
    """Turns uniform positions into timesteps in 0..T-1, whatever the respacing of sampling.

    loss_second_moment draws t in proportion to sqrt(E[L_t^2]) over the last 10 losses at t and
    weights its loss by 1 / (T p_t), so that the expected loss stays that of uniform drawing. Until
    every timestep has 10 losses, which takes several times 10 T images, it draws uniformly.

    It draws nothing itself: equal positions and equal history give equal timesteps.
    """

    def __init__(self, config: DiffusionConfig):
        self.num_timesteps = config.num_timesteps
        self.uniform = config.timestep_sampling == "uniform"
        self._losses = torch.zeros(self.num_timesteps, HISTORY, dtype=torch.float64)
        self._counts = torch.zeros(self.num_timesteps, dtype=torch.int64)

    def probabilities(self) -> Tensor:
        """Return the distribution that t is drawn from now, (T,), float64, sum 1."""
        uniform = torch.full((self.num_timesteps,), 1 / self.num_timesteps, dtype=torch.float64)
        if self.uniform or (self._counts < HISTORY).any():
            return uniform
        moment = self._losses.square().mean(dim=1).sqrt()
        if moment.sum() == 0:
            return uniform
        return (1 - UNIFORM_SHARE) * moment / moment.sum() + UNIFORM_SHARE * uniform

    def draw(self, position: Tensor) -> tuple[Tensor, Tensor]:
        """Return timesteps, and the weights of their losses.

        Args:
            position: Uniform in [0, T), float64, (b,).

        Returns:
            t, int64 (b,), and 1 / (T p_t), float32 (b,), both on position's device.
        """
        if self.uniform or (self._counts < HISTORY).any():
            return position.floor().long(), torch.ones_like(position, dtype=torch.float32)
        p = self.probabilities()
        quantile = position.cpu() / self.num_timesteps
        t = torch.searchsorted(p.cumsum(0), quantile, right=True).clamp(max=self.num_timesteps - 1)
        weight = (1 / (self.num_timesteps * p[t])).float()
        return t.to(position.device), weight.to(position.device)

    def update(self, t: Tensor, loss: Tensor) -> None:
        """Remember the losses of one optimizer step, in whatever order its images come.

        Args:
            t: Timesteps of the whole effective batch, int64, (b,).
            loss: Unweighted loss of each image, finite, (b,).
        """
        if self.uniform:
            return
        t, loss = t.cpu(), loss.detach().cpu().double()
        for step in t.unique().tolist():
            new = loss[t == step].sort().values
            if len(new) >= HISTORY:
                # The last 10 of sorted losses would be the largest.
                new = new.square().mean().sqrt().expand(HISTORY)
            self._losses[step] = torch.cat([self._losses[step], new])[-HISTORY:]
            self._counts[step] = min(HISTORY, int(self._counts[step]) + len(new))

    def state_dict(self) -> dict[str, Tensor]:
        """Return the history; nothing for uniform."""
        if self.uniform:
            return {}
        return {"losses": self._losses.clone(), "counts": self._counts.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue with the history of `state_dict`."""
        if not self.uniform:
            self._losses, self._counts = state["losses"].clone(), state["counts"].clone()
