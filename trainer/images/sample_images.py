"""What a model does with a few fixed validation cases, to look at: `samples/epoch0012-CASE.png`.

A case with a small, one with a middling and one with a large lesion, each on its slice with most
lesion, sampled as an ensemble with the run's own settings; and with diffusion, how one of its masks
came out of the noise: `epoch0012-CASE-path.png`. All cases and members are one batch. Their noise
is the same at every epoch, so that pictures of a run differ by its weights alone.
"""

import math
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.config import SamplingConfig
from trainer.configfile import ConfigError
from trainer.data.inputs import Inputs
from trainer.data.pictures import largest_lesion_row
from trainer.data.store import Case, Store
from trainer.devices import dtype
from trainer.evaluation.ensemble import (
    denoising,
    fuse,
    probabilities,
    sample_members,
)
from trainer.evaluation.evaluate import check_data
from trainer.files.atomic import write_atomically
from trainer.images.sample import Moment, Sample
from trainer.randomness import generator
from trainer.respacing import timesteps
from trainer.saved.model_io import TrainedModel, run_folder

FOLDER = "samples"
"""In a run folder."""
MEMBERS = 5
"""Masks sampled of a slice: enough to see where they disagree."""
PATH_STEPS = 8
"""Steps of a path that are shown."""
FEWEST_STEPS = 4
"""A path of fewer shows little: then one of PATH_STEPS is sampled beside the masks."""


def paint(
    trained: TrainedModel, store: Store, out_dir: Path, *, limit_s: float = math.inf
) -> list[Path]:
    """Draw a model's fixed validation cases.

    Equal weights and settings give equal files, on the same machine with as many threads.

    Args:
        trained: The model; its `config.sampling` says how it is sampled and thresholded.
        store: The prepared data that it was trained on, wherever they are now.
        out_dir: Is made; files of the same epoch in it are replaced.
        limit_s: Of this process's CPU time. What takes longer is given up.

    Returns:
        The PNG files, small lesion first, each case's path after its panels.

    Raises:
        ConfigError: The store has other data, or no lesion in the fold's validation cases.
        TimeoutError: It takes longer than it may.
        OSError: The folder cannot be written.
    """
    from trainer.images.panels import panels, strip

    torch.set_num_threads(trained.config.num_threads)
    run_dir = run_folder(trained)
    check_data(trained, store, run_dir)
    cases = fixed_cases(store, trained.config.data.fold)
    if not cases:
        raise ConfigError([f"{store.path}: no lesion in the validation cases"])
    measured = _case_dice(run_dir, trained.epoch)
    stem = "sample" if trained.epoch is None else f"epoch{trained.epoch:04d}"
    out_dir.mkdir(parents=True, exist_ok=True)
    files = []
    for sample in sample_slices(trained, store, cases, limit_s=limit_s):
        name = sample.case.case_id
        pictures = {f"{stem}-{name}.png": panels(sample, trained, measured.get(name))}
        if sample.path:
            pictures[f"{stem}-{name}-path.png"] = strip(sample, trained)
        for file, picture in pictures.items():
            write_atomically(out_dir / file, partial(picture.save, format="PNG", optimize=True))
            files.append(out_dir / file)
    return files


