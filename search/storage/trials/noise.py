"""The validation noise of a trial, whose weights may lie in S3; torch is imported to measure."""

from pathlib import Path
from typing import NamedTuple

from search.storage.run_folders import WEIGHTS_FILES, trial_files


class Noise(NamedTuple):
    """A trial's last validation, repeated with other noise."""

    epoch: int | None
    """Of the weights."""
    draws: int
    mean: dict[str, float]
    """By metric."""
    std: dict[str, float]


def measure_noise(run_dir: Path, store: str, *, device: str = "cpu", threads: int = 1) -> Noise:
    """Validate a trial's weights several times with other noise.

    Args:
        run_dir: The trial's folder, in the study's or in the mirror of one in S3.
        store: The study's, also in S3.
        device: As the setting `device`.
        threads: On a CPU.

    Raises:
        ConfigError: There are no weights, or the store has other data.
        OSError: S3 does not answer.
    """
    from search.storage.dataset_cache import open_store
    from trainer.evaluation.evaluate import check_data
    from trainer.evaluation.validation_noise import DRAWS, validation_noise
    from trainer.saved.model_io import load, with_settings

    with trial_files(run_dir, WEIGHTS_FILES) as here:
        trained, data = load(here, device), open_store(store)
        check_data(trained, data, here)
        trained = with_settings(trained, {"num_threads": threads})
        held_out = data.split(trained.config.data.fold)[1]
        found = validation_noise(trained, data, held_out, DRAWS)
    return Noise(
        trained.epoch,
        DRAWS,
        {name: spread.mean for name, spread in found.items()},
        {name: spread.std for name, spread in found.items()},
    )
