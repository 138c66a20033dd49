"""What examples/ shows is as it says: the trainer there continues, and its study is sound."""

import os
from pathlib import Path

import pytest

from search.execution.own_validations import own_fit
from search.study.load import load_study

ROOT = Path(__file__).parents[1]


@pytest.mark.slow  # 8 s: three times torch
def test_the_trainer_of_one_s_own_trains_and_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    study = load_study(ROOT / "examples/own_trainer/study.yaml")
    params = {"optimizer.lr": 0.02, "model.width": 8, "model.depth": 1}
    assert study.trainer is not None
    spec = {
        "train": study.settings(params, epochs=3),
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
    assert len(whole) == 3 and whole[-1] > 0.4
    again = spec | {"run_dir": str(tmp_path / "trials" / "0001")}
    first = own_fit(again)()
    assert next(first).metrics["val/dice"] == pytest.approx(whole[0])
    first.close()
    rest = {v.epoch: v.metrics["val/dice"] for v in own_fit(again | {"received": 1})()}
    assert rest == {2: pytest.approx(whole[1]), 3: pytest.approx(whole[2])}
    assert os.environ["OMP_NUM_THREADS"] == "1"
