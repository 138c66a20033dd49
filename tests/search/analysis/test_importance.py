"""What mattered, against planted functions of which the shares are known."""

import math

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution

from search.analysis import importance as module
from search.analysis.importance import (
    importance,
    positions,
    shared_epoch,
    standard_error,
)
from search.ledger.trial_state import Report, TrialState
from search.study.config import StudyConfig

SPACE = {
    "optimizer.lr": {"type": "float", "low": 1e-5, "high": 1e-1, "log": True},
    "model.width": {"type": "int", "low": 4, "high": 7},
    "diffusion.target": {"type": "categorical", "choices": ("x_start", "v", "eps")},
    "loss.bce": {"type": "float", "low": 0.0, "high": 1.0},
}


def study(space=None, **scheduler) -> StudyConfig:
    return StudyConfig.model_validate(
        {
            "study": "planted",
            "data": {"store": "store"},
            "space": SPACE if space is None else space,
            "scheduler": {"type": "none", "max_t": 9, **scheduler},
            "trials": {"num_trials": 1},
        }
    )


def trial(number, params, values, ending="completed") -> TrialState:
    """A trial with values by epoch."""
    reports = [Report(epoch, value, {}) for epoch, value in values.items()]
    return TrialState(number, params, "sampled", False, reports=reports, ending=ending)


def drawn(number: int, rng: np.random.Generator) -> dict[str, object]:
    return {
        "optimizer.lr": float(10 ** rng.uniform(-5, -1)),
        "model.width": int(rng.integers(4, 8)),
        "diffusion.target": ("x_start", "v", "eps")[rng.integers(3)],
        "loss.bce": float(rng.uniform()),
    }


@pytest.mark.slow  # 8 s
def test_shares_of_an_additive_function():
    """Each term's variance over the space, in closed form; loss.bce is in none.

    log10(lr) is uniform on -5..-1: 16/12. 0.6 times one of 4 whole numbers: 0.36 * 15/12. 0.3 in
    one of three: 0.09 * 2/9.
    """
    rng = np.random.default_rng(0)
    trials = []
    for number in range(80):
        p = drawn(number, rng)
        value = math.log10(p["optimizer.lr"]) + 0.6 * p["model.width"]
        trials.append(trial(number, p, {9: value + 0.3 * (p["diffusion.target"] == "v")}))
    variances = {"optimizer.lr": 16 / 12, "model.width": 0.36 * 15 / 12, "target": 0.09 * 2 / 9}
    truth = {name: variance / sum(variances.values()) for name, variance in variances.items()}
    found = importance(study(), trials)
    assert (found["epoch"], found["num_trials"], found["left_out"]) == (9, 80, [])
    shares = {row["name"]: row for row in found["parameters"]}
    assert list(shares)[:2] == ["optimizer.lr", "model.width"]
    assert shares["optimizer.lr"]["mean"] == pytest.approx(truth["optimizer.lr"], abs=0.12)
    # A forest flattens the weaker one.
    assert 0.4 * truth["model.width"] < shares["model.width"]["mean"] < 1.1 * truth["model.width"]
    assert shares["optimizer.lr"]["interval"][0] > shares["model.width"]["interval"][1]
    assert shares["model.width"]["interval"][0] > 0.02
    low, high = shares["loss.bce"]["interval"]
    assert abs(shares["loss.bce"]["mean"]) < 0.02
    assert low < 0 < high or abs(low) < 0.002
    for name, share in optunas(trials).items():
        assert shares[name]["mean"] == pytest.approx(share, abs=0.08)


def optunas(trials: list[TrialState]) -> dict[str, float]:
    """Optuna's own forest of 64 trees; choices in their order, lr by its logarithm."""
    own = optuna.create_study()
    for one in trials:
        params = one.params | {"optimizer.lr": math.log(one.params["optimizer.lr"])}
        params["diffusion.target"] = float(params["diffusion.target"] == "v")
        distributions = {
            "optimizer.lr": FloatDistribution(math.log(1e-5), math.log(1e-1)),
            "model.width": IntDistribution(4, 7),
            "diffusion.target": FloatDistribution(0, 1),
            "loss.bce": FloatDistribution(0, 1),
        }
        own.add_trial(
            optuna.trial.create_trial(
                params=params, distributions=distributions, value=one.reports[-1].value
            )
        )
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return optuna.importance.get_param_importances(own, evaluator=evaluator, normalize=False)


