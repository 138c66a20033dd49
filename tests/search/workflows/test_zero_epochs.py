"""A study that trains nothing, from the trainer's own fit to the Pareto set, on a real Ray."""

import json
from pathlib import Path

import pytest

from search.analysis.results import compare
from tests.search.conftest import write_study
from tests.trainer.tiny import tiny_config
from trainer.loop import fit


@pytest.mark.slow
def test_every_trial_is_one_validation(store: Path, drive, tmp_path: Path) -> None:
    source = tmp_path / "source"
    list(fit(tiny_config(store, epochs=1), source))
    study = write_study(
        tmp_path / "runs",
        store,
        study="respacing",
        train={"init_from": str(source)},
        space={
            "sampling.timestep_respacing": {"type": "categorical", "choices": [1, 2, 5]},
            "sampling.eta": {"type": "float", "low": 0, "high": 1},
        },
        further_objectives=[{"metric": "time/case_s", "mode": "min"}],
        sampler={"type": "nsga2", "population_size": 2},
        scheduler={"type": "none", "max_t": 0},
        trials={"num_trials": 4, "cpus_per_trial": 1},
        enqueue=[
            {"sampling.timestep_respacing": 2, "protected": True},
            {"sampling.timestep_respacing": 1, "sampling.eta": 0.0},
        ],
    )
    driver = drive(study, fit="trainer.loop:fit")
    driver.finish()
    assert [event["epoch"] for event in driver.events("reported")] == [0] * 5
    assert {event["ending"] for event in driver.events("ended")} == {"completed"}
    kinds = [event["kind"] for event in driver.events("proposed")]
    assert sorted(kinds) == ["enqueued", "enqueued", "sampled", "sampled", "sampled"]
    for trial in range(5):
        folder = driver.folder / "trials" / f"{trial:04d}"
        [line] = (folder / "metrics.jsonl").read_text().splitlines()
        assert json.loads(line)["time/case_s"] > 0
        assert not (folder / "checkpoints").exists()
    found = compare(driver.folder)
    assert len(found["trials"]) == 4
    reports = {event["trial"]: event["metrics"] for event in driver.events("reported")}
    points = {
        row["trial"]: (reports[row["trial"]]["val/dice"], -reports[row["trial"]]["time/case_s"])
        for row in found["trials"]
    }
    beaten = {
        trial
        for trial, (dice, speed) in points.items()
        for other in points.values()
        if other != (dice, speed) and other[0] >= dice and other[1] >= speed
    }
    assert {*found["pareto"]} == points.keys() - beaten
    # The same command finds nothing left to do.
    before = len(driver.events("reported"))
    drive(study, fit="trainer.loop:fit").finish()
    assert len(driver.events("reported")) == before
