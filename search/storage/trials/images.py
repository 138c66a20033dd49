"""The pictures of a trial: painted from its weights, and with a study in S3 kept there too.

    pictures/0003/epoch0012-CASE.png

They are not among the run folder's objects: those belong to its attempt. Imports torch only to
paint.
"""

import time
from pathlib import Path
from typing import NamedTuple

from search.storage.run_folders import WEIGHTS_FILES, trial_files, weights_of
from search.storage.s3 import below, in_parallel, remote_of

CASES = "cases.parquet"
KEPT = "pictures"
"""Below a study in S3."""


class Painted(NamedTuple):
    """What came of painting a trial."""

    epoch: int | None
    """Of the weights; None where there are none yet."""
    files: list[str]
    """Below the trial's folder; empty where there was nothing new, or not the time for it."""
    seconds: float
    """CPU time of the painting alone."""
    too_long: bool = False
    """It was given up."""


def to_paint(run_dir: Path) -> bool:
    """Return whether a trial may have weights to paint; S3 is not asked."""
    return remote_of(run_dir.parents[1]) is not None or weights_of(run_dir) is not None


def paint_trial(
    run_dir: Path,
    store: str,
    before: int | None,
    limit_s: float,
    *,
    device: str = "cpu",
    threads: int = 1,
) -> Painted:
    """Paint a trial's weights, those of its last validation, into its folder.

    Args:
        run_dir: The trial's folder, in the study's or in the mirror of one in S3.
        store: The study's, also in S3.
        before: The epoch whose weights were painted last.
        limit_s: Of CPU time, of all threads together.
        device: As the setting `device`.
        threads: On a CPU.

    Raises:
        ConfigError: The store has other data than the weights were trained on.
        OSError: The disk is full, or S3 does not answer.
    """
    with trial_files(run_dir, (*WEIGHTS_FILES, CASES)) as here:
        painted = _paint(here, run_dir, store, before, limit_s, device, threads)
    _send(run_dir, painted.files)
    return painted


def _paint(
    here: Path,
    run_dir: Path,
    store: str,
    before: int | None,
    limit_s: float,
    device: str,
    threads: int,
) -> Painted:
    from search.storage.dataset_cache import open_store
    from trainer.images.sample_images import FOLDER, paint
    from trainer.saved.model_io import load, with_settings

    if (weights := weights_of(here)) is None:
        return Painted(None, [], 0.0)
    begun_s = time.process_time()
    trained = load(weights, device)
    if trained.epoch is not None and trained.epoch == before:
        return Painted(trained.epoch, [], time.process_time() - begun_s)
    trained = with_settings(trained, {"num_threads": threads})
    try:
        files = paint(trained, open_store(store), run_dir / FOLDER, limit_s=limit_s)
    except TimeoutError:
        return Painted(trained.epoch, [], time.process_time() - begun_s, too_long=True)
    names = [path.relative_to(run_dir).as_posix() for path in files]
    return Painted(trained.epoch, names, time.process_time() - begun_s)


def _send(run_dir: Path, files: list[str]) -> None:
    study = remote_of(run_dir.parents[1])
    if study is None:
        return
    kept = study / f"{KEPT}/{run_dir.name}"
    in_parallel(lambda file: kept.upload(Path(file).name, run_dir / file), files)


def fetch_pictures(folder: Path) -> None:
    """Bring a study's pictures here, those that are not yet, if it lies in S3.

    Args:
        folder: The study's.

    Raises:
        OSError: S3 does not answer.
    """
    study = remote_of(folder)
    if study is None:
        return
    wanted = {}
    for entry in study.entries(KEPT):
        _, trial, name = entry.key.split("/")
        path = below(folder, f"trials/{trial}/samples/{name}")
        if not path.exists():
            wanted[entry.key] = path
    in_parallel(lambda key: study.download(key, wanted[key]), wanted)
