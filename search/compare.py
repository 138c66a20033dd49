"""The leaderboard: the searched trials ranked, what they must be compared with beside them."""

import io
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from search.ledger import Ledger
from search.preview import align
from search.state import StudyState, TrialState, threshold_rule
from search.study import StudyConfig
from trainer.configfile import ConfigError, build

LABEL = "selected on, optimistic"
"""What the numbers of a search are: the best of many on one validation fold."""

NUM_RESAMPLES = 2000


def read_study(folder: Path) -> tuple[StudyConfig, StudyState]:
    """Read a study as its ledger has it, also while it runs.

    Raises:
        ValueError: The ledger is damaged, or has no settings.
        OSError: There is no ledger.
    """
    path = folder / "ledger.jsonl"
    state = StudyState.replay(Ledger.open(path, writer=False).events)
    if state.study is None:
        raise ConfigError([f"{path}: has no settings: its first launch did not get far; launch it"])
    return build(StudyConfig, state.study["config"], path), state


def compare(folder: Path) -> dict[str, Any]:
    """Return a study's results as JSON values.

    A trial's numbers are those of its last epoch reported, whether it completed or was stopped
    there; `epochs` says which. Trials without a finite value come last, without a rank.

    Returns:
        `trials` (ranked), `references` (the control and the protected, in no order of merit) and
        `threshold`, each with Dice; `epochs_saved`, the share that ASHA spared.
    """
    study, state = read_study(folder)
    sign = -1.0 if study.objective.mode == "max" else 1.0
    rows = [_row(study, trial, folder) for trial in state.searched()]
    rows.sort(key=lambda row: math.inf if row["value"] is None else sign * row["value"])
    for rank, row in enumerate(rows, start=1):
        row["rank"] = None if row["value"] is None else rank
    return {
        "study": study.study,
        "folder": str(folder),
        "label": LABEL,
        "objective": study.objective.model_dump(),
        "max_t": study.scheduler.max_t,
        "searched": list(study.space),
        "trials": rows,
        "references": [_row(study, t, folder) for t in state.trials.values() if t.protected],
        "threshold": state.threshold
        and {key: _finite(value) for key, value in state.threshold.items() if key != "event"},
        "epochs_saved": epochs_saved(study, state),
    }


def epochs_saved(study: StudyConfig, state: StudyState) -> float | None:
    """Return the share of epochs that ASHA saved, None before a searched trial has ended.

    Of all the epochs that the ended searched trials would have taken, each to max_t, those after
    the epoch at which ASHA stopped a trial. What a diverged or failed trial left out is no saving.
    """
    ended = [trial for trial in state.searched() if trial.ending]
    if not ended:
        return None
    max_t = study.scheduler.max_t
    spared = sum(max_t - trial.epoch for trial in ended if trial.ending == "stopped")
    return spared / (max_t * len(ended))


def _row(study: StudyConfig, trial: TrialState, folder: Path) -> dict[str, Any]:
    metrics = trial.reports[-1].metrics if trial.reports else {}
    interval = _interval(study, trial, folder)
    return {
        "trial": trial.number,
        "kind": trial.kind,
        "ending": trial.ending,
        "reason": trial.reason,
        "epochs": trial.epoch,
        "value": _finite(trial.value),
        "dice": _finite(metrics.get("val/dice")),
        "dice_interval": interval,
        "metrics": {key: _finite(value) for key, value in metrics.items()},
        "params": trial.params,
    }


def _finite(value: Any) -> Any:
    """Return what strict JSON can hold: None for a float that is not finite."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _interval(study: StudyConfig, trial: TrialState, folder: Path) -> list[float] | None:
    """Return the 95 % interval of a trial's Dice at its last epoch, over its cases with a lesion.

    None where the cases are not at hand (no report yet, or trained on another disk) or not finite.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / "trials" / f"{trial.number:04d}" / "cases.parquet"
    try:
        table = pq.read_table(path, columns=["epoch", "case_id", "dice", "has_lesion"])
    except (OSError, pa.ArrowException):
        return None
    dice = {
        row["case_id"]: row["dice"]
        for row in table.to_pylist()
        if row["epoch"] == trial.epoch and row["has_lesion"]
    }
    if not dice or not all(map(math.isfinite, dice.values())):
        return None
    return bootstrap([dice[case] for case in sorted(dice)], study.seed)


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


def leaderboard(folder: Path) -> str:
    """Return a study's results as text: a table for a terminal, plain aligned lines otherwise."""
    result = compare(folder)
    ranked, beside = _cells(result)
    title = f"{result['study']}: Dice of each trial's last epoch on its validation fold ({LABEL})"
    table = _rich(ranked, beside) if sys.stdout.isatty() else _plain(ranked, beside)
    notes = []
    if (metric := result["objective"]["metric"]) != "val/dice":
        notes.append(f"ranked by {metric}")
    notes.append("[…]: 95 % bootstrap interval over the cases with a lesion")
    if (saved := result["epochs_saved"]) is not None:
        ended = sum(row["ending"] is not None for row in result["trials"])
        notes.append(
            f"ASHA saved {saved:.0%} of the epochs of training all {ended} ended trials "
            f"to epoch {result['max_t']}"
        )
    return "\n".join([title, "", table, "", *notes])


Cells = list[list[str]]


def _cells(result: dict[str, Any]) -> tuple[Cells, Cells]:
    """Return the rows of the ranking below its head, and of what stands beside it."""
    searched = result["searched"]
    metric = result["objective"]["metric"]
    own = [] if metric == "val/dice" else [metric]

    def cells(row: dict[str, Any], first: str) -> list[str]:
        low_high = row["dice_interval"]
        return [
            first,
            str(row["trial"]),
            row["ending"] or "going on",
            str(row["epochs"]),
            _number(row["dice"]),
            f"[{low_high[0]:.3f}, {low_high[1]:.3f}]" if low_high else "",
            *[_number(row["value"]) for _ in own],
            *[_param(row["params"].get(name, "")) for name in searched],
        ]

    head = ["rank", "trial", "ending", "epochs", "Dice", "", *own, *searched]
    ranked = [head, *(cells(row, str(row["rank"] or "-")) for row in result["trials"])]
    beside = [
        cells(row, "control (U-Net)" if row["kind"] == "control" else "reference")
        for row in result["references"]
    ]
    if threshold := result["threshold"]:
        row = ["threshold", "", threshold_rule(threshold), "", _number(threshold["dice"])]
        beside.append(row + [""] * (len(head) - len(row)))
    return ranked, beside


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _param(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _plain(ranked: Cells, beside: Cells) -> str:
    lines = align([*ranked, *beside]).splitlines()
    return "\n".join([*lines[: len(ranked)], "", "not ranked:", *lines[len(ranked) :]])


def _rich(ranked: Cells, beside: Cells) -> str:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for name in ranked[0]:
        table.add_column(name, overflow="fold")
    for row in ranked[1:]:
        table.add_row(*map(Text, row))
    table.add_section()
    for row in beside:
        table.add_row(*map(Text, row), style="dim")
    console = Console(file=io.StringIO(), force_terminal=True, width=Console().width)
    console.print(table)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text.rstrip()
