"""All that a diagnosis measures with a run's weights, in bounded time."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.configfile import ConfigError
from trainer.data.store import Store
from trainer.diagnosis.missed_lesions import (
    Calibration,
    Lesion,
    calibration,
    lesions,
)
from trainer.diagnosis.slices import Slices, by_timestep, num_steps, pass_s, sampled
from trainer.diagnosis.weights import Motion, newest

BUDGET_S = 60.0
"""Time for all forward passes: decides how many slices are predicted."""
LEVELS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.97)
"""Shares of T to which the truth is noised."""
DRAWS = 2
"""Samplings from different noise."""


@dataclass(frozen=True)
class AtTimestep:
    """Dice of the x_start that is predicted in one step."""

    t: int | None
    """None: from noise alone, as t = T - 1."""
    signal: float
    """Share of the truth in the variance of x_t."""
    dice: float


@dataclass(frozen=True)
class Measured:
    """What a run's newest weights do on validation slices; Dice by case is pooled over them."""

    moment: str
    """Of training, whose weights these are."""
    device: str
    """Where it was measured: cpu or cuda."""
    images: int | None
    """Training images seen, None if not known."""
    num_cases: int
    """Validation cases with a lesion."""
    num_slices: int
    complete: bool
    """All slices of these cases were predicted."""
    seconds: float
    by_timestep: list[AtTimestep]
    """Rising in noise; empty for a model that segments directly."""
    dice: NDArray[np.float64]
    """Of the averaged weights, sampled, (draws, cases)."""
    raw_dice: NDArray[np.float64] | None
    """Of the raw weights, from the first draw's noise, (cases,); None where they are not here."""
    half_life_images: float | None
    """The average's now."""
    motion: Motion | None
    lesions: list[Lesion]
    calibration: Calibration

    @property
    def noise(self) -> float:
        """Standard deviation of the mean Dice from one sampling to the next; 0 without noise."""
        if len(self.dice) < 2:
            return 0.0
        differences = self.dice[0] - self.dice[1]
        return float(np.sqrt((differences**2).sum() / 2) / len(differences))


def measure(
    run_dir: Path, store: Store, budget_s: float = BUDGET_S, device: str = "cpu"
) -> Measured:
    """Predict validation slices with a run's newest weights in several ways.

    Args:
        run_dir: The run's folder.
        store: Its data, wherever they are now.
        budget_s: Seconds of forward passes, about; 2 slices of each case are predicted anyway.
        device: Where, as the setting `device`.

    Raises:
        ConfigError: No weights are here; or the store is not theirs.
    """
    begun = time.perf_counter()
    weights = newest(run_dir, device)
    trained, direct = weights.ema, weights.ema.model.segments_directly
    expected = trained.config.data.store_hash
    if expected not in (None, store.content_hash):
        raise ConfigError([f"{store.path}: is not the data that the run was trained on"])
    torch.set_num_threads(trained.config.num_threads)
    diffusion, steps = trained.config.diffusion, num_steps(trained)
    draws = 1 if direct else DRAWS
    passes = (draws + (weights.raw is not None)) * steps + (0 if direct else len(LEVELS) + 1)
    slices = Slices.choose(store, trained, int(budget_s / (passes * pass_s(store, trained))))

    levels: list[AtTimestep] = []
    if not direct:
        signal = trained.process.alphas_cumprod
        at: list[int | None] = [int(share * (diffusion.num_timesteps - 1)) for share in LEVELS]
        for t, dice in zip([*at, None], by_timestep(trained, slices, [*at, None]), strict=True):
            levels.append(AtTimestep(t, 0.0 if t is None else float(signal[t]), float(dice.mean())))
    probabilities = [sampled(trained, slices, draw) for draw in range(draws)]
    threshold = trained.config.sampling.threshold
    raw = None
    if weights.raw is not None:
        raw = slices.dice(sampled(weights.raw, slices, 0) >= threshold)
    return Measured(
        moment=weights.moment,
        device=trained.device.type,
        images=weights.images,
        num_cases=len(slices.cases),
        num_slices=len(slices.rows),
        complete=slices.complete,
        seconds=time.perf_counter() - begun,
        by_timestep=levels,
        dice=np.stack([slices.dice(each >= threshold) for each in probabilities]),
        raw_dice=raw,
        half_life_images=weights.half_life_images,
        motion=weights.motion,
        lesions=lesions(store, slices, probabilities[0], threshold),
        calibration=calibration(slices, probabilities[0], threshold),
    )
