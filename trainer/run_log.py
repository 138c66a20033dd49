"""What a run measured: `metrics.jsonl`, a line a validation, and `cases.parquet`, a row a case."""

from dataclasses import dataclass, fields
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from trainer.atomic import write_atomically
from trainer.documents import from_json, to_json
from trainer.evaluation.metrics import CaseScore
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
    """

    def __init__(self, run_dir: Path, *, keeps: bool = True):
        self.keeps = keeps
        self.metrics_path = run_dir / "metrics.jsonl"
        self.cases_path = run_dir / "cases.parquet"
        self.validations: list[Validation] = []
        if keeps and self.metrics_path.exists():
            for line in self.metrics_path.read_text().splitlines():
                values = from_json(line)
                epoch, path = values.pop("epoch"), values.pop("path", "")
                self.validations.append(Validation(epoch, values, path))
        self.validations = from_first(self.validations)

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
        if self.cases_path.exists():
            earlier = pq.read_table(self.cases_path)
            kept = [e < validation.epoch for e in earlier["epoch"].to_pylist()]
            # A run begun by an earlier version has no column for what that did not measure.
            table = pa.concat_tables(
                [earlier.filter(pa.array(kept, pa.bool_())), table], promote_options="default"
            )
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
