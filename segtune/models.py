"""A trained model that predicts: of a trial, a run folder or an exported folder."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from search.workflows.model_ref import ModelRef, find_model, of_study, on_this_machine
from segtune.places import runs_of

if TYPE_CHECKING:
    from trainer.predict import CasePrediction
    from trainer.saved.model_io import TrainedModel


def model(words: str | Path, *, runs: str | Path | None = None, device: str = "auto") -> "Model":
    """Load a trained model; needs neither Ray nor MLflow.

    Args:
        words: An exported folder, a run folder or a .pt file; or a trial, `mine:7`, or a study, of
            which it is the best trial.
        runs: The folder of all studies; by default SEGTUNE_RUNS or `runs`.
        device: Where to predict: auto, cpu, cuda or mps.

    Raises:
        ValueError: There is no such model, or its files are damaged.
        OSError: A file cannot be read, or S3 does not answer.
    """
    return _load(find_model(os.fspath(words), None, runs_of(runs)), device)


def model_of(folder: Path, trial: int, device: str) -> "Model":
    """Load the model of a trial of the study in a folder."""
    return _load(of_study(folder, trial), device)


def _load(found: ModelRef, device: str) -> "Model":
    from trainer.saved.model_io import frozen_settings, load, with_settings

    with on_this_machine(found, ("config.yaml", "threshold.json")) as here:
        trained = load(here.path, device)
        return Model(found.name, with_settings(trained, frozen_settings(trained)))


class Model:
    """A model with its averaged weights, sampled and thresholded as `segtune predict` does.

    Attributes:
        name: Of the trial or folder that it comes from.
        trained: The network, its settings and inputs, as the trainer has them.
    """

    def __init__(self, name: str, trained: "TrainedModel"):
        self.name, self.trained = name, trained

    def __repr__(self) -> str:
        return f"<segtune model {self.name}: sees {', '.join(self.trained.inputs.modalities)}>"

    def predict(
        self,
        case: str | Path | Mapping[str, str | Path],
        out: str | Path | None = None,
        *,
        threshold: float | None = None,
        ensemble: int | None = None,
        steps: int | str | None = None,
        force: bool = False,
    ) -> "CasePrediction":
        """Predict one case.

        Args:
            case: A subject's folder, `DATASET:CASE`, a NIfTI file with as many channels as the
                model sees, or a file by modality, of which the first lends its grid.
            out: Where to write the mask (.nii.gz); None writes nothing.
            threshold: Probability from which a voxel is lesion; None is the model's own.
            ensemble: Number of masks to sample; None is the model's own.
            steps: Sampling steps (50, "ddim50"); None is the model's own.
            force: Whether a file at `out` that is no prediction may be replaced.

        Returns:
            `mask`, `probability` and `uncertainty`, (X, Y, Z) on the reference's grid, and
            `lesion_ml`.

        Raises:
            ValueError: There is no such case, a file cannot be used, or a value is out of range.
            OutOfMemory: One slice does not fit on the device.
        """
        from trainer.data.formats.case_selector import find_case
        from trainer.predict import outputs, predict_case, write
        from trainer.saved.model_io import with_settings

        given = {
            "sampling.threshold": threshold,
            "sampling.num_ensemble": ensemble,
            "sampling.timestep_respacing": steps,
        }
        trained = with_settings(self.trained, given)
        words = (
            [f"{modality}={path}" for modality, path in case.items()]
            if isinstance(case, Mapping)
            else [os.fspath(case)]
        )
        _, images = find_case(words, trained.inputs.modalities)
        paths = out and outputs(out, images, probability=False, uncertainty=False, force=force)
        prediction = predict_case(trained, images)
        if paths:
            write(prediction, paths)
        return prediction
