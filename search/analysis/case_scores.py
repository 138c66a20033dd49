"""A trial's validation cases: their scores, differences of two trials, and lesion-volume groups."""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from search.analysis.intervals import Scale, difference_interval, mean_interval, student_error
from search.ledger.trial_state import TrialState
from search.study.config import StudyConfig


class CaseMetric(NamedTuple):
    """A metric that is a mean over cases."""

    column: str
    """In `cases.parquet`."""
    over: Literal["lesion", "empty", "all"]
    """Which cases it averages."""
    scale: Scale


CASE_METRICS = {
    "val/dice": CaseMetric("dice", "lesion", Scale(1, "max")),
    "val/dice_official": CaseMetric("dice", "all", Scale(1, "max")),
    "val/lesion_f1": CaseMetric("lesion_f1", "all", Scale(1, "max")),
    "val/avd_ml": CaseMetric("avd_ml", "all", Scale(math.inf, "min")),
    "val/lesion_count_diff": CaseMetric("lesion_count_diff", "all", Scale(math.inf, "min")),
    "val/hd95_mm": CaseMetric("hd95_mm", "all", Scale(math.inf, "min")),
    "val/false_positive_ml": CaseMetric("false_positive_ml", "empty", Scale(math.inf, "min")),
}
"""As `trainer.evaluation.validate.means` averages them; what else a study may optimise is none."""
DICE = CASE_METRICS["val/dice"]


def case_metric(metric: str, mode: Literal["max", "min"] = "max") -> CaseMetric:
    """Return how a metric that another trainer reports is a mean over its cases: over all of them.

    Nothing is known of its bounds.

    Args:
        metric: Its name.
        mode: Which way it is better, where it is none of CASE_METRICS.
    """
    return CASE_METRICS.get(metric, CaseMetric("value", "all", Scale(math.inf, mode, -math.inf)))


def read_cases(run_dir: Path, epoch: int) -> list[dict[str, Any]]:
    """Return what `cases.parquet` has of an epoch, a row a case, sorted by case.

    Empty where the cases are not at hand: nothing reported yet, or trained on another disk.
    """
    path = run_dir / "cases.parquet"
    if not path.exists():
        return []
    import pyarrow as pa

    try:
        about = path.stat()
        table = _table(path, about.st_ino, about.st_mtime_ns, about.st_size)
        rows = _rows_at(table, epoch)
    except (OSError, KeyError, pa.ArrowException):
        return []
    return sorted(rows, key=lambda row: str(row["case_id"]))


def _rows_at(table: Any, epoch: int) -> list[dict[str, Any]]:
    """Return the rows of an epoch, without pyarrow.compute, whose import takes half a second."""
    epochs = table["epoch"].to_pylist()
    if epoch not in epochs:
        return []
    first, last = epochs.index(epoch), len(epochs) - epochs[::-1].index(epoch)
    return [r for r in table.slice(first, last - first).to_pylist() if r["epoch"] == epoch]


@lru_cache(maxsize=1)  # whoever asks for one epoch of a trial often asks for another
def _table(path: Path, *_stamp: int) -> Any:
    import pyarrow.parquet as pq

    return pq.ParquetFile(path).read(use_threads=False)  # three times as fast as read_table


def lesion_dice(run_dir: Path, epoch: int) -> dict[str, float] | None:
    """Return the Dice of each validation case with a lesion at an epoch, by case, sorted.

    None where the cases are not at hand, or not finite.
    """
    return case_values(read_cases(run_dir, epoch), DICE)


def dice_of(
    study: StudyConfig, trial: TrialState, epoch: int, run_dir: Path
) -> dict[str, float] | None:
    """Return `lesion_dice` from the ledger where that has all of it, to five digits; else as there.

    Args:
        study: The trial's.
        trial: The trial.
        epoch: One that it reported.
        run_dir: Its folder.
    """
    if study.objective.metric == "val/dice":
        report = next((each for each in reversed(trial.reports) if each.epoch == epoch), None)
        if report and (by_case := report.by_case):
            return by_case
    return lesion_dice(run_dir, epoch)


def case_values(rows: Sequence[Mapping[str, Any]], metric: CaseMetric) -> dict[str, float] | None:
    """Return a metric of each case that it averages, by case; None where one is not finite.

    Args:
        rows: With what `trainer.evaluation.metrics.CaseScore` has.
        metric: Of CASE_METRICS.
    """
    kept = [row for row in rows if metric.over in ("all", _kind(row))]
    # A run of an earlier version has no column for what that did not measure.
    values = {row["case_id"]: float(row.get(metric.column, math.nan)) for row in kept}
    return values if values and all(map(math.isfinite, values.values())) else None


def _kind(row: Mapping[str, Any]) -> str:
    return "lesion" if row["has_lesion"] else "empty"


def paired_difference(
    mine: Mapping[str, float] | None, theirs: Mapping[str, float] | None
) -> dict[str, Any] | None:
    """Return the mean difference of Dice over cases, `mine - theirs`, with its interval.

    Of one training each, so that it says nothing of what another seed would give.

    Args:
        mine: Dice by case.
        theirs: Dice by case of the other trial; None where either is not the same cases.

    Returns:
        `mean`, its `std_error`, None for one case, and `interval`, None where there are too few
        cases to tell.
    """
    import numpy as np

    if mine is None or theirs is None or mine.keys() != theirs.keys():
        return None
    found = difference_interval([*mine.values()], [theirs[case] for case in mine], DICE.scale)
    differences = [mine[case] - theirs[case] for case in mine]
    return {
        "mean": math.fsum(differences) / len(differences),
        "std_error": student_error(np.array(differences))[0][0] if differences[1:] else None,
        "interval": found,
    }


def intervals_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[float] | None]:
    """Return the 95 % interval of each of CASE_METRICS that is finite on all its cases.

    Args:
        rows: As `read_cases` returns them.
    """
    return {
        name: mean_interval([*values.values()], metric.scale)
        for name, metric in CASE_METRICS.items()
        if (values := case_values(rows, metric))
    }


def volume_groups(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return how cases of each lesion volume do: mean Dice, and false-positive mL where empty.

    `dice_interval` is None where there are too few cases to tell.

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
            "dice_interval": (
                mean_interval([s.dice for s in group], DICE.scale)
                if group and name != "empty"
                else None
            ),
            "false_positive_ml": _mean([s.false_positive_ml for s in group]),
        }
        for name, group in by_volume(scores).items()
    ]


def _mean(values: Sequence[float]) -> float | None:
    if not values or not all(value is not None and math.isfinite(value) for value in values):
        return None
    return math.fsum(values) / len(values)
