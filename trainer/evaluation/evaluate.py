"""How good a trained model is: per case, on average and by lesion volume, on its native grids.

On the validation fold, which chose the weights, numbers are optimistic, and say so. An evaluation
there freezes the threshold; only with it, the same weights and the same sampling may the sealed
test set be read, and each reading leaves a line in the run's folder.
"""

import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from trainer.configfile import ConfigError
from trainer.data.inputs import Inputs
from trainer.data.store import Case, Store
from trainer.evaluation.certainty.ensemble_sizes import EnsembleSizes
from trainer.evaluation.certainty.report import Report, report
from trainer.evaluation.ensemble import num_members
from trainer.evaluation.masks import patient_of
from trainer.evaluation.metrics import CaseScore
from trainer.evaluation.sealed_readings import record_reading
from trainer.evaluation.threshold_calibration import (
    CANDIDATES,
    best_threshold,
    cross_fit,
    dice_by_threshold,
)
from trainer.evaluation.validate import Validator
from trainer.files.documents import to_json
from trainer.progress import tracked
from trainer.saved.frozen_threshold import FrozenThreshold
from trainer.saved.model_io import TrainedModel, fingerprint, unseen, with_settings

READINGS = "test_readings.jsonl"
NEW_NOISE = 0
"""In the place of an epoch, where training's validations have 1 and later: the noise by which the
trial was ranked is not drawn again."""


@dataclass(frozen=True)
class Evaluation:
    """A model's scores on some cases, at the configured threshold and at the calibrated one."""

    split: Literal["val", "test"]
    label: str
    """What the numbers are worth."""
    fixed_threshold: float
    fixed: list[CaseScore]
    calibration: Literal["cross-fitted", "frozen"]
    """Each case at the threshold of the others, or all at the frozen one."""
    thresholds: list[float]
    """Calibrated, by case."""
    calibrated: list[CaseScore]
    frozen: FrozenThreshold
    certainty: Report
    """What the probabilities are worth, whatever the threshold."""
    case_s: float
    """Seconds that sampling a case took, on average, with all members."""


def evaluate(
    trained: TrainedModel,
    store: Store,
    run_dir: Path,
    *,
    split: Literal["val", "test"],
    count: bool = True,
) -> Evaluation:
    """Predict and score the validation fold or the sealed test set.

    Args:
        trained: The model; `trained.config.sampling` says how it is sampled.
        store: The prepared data that it was trained on, wherever they are now.
        run_dir: The run's folder, which keeps the frozen threshold and the readings of the test
            set.
        split: `val`, which freezes the threshold, or `test`, which needs it.
        count: Count a reading of the test set beside the store too (sealed_readings.py); False:
            the caller does.

    Raises:
        ConfigError: The store has other data; the run's folder cannot be written; or the test set
            is asked for and there is none, no threshold was frozen for these weights and this
            sampling, or its reading cannot be counted.
    """
    # As the model is used, not in the step or three in which its training measured it.
    as_used = {"validation.steps": "sampling", "validation.members": 1}
    config = with_settings(trained, as_used).config
    torch.set_num_threads(config.num_threads)
    check_data(trained, store, run_dir)
    with suppress(OSError):
        run_dir.mkdir(exist_ok=True)
    if not os.access(run_dir, os.W_OK):
        raise ConfigError([f"{run_dir}: cannot be written, but keeps the frozen threshold"])
    if split == "val":
        cases, frozen = store.split(config.data.fold)[1], None
        label = f"validation fold {config.data.fold}: selected on, optimistic"
    else:
        cases, frozen = store.test_cases(), _frozen(trained, run_dir)
        if not cases:
            raise ConfigError([f"{store.path}: has no test cases"])
        of_store = ""
        if count:
            model = {"model": str(trained.path.absolute())}
            number = record_reading(store.path, store.content_hash, model)
            of_store = f", {number} of this store"
        number = _log_reading(run_dir, frozen, store)
        label = f"sealed test set, reading {number} of this run{of_store}"

    label = "; ".join(filter(None, [label, unseen(trained, store)]))
    validator = Validator(store, cases, config, trained.process, trained.device)
    sampling = config.sampling
    members = num_members(trained.model, sampling)
    judged = EnsembleSizes(store, members, sampling.fuse, sampling.threshold)
    probability = validator.probabilities(
        trained.model,
        NEW_NOISE,
        batch_size=4 * (config.batch.micro or config.batch.effective),
        autocast=trained.autocast,
        look=judged.add,
    )
    fixed = validator.scores(probability)
    if frozen is None:
        by_case = tracked(cases, "choosing the threshold")
        dice = np.stack([_dice_by_threshold(validator, case, probability) for case in by_case])
        has_lesion = [score.has_lesion for score in fixed]
        thresholds = cross_fit(dice, has_lesion)
        frozen = _freeze(trained, dice[has_lesion])
        frozen.save(run_dir)
    else:
        thresholds = [frozen.threshold] * len(cases)
    return Evaluation(
        split=split,
        label=label,
        fixed_threshold=config.sampling.threshold,
        fixed=fixed,
        calibration="cross-fitted" if split == "val" else "frozen",
        thresholds=thresholds,
        calibrated=validator.scores(probability, thresholds),
        frozen=frozen,
        certainty=report(judged.by_size, {case.case_id: patient_of(case) for case in cases}),
        case_s=validator.case_s,
    )


