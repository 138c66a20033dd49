"""What confirming measures on trained models: the sealed test set, and the best as it is used."""

import json
import random
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from search.analysis.results import compare
from search.report.leaderboard import leaderboard
from search.workflows.confirming.as_used import num_validations
from search.workflows.confirming.confirm import confirm
from search.workflows.confirming.models import read_one, record, use_one
from search.workflows.replay import replay
from tests.search import offline
from tests.search.conftest import events
from tests.search.toy import dice
from tests.search.workflows.confirmed_study import (
    confirming,
    folder,
    newest,
    no_weights_and_no_mlflow,
    words,
)
from tests.search.workflows.test_resume import driver
from tests.trainer.tiny import tiny_config
from trainer.config import ValidationConfig
from trainer.configfile import ConfigError
from trainer.data.store import Store
from trainer.evaluation.sealed_readings import readings_file
from trainer.evaluation.validate import Validator, summarize
from trainer.loop import fit
from trainer.saved.model_io import load

__all__ = ["folder", "no_weights_and_no_mlflow"]


@pytest.fixture(autouse=True)
def readings_are_forgotten(store: Path) -> Iterator[None]:
    """Readings are counted beside the store, which other tests have too."""
    yield
    readings_file(store).unlink(missing_ok=True)


def test_the_sealed_test_set(
    folder: Path, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each model's reading is a line of the ledger; what was read is not read again."""
    read: list[int] = []

    def read_test_set(session, trials, address):
        known = {event["trial"] for event in session.state.test_readings}
        for trial in trials:
            if trial.number not in known:
                read.append(trial.number)
                lr = trial.config(session.study).optimizer.lr
                noise = random.Random(trial.number)
                values = {f"t{i}": dice(lr, 3) + noise.uniform(-0.01, 0.01) for i in range(20)}
                reading = {"metrics": {"test/dice": 0.5}, "threshold": 0.4, "reading": 1}
                record(session, trial, reading | {"dice": values})

    monkeypatch.setattr("search.workflows.confirming.models.read_test_set", read_test_set)
    confirm(folder, top=2, seeds=3, test=True)
    assert len(read) == len(set(read)) == len(events(folder, "test_read")) == 12
    validation, test = compare(folder)["verdicts"]
    assert (validation["on"], test["on"]) == ("validation", "test")
    assert test["same_cases"] and not validation["same_cases"]
    assert words(test)["control", 4, 0] == "better"
    assert all(row["num_cases"] == [20, 20, 20] for row in test["scores"])
    confirm(folder, top=2, seeds=3, test=True)
    assert len(read) == 12 and len(events(folder, "verdict")) == 2
    assert "confirmed on the sealed test set" in leaderboard(folder)


def test_a_reading_of_the_test_set(
    tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real trainer's: a threshold frozen first, then the test cases; the second is told."""
    config = tiny_config(store, epochs=1, epoch_images=4)
    live_folder = tmp_path / "toy"
    run_dir = live_folder / "trials" / "0000"
    list(fit(config, run_dir))
    readings = [read_one(run_dir, str(store), "cpu") for _ in range(2)]
    assert [reading["reading"] for reading in readings] == [1, 2]
    assert readings[0]["dice"] == readings[1]["dice"]
    assert {*readings[0]["dice"]} == {case.case_id for case in Store.open(store).test_cases()}
    assert readings[0]["metrics"]["test/dice"] == pytest.approx(
        np.mean([*readings[0]["dice"].values()])
    )
    frozen = json.loads((run_dir / "threshold.json").read_text())
    assert readings[0]["threshold"] == frozen["threshold"]
    with offline.opened(offline.study(store), live_folder) as session:
        offline.propose(session)
        for reading in readings:
            record(session, session.state.trials[0], reading)
    first, second = capsys.readouterr().out.splitlines()[-2:]
    assert "NOT A FIRST LOOK: reading 2" in second and "LOOK" not in first


def test_the_best_as_it_is_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The best candidate's three models alone, once, beside the verdict."""
    asked: list[list[int]] = []

    def score_as_used(session, trials, address):
        assert session.state.verdicts, "what took hours to train is kept before this takes more"
        left = [trial for trial in trials if trial.number not in session.state.as_used]
        asked.append([trial.of for trial in left])
        for number, trial in enumerate(left):
            cases = [
                {"case_id": f"{trial.fold}/{i}", "dice": 0.6 + 0.01 * number, "has_lesion": True}
                for i in range(4)
            ]
            session.record({"event": "used", "trial": trial.number, "epoch": 3, "cases": cases})

    confirm(folder, top=2, seeds=3)
    assert "as used    not measured: 0007: has no weights" in capsys.readouterr().out
    monkeypatch.setattr("search.workflows.confirming.models.score_as_used", score_as_used)
    confirm(folder, top=2, seeds=3, as_used=False)
    said = capsys.readouterr().out
    assert asked == [] and "as used" not in said and "confirmed on folds" in said
    assert "as_used" not in newest(folder) and "as it is used" not in leaderboard(folder)
    for _ in range(2):
        confirm(folder, top=2, seeds=3)
    assert asked == [[4, 4, 4], []]
    used = newest(folder)["as_used"]
    assert used["trial"] == 4 and used["mean"] == pytest.approx(0.61)
    assert used["interval"][0] < 0.61 < used["interval"][1]
    assert used["sampling"]["num_ensemble"] == 8
    said = "trial 4 as it is used, the mean of 8 masks of ddim in 10 steps: Dice 0.6100, 95 %"
    assert said in leaderboard(folder) and said in capsys.readouterr().out
    assert len(events(folder, "verdict")) == 2, "the second says more, the third the same"


@pytest.mark.parametrize(
    ("settings", "times"),
    [
        ({}, 80),  # 10 steps and 8 masks against one
        ({"diffusion.target": "eps"}, 27),  # against three steps
        ({"sampling.timestep_respacing": "2,3", "sampling.num_ensemble": 1}, 5),
        ({"model.family": "unet"}, 1),
        ({"validation.steps": "sampling"}, 0),
    ],
)
def test_how_many_validations_the_use_of_a_model_takes(
    store: Path, settings: dict, times: int
) -> None:
    study = offline.study(store, train=settings)
    assert num_validations(study.train_config({}, epochs=3)) == times


def test_scored_as_it_is_used(tmp_path: Path, store: Path) -> None:
    """The real trainer's: as many steps and masks as `sampling` says, not as its validations."""
    config = tiny_config(store, epochs=1, epoch_images=4)
    list(fit(config, tmp_path))
    found = use_one(tmp_path, str(store), "cpu")
    assert found["epoch"] == 1 and found["sampling"] == config.sampling.model_dump(mode="json")
    as_used = config.model_copy(update={"validation": ValidationConfig(steps="sampling")})
    trained = load(tmp_path, "cpu")
    held_out = Store.open(store).split(0)[1]
    validator = Validator(Store.open(store), held_out, as_used, trained.process, trained.device)
    scores = validator.validate(trained.model, 1, batch_size=4, autocast=trained.autocast)
    assert found["cases"] == [asdict(s) for s in sorted(scores, key=lambda s: s.case_id)]
    assert found["metrics"]["val/dice"] == pytest.approx(summarize(scores)["val/dice"])


def test_no_test_cases(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.data.store.Store.test_cases", lambda self: [])
    before = len(events(folder, "proposed"))
    with pytest.raises(ConfigError, match="has no test cases"):
        confirm(folder, top=1, seeds=3, test=True)
    assert len(events(folder, "proposed")) == before


@pytest.mark.nightly
def test_the_real_trainer_with_ray(tmp_path: Path, store: Path, cluster: str) -> None:
    """As far as verdicts on the test set, each model reading it once; and a trial replayed."""
    folder = tmp_path / "runs" / "toy"
    train = {"model.width": 8, "model.depth": 3, "epoch_images": 8, "batch.effective": 4}
    train |= {"sampling.timestep_respacing": 3, "sampling.threshold": 0.05, "device": "cpu"}
    config = offline.study(store, train=train, enqueue=[], trials={"num_trials": 2})
    with offline.opened(config, folder) as session:
        offline.propose(session)
        for trial in session.state.live():
            offline.train(session, trial, fit)
    for _ in range(2):
        options = {"top": 1, "seeds": 3, "test": True, "fit": "trainer.loop:fit"}
        process = driver(folder, cluster, confirm, **options)
        assert process.wait(1120) == 0, process.log.read_text()
        out = process.log.read_text()
        assert "confirmed on the sealed test set" in out and "LOOK" not in out
    assert "read by 9 of 9 models before" in out
    assert "as it is used" in out and len(events(folder, "used")) == 3
    assert len(events(folder, "test_read")) == len(confirming(folder)) == 9
    assert len(events(folder, "verdict")) == 3, "as trained, as used, and on the test set"
    assert replay(folder, confirming(folder)[0].number), "what Ray's worker trained, to the bit"
