"""A study as Optuna's: what was searched, as the ledger has it."""

from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

import segtune
from search.sampler.sampler import UNTRAINABLE
from search.storage.studies import read_study
from tests.search import offline

COMPLETE = TrialState.COMPLETE
ENDINGS = {
    "completed": TrialState.COMPLETE,
    "stalled": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "diverged": TrialState.PRUNED,
    "infeasible": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    "": TrialState.RUNNING,
}


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_optuna_draws_it(work: Path) -> None:
    study = segtune.study("runs/mine").optuna()
    for draw in (optuna.visualization, optuna.visualization.matplotlib):
        draw.plot_optimization_history(study)
        draw.plot_intermediate_values(study)
        draw.plot_parallel_coordinate(study)
        draw.plot_timeline(study)
    history = optuna.visualization.plot_optimization_history(study)
    assert study.metric_names == ["val/dice"]
    assert [*history.data[0].y] == [
        trial.value for trial in study.trials if trial.state == COMPLETE
    ]


def test_it_says_what_the_leaderboard_says(work: Path) -> None:
    ours = segtune.study("runs/mine")
    table, found = ours.trials(), ours.optuna()
    searched = table[table["rank"].notna()].sort_index()
    assert [trial.user_attrs["trial"] for trial in found.trials] == [*searched.index]
    assert [trial.value for trial in found.trials] == [*searched["value"]]
    assert [trial.params["optimizer.lr"] for trial in found.trials] == [*searched["optimizer.lr"]]
    complete = searched[searched.ending == "completed"]
    assert found.best_trial.user_attrs["trial"] == complete["value"].idxmax()
    _, state = read_study(ours.folder)
    for trial in found.trials:
        assert trial.duration and 0 < trial.duration.total_seconds() < 60
        reports = state.trials[trial.user_attrs["trial"]].reports
        assert [*trial.intermediate_values] == [report.epoch for report in reports]
        assert trial.intermediate_values[1] == reports[0].value
        assert [*trial.intermediate_values.values()][-1] == trial.value


def test_every_ending_and_every_choice_has_its_place(tmp_path: Path, phantom_store: Path) -> None:
    space = {
        "optimizer.lr": {"type": "float", "low": 1e-5, "high": 1e-1, "log": True},
        "data.modalities": {"type": "categorical", "choices": [["a"], ["a", "b"], None]},
    }
    config = offline.study(phantom_store, space=space, trials={"num_trials": len(ENDINGS)})
    choices = space["data.modalities"]["choices"]
    with offline.opened(config, tmp_path / "toy") as session:
        for number, ending in enumerate(ENDINGS):
            params = {"optimizer.lr": 1e-3, "data.modalities": choices[number % 3]}
            proposed = {"event": "proposed", "trial": number, "params": params, "kind": "sampled"}
            session.record(proposed | {"protected": False})
            started = {"event": "started", "trial": number, "attempt": 1, "host": "h", "pid": 1}
            session.record(started)
            for epoch, value in enumerate((0.1, 0.2), start=1):
                report = {"trial": number, "epoch": epoch, "value": value}
                session.record({"event": "reported", **report, "metrics": {"val/dice": value}})
            if ending:
                offline.end(session, session.state.trials[number], ending)
    found = segtune.study(tmp_path / "toy").optuna("sqlite:///" + str(tmp_path / "optuna.db"))
    assert [trial.state for trial in found.trials] == [*ENDINGS.values()]
    assert [trial.user_attrs["ending"] or "" for trial in found.trials] == [*ENDINGS]
    names = [trial.params["data.modalities"] for trial in found.trials]
    assert names[:4] == ['["a"]', '["a", "b"]', None, '["a"]']
    assert found.trials[0].distributions == {
        "optimizer.lr": FloatDistribution(1e-5, 1e-1, log=True),
        "data.modalities": CategoricalDistribution(['["a"]', '["a", "b"]', None]),
    }
    violated = [trial.constraints[UNTRAINABLE] > 0 for trial in found.trials]
    assert violated == [ending in ("diverged", "infeasible") for ending in ENDINGS]
    assert found.best_value == pytest.approx(0.15 if config.scheduler.smoothing > 1 else 0.2)


def test_several_objectives_are_values(tmp_path: Path, phantom_store: Path) -> None:
    further = [{"metric": "train/loss", "mode": "min"}]
    offline.finished(tmp_path / "toy", phantom_store, further_objectives=further)
    found = segtune.study(tmp_path / "toy").optuna()
    assert [direction.name for direction in found.directions] == ["MAXIMIZE", "MINIMIZE"]
    front = {trial.user_attrs["trial"] for trial in found.best_trials}
    assert front == {segtune.study(tmp_path / "toy").best().number}
    assert all(len(trial.values) == 2 for trial in found.trials)
