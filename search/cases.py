"""A trial's Dice case by case, and the interval of its mean."""

import math
from collections.abc import Sequence
from pathlib import Path

NUM_RESAMPLES = 2000


def lesion_dice(run_dir: Path, epoch: int) -> dict[str, float] | None:
    """Return the Dice of each validation case with a lesion at an epoch, by case, sorted.

    None where the cases are not at hand (nothing reported yet, or trained on another disk) or not
    finite.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = ["epoch", "case_id", "dice", "has_lesion"]
    try:
        table = pq.read_table(run_dir / "cases.parquet", columns=columns)
    except (OSError, pa.ArrowException):
        return None
    dice = {
        row["case_id"]: row["dice"]
        for row in table.to_pylist()
        if row["epoch"] == epoch and row["has_lesion"]
    }
    if not dice or not all(map(math.isfinite, dice.values())):
        return None
    return {case: dice[case] for case in sorted(dice)}


def bootstrap(values: Sequence[float], seed: int) -> list[float]:
    """Return the [2.5, 97.5] percentiles of the mean under resampling (Efron 1979).

    Trials with equally many cases draw the same resamples, so their intervals differ only by what
    they achieved.

    Args:
        values: (n,), one per case.
        seed: Of the resampling.
    """
    import numpy as np

    draws = np.random.default_rng(seed).integers(len(values), size=(NUM_RESAMPLES, len(values)))
    low, high = np.percentile(np.asarray(values)[draws].mean(axis=1), [2.5, 97.5])
    return [float(low), float(high)]