def _dice_by_threshold(
    validator: Validator, case: Case, probability: NDArray[np.float32]
) -> NDArray[np.float64]:
    store = validator.store
    return dice_by_threshold(
        validator.to_native(case, probability), store.native_mask(case), store.native_brain(case)
    )


def check_data(trained: TrainedModel, store: Store, run_dir: Path) -> None:
    """Refuse a store whose folds may hold, as validation cases, what was trained on.

    Raises:
        ConfigError: It has other data, or other modalities, windows or image size.
    """
    expected = trained.config.data.store_hash
    path = run_dir / "config.yaml"
    if expected is None and path.exists() and not trained.layout:
        expected = yaml.safe_load(path.read_text())["data"]["store_hash"]
    if expected not in (None, store.content_hash):
        raise ConfigError(
            [f"{store.path}: content {store.content_hash[:12]}: this is not the data that the "
             f"model was trained on ({expected[:12]})"]
        )  # fmt: skip
    if Inputs(store, trained.config, trained.device).spec != trained.inputs:
        raise ConfigError([f"{store.path}: its modalities, windows or image size are not those "
                           "that the model was trained on"])  # fmt: skip


def _freeze(trained: TrainedModel, dice: NDArray[np.float64]) -> FrozenThreshold:
    """Choose the threshold that is best for all cases with lesion; `dice` is (cases, 19)."""
    threshold = best_threshold(dice)
    at_it = dice[:, CANDIDATES.index(threshold)]
    return FrozenThreshold(
        threshold, float(at_it.mean()), len(dice), fingerprint(trained.model), _sampling(trained)
    )


def _frozen(trained: TrainedModel, run_dir: Path) -> FrozenThreshold:
    """Return the frozen threshold, or say why the test set stays sealed."""
    first = "evaluate with --split val first, which freezes the threshold of the test set"
    frozen = FrozenThreshold.load(run_dir)
    if frozen is None:
        raise ConfigError([f"{run_dir}: no threshold.json: {first}"])
    if frozen.weights != fingerprint(trained.model):
        raise ConfigError([f"{run_dir}/threshold.json: was frozen for other weights: {first}"])
    for name, value in _sampling(trained).items():
        if frozen.sampling.get(name) != value:
            raise ConfigError(
                [f"{run_dir}/threshold.json: was frozen for sampling.{name} "
                 f"{frozen.sampling.get(name)}, not {value}: {first}"]
            )  # fmt: skip
    return frozen


def _log_reading(run_dir: Path, frozen: FrozenThreshold, store: Store) -> int:
    """Add a line for this reading of the test set, before it is read; return its number."""
    line = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "store_hash": store.content_hash,
    } | asdict(frozen)
    with open(run_dir / READINGS, "a+", encoding="utf-8") as file:
        file.write(to_json(line, indent=None) + "\n")
        file.flush()
        os.fsync(file.fileno())
        file.seek(0)
        return len(file.readlines())


def _sampling(trained: TrainedModel) -> dict[str, Any]:
    return trained.config.sampling.model_dump(mode="json", exclude={"threshold"})