@pytest.mark.slow  # 6 s
def test_nothing_is_told_from_chance_where_nothing_is(monkeypatch):
    """A forest alone gives each of four parameters 0.2 of what is noise."""
    rng = np.random.default_rng(1)
    trials = [trial(n, drawn(n, rng), {9: float(rng.normal())}) for n in range(24)]
    found = importance(study(), trials)
    assert all(row["interval"][0] < 0.01 for row in found["parameters"])
    assert abs(np.mean([row["mean"] for row in found["parameters"]])) < 0.1
    assert importance(study(), trials) == found, "deterministic"


@pytest.mark.slow  # 3 s
def test_conditional_parameters(monkeypatch):
    """One that explains all in the half of the trials that has it, where all the variance is."""
    monkeypatch.setattr(module, "NUM_TREES", 60)
    space = {
        "loss.weighting": {"type": "categorical", "choices": ("fixed", "warm_in")},
        "loss.warm_in_fraction": {
            "type": "float", "low": 0.0, "high": 1.0, "when": {"loss.weighting": ["warm_in"]},
        },
        "loss.sigmoid_bias": {
            "type": "float", "low": 0.0, "high": 1.0, "when": {"loss.weighting": ["fixed"]},
        },
    }  # fmt: skip
    rng = np.random.default_rng(0)
    trials = []
    for number in range(64):
        child = float(rng.uniform())
        if number % 2:
            params = {"loss.weighting": "warm_in", "loss.warm_in_fraction": child}
        else:
            params = {"loss.weighting": "fixed"}
            params |= {"loss.sigmoid_bias": child} if number < 10 else {}
        trials.append(trial(number, params, {9: child if number % 2 else 0.5}))
    found = importance(study(space), trials)
    first = found["parameters"][0]
    assert (first["name"], first["num_trials"]) == ("loss.warm_in_fraction", 32)
    assert first["mean"] > 0.85 and first["interval"][1] <= 1
    assert found["left_out"] == [{"name": "loss.sigmoid_bias", "num_trials": 5}]


def test_the_epoch_is_the_last_that_nearly_all_share():
    """Survivors' later epochs are chosen by their values; diverged trials are the worst."""
    config = study(type="asha", grace_period=1, smoothing=2)
    rng = np.random.default_rng(0)
    trials = []
    for number in range(12):
        values = {1: 0.1, 3: 0.2} | ({9: 0.3 + number} if number < 4 else {})
        trials.append(trial(number, drawn(number, rng), values, "stopped"))
    trials[0].ending = "completed"
    diverged = trial(12, drawn(12, rng), {1: math.nan}, "diverged")
    infeasible = trial(13, drawn(13, rng), {}, "infeasible")
    young = trial(14, drawn(14, rng), {1: 0.1}, None)
    trials += [diverged, infeasible, young]
    assert shared_epoch(config, trials) == 3
    found = importance(config, trials)
    assert (found["epoch"], found["num_trials"], found["num_diverged"]) == (3, 13, 1)
    assert importance(config, trials[:11]) is None, "too few"
    assert importance(config, []) is None


def test_positions_are_uniform_in_a_random_search():
    space = study().space
    trials = [
        trial(0, {"optimizer.lr": 1e-3, "model.width": 4, "diffusion.target": "eps"}, {}),
        trial(1, {"optimizer.lr": 1e-1, "model.width": 7, "loss.bce": 0.25}, {}),
    ]
    found = {name: column.tolist() for name, column in positions(space, trials).items()}
    assert found["optimizer.lr"] == pytest.approx([0.5, 1.0])
    assert found["model.width"] == pytest.approx([1 / 8, 7 / 8])
    assert found["diffusion.target"] == pytest.approx([5 / 6, math.nan], nan_ok=True)
    assert found["loss.bce"] == pytest.approx([math.nan, 0.25], nan_ok=True)


def test_the_standard_error_of_a_mean():
    """Of resampled means the infinitesimal jackknife is the standard error of any textbook."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=20)
    picks = rng.integers(20, size=(4000, 20))
    counts = np.stack([np.bincount(row, minlength=20) for row in picks]).astype(float)
    found = standard_error(values[picks].mean(axis=1), counts)
    assert found == pytest.approx(values.std() / math.sqrt(20), rel=0.1)
