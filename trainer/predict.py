"""Applying a trained model to one case: from its files to a mask on its own grid.

The case goes the way that `segtune prepare` and a validation take, without a lesion mask: canonical
axes, the reference's grid, units, head crop, the store's pixels; and back.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.configfile import ConfigError
from trainer.data.case_file import read_reference, to_pixels
from trainer.data.formats.case_selector import Images
from trainer.data.geometry import fit_box, to_volume
from trainer.data.inputs import Window
from trainer.data.nifti import was_written_here, write_like
from trainer.devices import dtype
from trainer.evaluation.ensemble import (
    Prediction,
    fuse,
    in_batches,
    num_members,
    sample_members,
)
from trainer.hints.suffixes import NIFTI_SUFFIXES
from trainer.randomness import generator
from trainer.saved.model_io import TrainedModel

BATCH = 16
"""Masks sampled together, slices times members, where they fit."""


@dataclass(frozen=True)
class CasePrediction:
    """What a model says about one case: (X, Y, Z) on the reference's grid, canonical axes."""

    reference: Path
    probability: NDArray[np.float32]
    """Of lesion; 0 outside the brain mask, as in scoring."""
    uncertainty: NDArray[np.float32]
    """Standard deviation of the ensemble's members; 0 outside the brain mask."""
    mask: NDArray[np.bool_]
    lesion_ml: float


def predict_case(trained: TrainedModel, images: Images) -> CasePrediction:
    """Predict one case.

    Args:
        trained: The model; its `config.sampling` says how it is sampled and thresholded.
        images: Its files by modality, the reference first. With the configuration's seed, the
            reference's voxels name the noise: the same images give the same mask, whatever the
            files are called.

    Raises:
        BadFile: One of the files cannot be used.
        OutOfMemory: One slice does not fit on the device.
    """
    torch.set_num_threads(trained.config.num_threads)  # another number rounds differently
    reference, brain = read_reference(images, trained.inputs.factors)
    box = fit_box(brain, reference.spacing_mm)
    size, factors = trained.inputs.image_size, trained.inputs.factors
    slices = np.stack(
        [
            to_pixels(modality, images[modality], reference, brain, box, size, factors).slices
            for modality in trained.inputs.modalities
        ],
        axis=1,
    )
    seed, content = trained.config.seed, content_number(reference.data)
    predicted = predict_slices(
        trained, slices, lambda member, index: generator(seed, "predict", content, index, member)
    )

    def native(values: Tensor) -> NDArray[np.float32]:
        x, y, z = brain.shape
        volume = to_volume(values.numpy(), box, reference.spacing_mm, (x, y, z))
        return np.where(brain, volume, np.float32(0))

    probability = native(predicted.probability)
    mask = (probability >= trained.config.sampling.threshold) & brain
    return CasePrediction(
        reference=reference.path,
        probability=probability,
        uncertainty=native(predicted.uncertainty),
        mask=mask,
        lesion_ml=float(mask.sum() * np.prod(reference.spacing_mm) / 1000),
    )


def content_number(voxels: NDArray[np.float32]) -> int:
    """Return a number below 2**64 that tells a volume's voxels from others'."""
    return int.from_bytes(hashlib.sha256(np.ascontiguousarray(voxels).tobytes()).digest()[:8])


def predict_slices(
    trained: TrainedModel,
    slices: NDArray[np.float16],
    noise: Callable[[int, int], np.random.Generator],
) -> Prediction:
    """Predict all slices of one case on the store's pixels.

    Args:
        trained: The model.
        slices: (n, M, H, W) from inferior to superior, physical units, the model's modalities.
        noise: Gives the generator of (member, slice).

    Returns:
        Probability and uncertainty, float32 (n, H, W) each, on the CPU.

    Raises:
        OutOfMemory: One slice does not fit on the device.
    """
    config, inputs = trained.config, trained.inputs
    window = Window(inputs, trained.device)
    last = len(slices) - 1

    def sample_some(members: range, rows: range) -> Tensor:
        seen = slices[inputs.with_context(rows, 0, last)]
        images = torch.from_numpy(seen.reshape(len(rows), -1, *slices.shape[2:]))
        return sample_members(
            trained.model,
            window(images.to(trained.device)).to(dtype(config)),
            process=trained.process,
            sampling=config.sampling,
            noise=[[noise(member, row) for row in rows] for member in members],
            autocast=trained.autocast,
        ).cpu()

    members = num_members(trained.model, config.sampling)
    parts = [*in_batches(len(slices), members, BATCH, sample_some)]
    fused = fuse(torch.cat(parts, 1), config.sampling.fuse)
    return Prediction(fused.probability.float(), fused.uncertainty.float())


def outputs(
    out: str | Path, images: Images, *, probability: bool, uncertainty: bool, force: bool = False
) -> dict[str, Path]:
    """Return the path of each file to write, by what it holds; `mask` is `out` itself.

    Args:
        out: The mask's file.
        images: The inputs, which are never written over.
        probability: Whether it is written too.
        uncertainty: Likewise.
        force: Whether files that `write` did not write may be replaced.

    Raises:
        ConfigError: Not a NIfTI name, in no folder, an input's own name, or somebody else's file.
    """
    out = Path(out)
    suffix = next((suffix for suffix in NIFTI_SUFFIXES if out.name.endswith(suffix)), None)
    if suffix is None or out.name == suffix:
        raise ConfigError([f"{out}: must end in .nii.gz or .nii"])
    if not out.parent.is_dir():
        raise ConfigError([f"{out}: no such folder: {out.parent}"])
    wanted = {"mask": True, "probability": probability, "uncertainty": uncertainty}
    beside = out.name.removesuffix(suffix)
    paths = {
        what: out if what == "mask" else out.with_name(f"{beside}_{what}{suffix}")
        for what, is_wanted in wanted.items()
        if is_wanted
    }
    inputs = {source.path.resolve() for source in images.values()}
    for path in paths.values():
        if path.is_dir():
            raise ConfigError([f"{path}: is a folder"])
        if path.exists() and not path.is_file():
            raise ConfigError([f"{path}: is no file: choose another name"])
        if path.resolve() in inputs:
            raise ConfigError([f"{path}: is an input and would be written over"])
        if path.exists() and not force and not was_written_here(path):
            raise ConfigError(
                [f"{path}: exists and is no prediction: choose another name, or --force"]
            )
    return paths


def write(prediction: CasePrediction, paths: dict[str, Path]) -> None:
    """Write what `outputs` named, each atomically, the mask (uint8) last.

    Raises:
        ConfigError: The disk is full, or the folder cannot be written to.
    """
    for what, path in reversed(paths.items()):
        values = getattr(prediction, what)
        try:
            write_like(
                path, values.astype(np.uint8) if what == "mask" else values, prediction.reference
            )
        except OSError as error:
            raise ConfigError([f"{path}: {error.strerror or error}"]) from error