def fixed_cases(store: Store, fold: int) -> list[Case]:
    """Return the validation cases to look at: the middle of each third by lesion volume.

    The smallest first; fewer where fewer have a lesion that the store's pixels show.
    """
    cases = [case for case in store.split(fold)[1] if store.lesion_slice[case.rows].any()]
    cases.sort(key=lambda case: (case.lesion_ml, case.case_id))
    places = dict.fromkeys(len(cases) * sixth // 6 for sixth in (1, 3, 5)) if cases else {}
    return [cases[place] for place in places]


def sample_slices(
    trained: TrainedModel, store: Store, cases: Sequence[Case], *, limit_s: float = math.inf
) -> list[Sample]:
    """Sample each case's slice with most lesion, all cases and members in one batch.

    Args:
        trained: The model.
        store: Where the cases are.
        cases: With a lesion, at least one.
        limit_s: Of CPU time.

    Raises:
        TimeoutError: It takes longer.
    """
    config, model = trained.config, trained.model
    end_s = time.process_time() + limit_s
    rows = [largest_lesion_row(store, case) for case in cases]
    inputs = Inputs(store, config, trained.device)
    cond = inputs.window(inputs.gather(rows).to(trained.device)).to(dtype(config))
    paths: list[list[Moment]] = [[] for _ in cases]
    steps = path_steps = 1
    if model.segments_directly:
        members = sample_members(
            model,
            cond,
            process=trained.process,
            sampling=config.sampling,
            noise=[],
            autocast=trained.autocast,
        )
    else:
        few = config.sampling.model_copy(
            update={"timestep_respacing": min(PATH_STEPS, config.diffusion.num_timesteps)}
        )
        x_start, paths, steps = _denoise(trained, cond, cases, config.sampling, MEMBERS, end_s)
        members, path_steps = probabilities(x_start, MEMBERS), steps
        if steps < FEWEST_STEPS:
            _, paths, path_steps = _denoise(trained, cond, cases, few, 1, end_s)
    middle = config.data.context_slices * len(inputs.channels)
    seen = _array(cond[:, middle : middle + len(inputs.channels)])
    truth, brain = store.masks(rows) > 0, store.brain(rows) > 0
    telling = _most_telling(seen, truth, brain)
    samples = []
    for i, case in enumerate(cases):
        fused = fuse(members[:, i : i + 1], config.sampling.fuse)
        probability = np.where(brain[i], _array(fused.probability[0]), np.float32(0))
        samples.append(
            Sample(
                case=case,
                index=rows[i] - case.first,
                seen=seen[i],
                telling=telling,
                truth=truth[i],
                brain=brain[i],
                members=_array(members[:, i]),
                probability=probability,
                uncertainty=np.where(brain[i], _array(fused.uncertainty[0]), np.float32(0)),
                mask=(probability >= config.sampling.threshold) & brain[i],
                path=paths[i],
                path_steps=path_steps,
                sampling_steps=steps,
            )
        )
    return samples


def _denoise(
    trained: TrainedModel,
    cond: Tensor,
    cases: Sequence[Case],
    sampling: SamplingConfig,
    members: int,
    end_s: float,
) -> tuple[Tensor, list[list[Moment]], int]:
    """Sample members of each case.

    Returns:
        The last x_start (members * b, 1, H, W), the first members' paths by case, and how many
        steps there were.
    """
    seed, count = trained.config.seed, len(cases)
    kept = timesteps(trained.config.diffusion.num_timesteps, sampling.timestep_respacing)
    shown = {round(i * (len(kept) - 1) / (PATH_STEPS - 1)) for i in range(PATH_STEPS)}
    paths: list[list[Moment]] = [[] for _ in cases]
    states = denoising(
        trained.model,
        cond,
        process=trained.process,
        sampling=sampling,
        noise=[
            [generator(seed, "picture", case.case_id, member) for case in cases]
            for member in range(members)
        ],
        autocast=trained.autocast,
    )
    for number, state in enumerate(states):
        if time.process_time() > end_s:
            raise TimeoutError(f"pictures take longer: step {number} of {len(kept)}")
        x_start = state.x_start
        if number in shown:
            parts = zip(paths, state.x_t[:count], x_start[:count], strict=True)
            for path, one_x_t, one_x_start in parts:
                path.append(Moment(state.t, _array(one_x_t[0]), _array(one_x_start[0])))
    return x_start, paths, len(kept)


def _most_telling(
    seen: NDArray[np.float32], truth: NDArray[np.bool_], brain: NDArray[np.bool_]
) -> int:
    """Return the channel of (b, M, H, W) in which lesion and the rest of the brain differ most."""
    contrast = np.zeros(seen.shape[1])
    for images, lesion, rest in zip(seen, truth, brain & ~truth, strict=True):
        if rest.any():
            difference = images[:, lesion].mean(1) - images[:, rest].mean(1)
            contrast += np.abs(difference) / (images[:, rest].std(1) + 1e-6)
    return int(contrast.argmax())


def _array(values: Tensor) -> NDArray[np.float32]:
    return values.detach().float().cpu().numpy().copy()


def _case_dice(run_dir: Path, epoch: int | None) -> dict[str, float]:
    """Return what the validation after an epoch measured, by case; empty where that is not here."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(run_dir / "cases.parquet", columns=["epoch", "case_id", "dice"])
    except (OSError, pa.ArrowException):
        return {}
    return {row["case_id"]: row["dice"] for row in rows.to_pylist() if row["epoch"] == epoch}
