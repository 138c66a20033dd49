"""The validation slices that a diagnosis predicts: all, or as many as there is time for."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.data.inputs import Inputs
from trainer.data.store import Case, Store
from trainer.evaluation.ensemble import sample_members
from trainer.randomness import generator
from trainer.respacing import timesteps
from trainer.saved.model_io import TrainedModel

BATCH = 16
"""Slices predicted together."""


@dataclass(frozen=True)
class Slices:
    """Some slices of the validation cases, on the store's grid; n in all."""

    cases: tuple[Case, ...]
    rows: NDArray[np.int64]
    """(n,) of the store."""
    case_of: NDArray[np.int64]
    """(n,) place in `cases`."""
    cond: Tensor
    """(n, C, H, W), what the model sees; on the CPU."""
    masks: NDArray[np.bool_]
    """(n, H, W)."""
    brain: NDArray[np.bool_]
    """(n, H, W)."""
    complete: bool
    """All slices of all cases."""

    @classmethod
    def choose(cls, store: Store, trained: TrainedModel, limit: int) -> "Slices":
        """Take at most so many slices, but at least 2 of each case with a lesion.

        Where not all fit, half are slices with lesion and half others, evenly spaced in each case.
        """
        inputs = Inputs(store, trained.config, trained.device)
        held_out = store.split(trained.config.data.fold)[1]
        cases = tuple(case for case in held_out if store.lesion_slice[case.rows].any())
        each = max(2, limit // len(cases))
        chosen = [_thinned(store, case, each) for case in cases]
        rows = np.concatenate(chosen)
        return cls(
            cases=cases,
            rows=rows,
            case_of=np.repeat(np.arange(len(cases)), [len(part) for part in chosen]),
            cond=inputs.window(inputs.gather(rows).to(trained.device)).cpu(),
            masks=store.masks(rows).astype(bool),
            brain=store.brain(rows).astype(bool),
            complete=len(rows) == sum(case.num_slices for case in cases),
        )

    def of(self, case: int) -> NDArray[np.bool_]:
        """Return which slices are a case's, (n,)."""
        own: NDArray[np.bool_] = self.case_of == case
        return own

    def dice(self, predicted: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return Dice inside the brain by case, (cases,), pooled over its slices.

        Args:
            predicted: (n, H, W).
        """
        truth, predicted = self.masks & self.brain, predicted & self.brain
        both, total = (
            np.bincount(self.case_of, part.sum((1, 2)), len(self.cases))
            for part in (truth & predicted, truth.astype(np.int64) + predicted)
        )
        return np.divide(2 * both, total, out=np.zeros(len(self.cases)), where=total > 0)

    def numbers(self) -> list[tuple[str, int]]:
        """Return each slice's case and its number in it."""
        return [
            (self.cases[case].case_id, int(row) - self.cases[case].first)
            for case, row in zip(self.case_of, self.rows, strict=True)
        ]


def sampled(trained: TrainedModel, slices: Slices, draw: int) -> NDArray[np.float32]:
    """Sample every slice once, as a validation does, but a single member.

    Args:
        trained: The weights.
        slices: What to predict.
        draw: Names the noise.

    Returns:
        Lesion probability, (n, H, W).
    """
    seed, names = trained.config.seed, slices.numbers()

    def some(part: slice) -> Tensor:
        noise = [[generator(seed, "diagnose", *name, draw) for name in names[part]]]
        return sample_members(
            trained.model,
            slices.cond[part].to(trained.device),
            process=trained.process,
            sampling=trained.config.validation_sampling,
            noise=noise,
            autocast=trained.autocast,
        )[0]

    return _in_batches(len(slices.rows), some)


@torch.inference_mode()
def by_timestep(
    trained: TrainedModel, slices: Slices, levels: Sequence[int | None]
) -> list[NDArray[np.float64]]:
    """Return the Dice by case of the x_start that is predicted in one step.

    Args:
        trained: The weights.
        slices: What to predict.
        levels: Timesteps to each of which the true mask is noised; None is noise alone, given as
            T - 1.

    Returns:
        For each timestep (cases,).
    """
    process, seed, names = trained.process, trained.config.seed, slices.numbers()
    truth = torch.from_numpy(slices.masks)[:, None].float() * 2 - 1
    dtype, device = next(trained.model.parameters()).dtype, trained.device

    def some(part: slice, timestep: int | None) -> Tensor:
        x_start = truth[part].to(device, dtype)
        shape = tuple(x_start.shape[1:])
        drawn = [
            generator(seed, "diagnose", *name, "noised").standard_normal(shape, np.float32)
            for name in names[part]
        ]
        noise = torch.from_numpy(np.stack(drawn)).to(device, dtype)
        at = process.num_timesteps - 1 if timestep is None else timestep
        t = torch.full((len(x_start),), at, dtype=torch.int64, device=device)
        x_t = noise if timestep is None else process.q_sample(x_start, t, noise)
        with trained.autocast:
            condition = trained.model.condition(slices.cond[part].to(device, dtype))
            output = trained.model(process.model_input(x_t), t, condition)
        return (process.x_start(output, x_t, t)[:, 0].clamp(-1, 1) + 1) / 2

    threshold = trained.config.sampling.threshold
    return [
        slices.dice(
            _in_batches(len(slices.rows), lambda part, at=at: some(part, at)) >= threshold  # type: ignore[misc]
        )
        for at in levels
    ]


def pass_s(store: Store, trained: TrainedModel) -> float:
    """Return the seconds that a forward pass takes for a slice, in a small batch.

    On a CPU the process's own, so that the answer is the same on a busy machine.
    """
    clock = time.process_time if trained.device.type == "cpu" else time.perf_counter
    slices = Slices.choose(store, trained, 2)
    few = Slices(**vars(slices) | {"rows": slices.rows[:4], "case_of": slices.case_of[:4],
                 "cond": slices.cond[:4], "masks": slices.masks[:4]})  # fmt: skip
    sampled(trained, few, 0)
    begun = clock()
    sampled(trained, few, 0)
    return (clock() - begun) / len(few.rows) / num_steps(trained)


def num_steps(trained: TrainedModel) -> int:
    """Return the forward passes that a validation takes for a mask."""
    config = trained.config
    if trained.model.segments_directly:
        return 1
    respacing = config.validation_sampling.timestep_respacing
    return len(timesteps(config.diffusion.num_timesteps, respacing))


def _in_batches(number: int, predict: Callable[[slice], Tensor]) -> NDArray[np.float32]:
    parts = [predict(slice(start, start + BATCH)) for start in range(0, number, BATCH)]
    return torch.cat(parts).float().cpu().numpy()


def _thinned(store: Store, case: Case, limit: int) -> NDArray[np.int64]:
    rows = np.array(case.rows)
    if len(rows) <= limit:
        return rows
    lesion = store.lesion_slice[rows]
    some = _evenly(rows[lesion], max(1, limit // 2))
    return np.sort(np.concatenate([some, _evenly(rows[~lesion], limit - len(some))]))


def _evenly(rows: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    if len(rows) <= limit:
        return rows
    chosen: NDArray[np.int64] = rows[((np.arange(limit) + 0.5) * len(rows) / limit).astype(int)]
    return chosen
