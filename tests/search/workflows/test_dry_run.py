"""What `--dry-run` foresees, against closed forms and real stores' manifests."""

import json
from pathlib import Path

import numpy as np
import pytest

from search.study.config import StudyConfig
from search.study.rungs import Rung, expected_epochs, rung_table
from search.workflows.preview.dry_run import preview, store_problems


def study(**changes) -> StudyConfig:
    values = {
        "study": "demo",
        "data": {"store": "store"},
        "space": {"optimizer.lr": {"type": "float", "low": 1e-5, "high": 1e-3, "log": True}},
        "scheduler": {"grace_period": 1, "max_t": 27, "reduction_factor": 3},
        "trials": {"num_trials": 24},
    }
    return StudyConfig.model_validate(values | changes)


def expected_to_pass(trials: int, reduction_factor: int) -> float:
    """Return how many of exchangeable trials pass a rung on average, in closed form.

    The first does. One that follows j others has any of j + 1 ranks with equal probability, and
    j - (j - 1) * (1 - 1/reduction_factor) of these lie above the interpolated cutoff.
    """
    chances = [(1 + (j - 1) / reduction_factor) / (j + 1) for j in range(1, trials)]
    return 1 + sum(chances)


@pytest.mark.parametrize("reduction_factor", [2, 3, 4])
@pytest.mark.parametrize("num_trials", [1, 12, 100])
def test_expected_to_pass_the_first_rung(reduction_factor, num_trials):
    scheduler = {"grace_period": 2, "max_t": 6, "reduction_factor": reduction_factor}
    config = study(scheduler=scheduler, trials={"num_trials": num_trials})
    first, second = rung_table(config)[:2]
    assert first.trials == num_trials
    assert second.trials == pytest.approx(expected_to_pass(num_trials, reduction_factor), rel=0.06)


def test_expected_in_brackets():
    scheduler = {"grace_period": 1, "max_t": 27, "reduction_factor": 3, "brackets": 3}
    table = rung_table(study(scheduler=scheduler, trials={"num_trials": 100}))
    assert [(rung.bracket, rung.epoch) for rung in table] == [
        *[(0, 1), (0, 3), (0, 9), (0, 27)],
        *[(1, 3), (1, 9), (1, 27)],
        *[(2, 9), (2, 27)],
    ]
    shares = np.exp([3, 2, 1]) / np.exp([3, 2, 1]).sum()
    first = [table[0].trials, table[4].trials, table[7].trials]
    assert first == pytest.approx(100 * shares, abs=3)


def test_epochs_that_are_expected_add_up_over_rungs():
    rungs = [Rung(0, 1, 10, 0), Rung(0, 3, 4, 0), Rung(1, 3, 5, 0), Rung(1, 9, 2, 0)]
    assert expected_epochs(rungs) == (10 * 1 + 4 * 2) + (5 * 3 + 2 * 6)
    none = study(scheduler={"type": "none", "max_t": 9})
    assert expected_epochs(rung_table(none)) == 24 * 9


def test_the_rung_table_shows_trials_expected():
    rows = rung_table(study(train={"epoch_images": 200}))
    assert [(rung.epoch, rung.images) for rung in rows] == [
        (1, 200),
        (3, 600),
        (9, 1800),
        (27, 5400),
    ]
    assert rows[0].trials == 24
    assert 24 / 3 < rows[1].trials < 24 / 2


def test_preview_says_everything():
    config = study(
        train={"model.width": 16},
        enqueue=[{"optimizer.lr": 1e-4, "protected": True}, {"optimizer.lr": 2e-4}],
    )
    lines = [" ".join(line.split()) for line in preview(config).splitlines()]
    for line in (
        "study demo",
        f"data {Path('store').resolve()}, fold 0",
        "trials 24 searched (1 enqueued), 1 control, 1 reference",
        "model.width 16",
        "model.depth 4 (default)",
        "epochs 27",
        "optimizer.lr float 1e-05 to 0.001, log",
        "control model.family=unet",
        "reference optimizer.lr=0.0001",
        "enqueued optimizer.lr=0.0002",
        "0 1 24.0 1000",
    ):
        assert line in lines
    assert any(line.startswith("0 27 (max_t) ") for line in lines)


def test_preview_says_what_is_stated():
    space = {"diffusion.target": {"type": "categorical", "choices": ["eps", "v"], "prior": "v"}}
    text = preview(study(space=space))
    assert "one of eps, v; prior v, confidence medium" in text
    assert "at random, beside draws around the prior\n" in text


