"""A run folder that an earlier version began goes on."""

from pathlib import Path

import pyarrow.parquet as pq

from trainer.evaluation.metrics import CaseScore
from trainer.run_log import RunLog, Validation


def test_cases_of_an_earlier_version_lack_what_it_did_not_measure(tmp_path: Path) -> None:
    score = CaseScore("a", 0.5, 1, 0.5, 1, 3.0, 10, 9, 1, True)
    record = RunLog(tmp_path)
    record.add(Validation(1, {"val/dice": 0.5}), [score])
    path = tmp_path / "cases.parquet"
    pq.write_table(pq.read_table(path).drop_columns("hd95_mm"), path)
    record.add(Validation(2, {"val/dice": 0.6}), [score])
    assert pq.read_table(path)["epoch"].to_pylist() == [1, 2]
    assert pq.read_table(path)["hd95_mm"].to_pylist() == [None, 3.0]
