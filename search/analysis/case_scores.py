"""A trial's validation cases: their Dice, the intervals of its mean, and lesion-volume groups."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

NUM_RESAMPLES = 2000


def read_cases(run_dir: Path, epoch: int) -> list[dict[str, Any]]:
    """Return what `cases.parquet` has of an epoch, a row a case, sorted by case.

    Empty where the cases are not at hand: nothing reported yet, or trained on another disk.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(run_dir / "cases.parquet")
        rows = table.filter(pa.compute.equal(table["epoch"], epoch)).to_pylist()
    except (OSError, KeyError, pa.ArrowException):
        return []
    return sorted(rows, key=lambda row: str(row["case_id"]))


def lesion_dice(run_dir: Path, epoch: int) -> dict[str, float] | None:
    """Return the Dice of each validation case with a lesion at an epoch, by case, sorted.

    None where the cases are not at hand, or not finite.
    """
    dice = {r["case_id"]: r["dice"] for r in read_cases(run_dir, epoch) if r["has_lesion"]}
    return dice if dice and all(map(math.isfinite, dice.values())) else None


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


def paired_difference(
    mine: Mapping[str, float] | None, theirs: Mapping[str, float] | None, seed: int
) -> dict[str, Any] | None:
    """Return the mean difference over cases, `mine - theirs`, with its bootstrap interval.

    Of one training each, so that it says nothing of what another seed would give.

    Args:
        mine: Dice by case.
        theirs: Dice by case of the other trial; None where either is not the same cases.
        seed: Of the resampling.
    """
    if mine is None or theirs is None or mine.keys() != theirs.keys():
        return None
    differences = [mine[case] - theirs[case] for case in mine]
    return {
        "mean": math.fsum(differences) / len(differences),
        "interval": bootstrap(differences, seed),
    }


def volume_groups(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return how cases of each lesion volume do: mean Dice, and false-positive mL where empty.

    Args:
        rows: As `read_cases` returns them.
    """
    from trainer.evaluation.metrics import CaseScore, by_volume

    names = CaseScore.__dataclass_fields__
    scores = [CaseScore(**{name: row.get(name, math.nan) for name in names}) for row in rows]
    return [
        {
            "name": name,
            "num_cases": len(group),
            "dice": _mean([s.dice for s in group]) if name != "empty" else None,
            "false_positive_ml": _mean([s.false_positive_ml for s in group]),
        }
        for name, group in by_volume(scores).items()
    ]


def _mean(values: Sequence[float]) -> float | None:
    if not values or not all(value is not None and math.isfinite(value) for value in values):
        return None
    return math.fsum(values) / len(values)