def test_preview_says_what_ends_trials_and_the_study():
    config = study(
        sampler={"type": "nsga2", "population_size": 6},
        stall={"patience": 4, "min_delta": 0.01},
        budget={"epochs": 100, "wall_hours": 1.5},
        further_objectives=[{"metric": "time/case_s", "mode": "min"}],
    )
    lines = [" ".join(line.split()) for line in preview(config).splitlines()]
    for line in (
        "and time/case_s (min)",
        "sampler nsga2, generations of 6",
        "stall after 4 epochs without an improvement of 0.01, counted from epoch 1 at the earliest",
        "budget 100 epochs, 1.5 wall hours",
    ):
        assert line in lines
    assert lines[-1].endswith("648 without a scheduler; 27 for the control and the references")
    assert "stall none" in [" ".join(line.split()) for line in preview(study()).splitlines()]


def test_preview_of_a_study_that_trains_nothing():
    config = study(
        train={"init_from": "/runs/first/trials/0007"},
        space={"sampling.eta": {"type": "float", "low": 0, "high": 1}},
        scheduler={"type": "none", "max_t": 0},
    )
    text = preview(config)
    assert "24 searched (0 enqueued), no control, 0 references" in text
    assert "rungs" not in text and "tried first" not in text
    assert text.endswith("each trial is one validation of /runs/first/trials/0007")


def test_preview_shows_lists_as_lists():
    space = {
        "data.modalities": {"type": "categorical", "choices": [["ncct"], ["ncct", "tmax"]]},
        "data.windows.tmax": {
            "type": "categorical",
            "choices": ["w10l5", [0, 7]],
            "when": {"data.modalities": [["ncct", "tmax"]]},
        },
    }
    lines = [" ".join(line.split()) for line in preview(study(space=space)).splitlines()]
    assert "data.modalities one of [ncct], [ncct, tmax]" in lines
    when = "when data.modalities is [ncct, tmax]"
    assert f"data.windows.tmax one of w10l5, [0, 7], {when}" in lines


def test_preview_says_how_a_trial_is_shared():
    assert "workers" not in preview(study())
    trials = {"num_trials": 1, "cpus_per_trial": 8, "gpus_per_trial": 2}
    assert "8 CPUs, 2 GPUs, shared equally by 2 workers" in preview(study(trials=trials))


def manifest(folder: Path, **changes) -> str:
    values = {
        "cases": [
            {"case_id": f"{fold}{lesion_ml}", "split": split, "fold": fold, "lesion_ml": lesion_ml}
            for split, fold, lesion_ml in (
                ("train", 0, 1.0),
                ("train", 1, 0.0),
                ("train", 2, 1.0),
                ("test", None, 1.0),
            )
        ],
        "modalities": ["cbf", "tmax"],
        "image_size": 32,
    }
    (folder / "manifest.json").write_text(json.dumps(values | changes))
    return str(folder)


def test_problems_with_the_store(tmp_path):
    assert store_problems(study(data={"store": manifest(tmp_path), "fold": 2})) == []
    [line] = store_problems(study(data={"store": manifest(tmp_path), "fold": 3}))
    assert line.endswith(
        "fold 3 leaves 3 training and 0 validation cases, but needs one of each; validate with "
        "another: data.fold=0 or 2"
    )
    [line] = store_problems(study(data={"store": manifest(tmp_path), "fold": 1}))
    assert "no lesion in the validation cases of fold 1; validate with another" in line
    data = {"store": manifest(tmp_path)}
    [line] = store_problems(study(data=data, train={"data.modalities": ["tmx"]}))
    assert line == ("train.data.modalities: 'tmx': the store has cbf, tmax; did you mean tmax?")
    space = {"data.modalities": {"type": "categorical", "choices": [["cbf"], ["cbv", "tmax"]]}}
    [line] = store_problems(study(data=data, space=space))
    assert line == "space.data.modalities: 'cbv': the store has cbf, tmax; did you mean cbf?"
    depth = {"model.depth": {"type": "int", "low": 2, "high": 7}}
    [line] = store_problems(study(data=data, space=depth))
    assert line == (
        "model.depth: 7: needs slices of a multiple of 64 pixels, but the store's have 32"
    )
    data = {"store": str(tmp_path / "missing")}
    [line] = store_problems(study(data=data))
    assert line.endswith("missing: not a prepared store; make one: segtune prepare DATASET OUT")
    (tmp_path / "manifest.json").write_text("{")
    [line] = store_problems(study(data={"store": str(tmp_path)}))
    assert "damaged store" in line


def test_a_prepared_store_has_no_problems(phantom_store):
    assert store_problems(study(data={"store": str(phantom_store)})) == []
