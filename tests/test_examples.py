"""What examples/ shows is as it says: the trainer there continues, the notebook runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from search.execution.own_validations import own_fit
from search.study.load import load_study

ROOT = Path(__file__).parents[1]


@pytest.mark.slow  # 8 s: three times torch
def test_the_trainer_of_one_s_own_trains_and_continues(
    tmp_path: Path, phantom_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    study = load_study(
        ROOT / "examples/own_trainer/study.yaml",
        [f"train.data={phantom_store.parent}/dataset"],
    )
    params = {"optimizer.lr": 0.02, "loss.dice": 1.0, "model.width": 8}
    assert study.trainer is not None
    spec = {
        "train": study.settings(params, epochs=5),
        "trainer": study.trainer.model_dump(mode="json"),
        "run_dir": str(tmp_path / "trials" / "0000"),
        "objective": study.objective.metric,
        "received": -1,
        "trial": 0,
        "cpus": 1,
        "gpus": 0,
        "has_data": False,
    }
    whole = [v.metrics["val/dice"] for v in own_fit(spec)()]
    assert len(whole) == 5 and whole[-1] > 0.3
    again = spec | {"run_dir": str(tmp_path / "trials" / "0001")}
    first = own_fit(again)()
    assert next(first).metrics["val/dice"] == pytest.approx(whole[0])
    first.close()
    rest = {v.epoch: v.metrics["val/dice"] for v in own_fit(again | {"received": 1})()}
    assert rest == {epoch: pytest.approx(whole[epoch - 1]) for epoch in range(2, 6)}
    assert os.environ["OMP_NUM_THREADS"] == "1"


NOTEBOOK = json.loads((ROOT / "examples" / "phantom.ipynb").read_text(encoding="utf-8"))
CELLS = ["".join(c["source"]) for c in NOTEBOOK["cells"] if c["cell_type"] == "code"]


def test_the_notebook_is_committed_without_what_it_printed() -> None:
    codes = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    assert codes and not any(cell["outputs"] or cell["execution_count"] for cell in codes)


@pytest.mark.slow  # two minutes: a study on a Ray of its own
@pytest.mark.timeout(3600)
def test_the_notebook_runs_from_its_first_cell_to_its_last(tmp_path: Path) -> None:
    code = "if __name__ == '__main__':\n    names = {}\n"
    code += "".join(f"    exec(compile({cell!r}, 'cell', 'exec'), names)\n" for cell in CELLS)
    (tmp_path / "cells.py").write_text(code)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-P", "cells.py"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "mL of lesion" in done.stdout and (tmp_path / "mask.nii.gz").is_file()
    ledger = (tmp_path / "runs/from-python/ledger.jsonl").read_text()
    assert ledger.count('"event":"ended"') == 7
