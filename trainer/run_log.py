"""What a run measured: `metrics.jsonl`, a line a validation, and `cases.parquet`, a row a case."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from trainer.evaluation.metrics import CaseScore
from trainer.files.atomic import write_atomically
from trainer.files.damaged import cases_before, set_aside, validations_in
from trainer.files.documents import to_json
from trainer.training.distributed import from_first


@dataclass(frozen=True)
class Validation:
    """One validation: its epoch and metrics by key (`val/dice`, `train/loss`, `time/epoch_s`…)."""

    epoch: int
    metrics: dict[str, float]
    path: str = ""
    """How a GPU's steps were computed: `graph`, `kernels`, both, or `plain`; empty for a CPU."""


class RunLog:
    """The validations of one run folder, in order of epochs.

    Of several processes only the first keeps files; all know the validations.

    Args:
        run_dir: The folder.
        keeps: Whether this process reads and writes the files.
        judged: Returns the weights that the last validation judged, in which it stands as well:
            asked where the file is damaged.
    """

    def __init__(
        self,
        run_dir: Path,
        *,
        keeps: bool = True,
        judged: Callable[[], Mapping[str, Any] | None] = lambda: None,
    ):
        self.keeps = keeps
        self.metrics_path = run_dir / "metrics.jsonl"
        self.cases_path = run_dir / "cases.parquet"
        self.validations: list[Validation] = []
        if keeps:
            self._read(judged)
        self.validations = from_first(self.validations)

    def _read(self, judged: Callable[[], Mapping[str, Any] | None]) -> None:
        lines, whole = validations_in(self.metrics_path)
        for values in lines:
            epoch, path = values.pop("epoch"), values.pop("path", "")
            self.validations.append(Validation(epoch, values, path))
        if whole:
            return
        set_aside(self.metrics_path)
        last = judged()
        if last and "metrics" in last and not self.has(last["epoch"]):
            self.validations.append(Validation(last["epoch"], dict(last["metrics"])))
            self.validations.sort(key=lambda each: each.epoch)
        self._write_metrics()

    def forget_after(self, epoch: int) -> None:
        """Drop validations later than `epoch`: their training is not in the checkpoint."""
        kept = [v for v in self.validations if v.epoch <= epoch]
        if len(kept) < len(self.validations):
            self.validations = kept
            self._write_metrics()

    def has(self, epoch: int) -> bool:
        return any(v.epoch == epoch for v in self.validations)

    def add(self, validation: Validation, scores: list[CaseScore]) -> None:
        """Record one validation; cases first, so that a metrics line never lacks them."""
        if self.keeps:
            self._write_cases(validation, scores)
        self.validations.append(validation)
        self._write_metrics()

    def _write_cases(self, validation: Validation, scores: list[CaseScore]) -> None:
        table = pa.table(
            {"epoch": [validation.epoch] * len(scores)}
            | {f.name: [getattr(score, f.name) for score in scores] for f in fields(CaseScore)}
        )
        if (earlier := cases_before(self.cases_path, validation.epoch)) is not None:
            # A run begun by an earlier version has no column for what that did not measure.
            table = pa.concat_tables([earlier, table], promote_options="default")
        write_atomically(self.cases_path, lambda path: pq.write_table(table, path))

    def _write_metrics(self) -> None:
        if not self.keeps:
            return
        lines = [
            to_json(
                {"epoch": v.epoch} | v.metrics | ({"path": v.path} if v.path else {}),
                indent=None,
                allow_nan=True,
            )
            + "\n"
            for v in self.validations
        ]
        write_atomically(self.metrics_path, lambda path: path.write_text("".join(lines)))
