"""What mattered, against planted functions of which it is known."""

import math
import time

import numpy as np
import pytest

from search.analysis.importance import (
    importance,
    p_values,
    positions,
    shapes_of,
    shared_epoch,
)
from search.ledger.trial_state import Report, TrialState
from search.report.mattered import mattered_sentence
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


def planted(num_trials: int, seed: int, value) -> list[TrialState]:
    rng = np.random.default_rng(seed)
    params = [drawn(number, rng) for number in range(num_trials)]
    return [trial(n, p, {9: float(value(p, rng))}) for n, p in enumerate(params)]


def told(found) -> set[str]:
    return {row["name"] for row in found["parameters"] if row["mattered"]}


def test_what_everybody_sees_is_told_with_twelve_trials():
    """Every eps is below 0.04 and all others are above 0.18; each mean is that of its trials."""

    def value(p, rng):
        eps = p["diffusion.target"] == "eps"
        return rng.uniform(0, 0.034) if eps else rng.uniform(0.186, 0.4)

    trials = planted(12, 0, value)
    found = importance(study(), trials)
    assert (found["epoch"], found["num_trials"], found["missing"]) == (9, 12, 0)
    assert told(found) == {"diffusion.target"}
    assert importance(study(), trials) == found, "deterministic"
    first = found["parameters"][0]
    assert first["p"] < 0.02 and [g["choice"] for g in first["groups"]] == ["x_start", "v", "eps"]
    for group in first["groups"]:
        mine = [t for t in trials if t.params["diffusion.target"] == group["choice"]]
        values = [t.reports[-1].value for t in mine]
        assert (group["num_trials"], group["mean"]) == (len(mine), pytest.approx(np.mean(values)))
        low, high = group["interval"]
        assert low < group["mean"] < high and (high < 0.1) == (group["choice"] == "eps")


def test_false_alarms_are_rare():
    """Of 200 studies in which nothing matters, 4 settings each: 5 % is 10, with an error of 3."""
    alarms = sum(
        bool(told(importance(study(), planted(12, seed, lambda p, rng: rng.normal(0.5, 0.1)))))
        for seed in range(200)
    )
    assert 1 <= alarms <= 20


def test_p_of_one_setting_is_that_of_all_its_arrangements():
    """Of two choices among 8 values: 2 of the 70 ways to choose 4 are as far apart."""
    column, target = np.repeat([0.25, 0.75], 4), np.arange(8.0)
    shapes = {"one": shapes_of(column, is_choice=True)}
    assert p_values(shapes, target, 0)["one"] == pytest.approx(2 / 70, abs=0.012)


def test_an_optimum_within_the_range_is_found_and_shown_by_thirds():
    def value(p, rng):
        return 0.5 - 0.05 * (math.log10(p["optimizer.lr"]) + 3) ** 2 + rng.normal(0, 0.01)

    studies = [importance(study(), planted(18, seed, value)) for seed in range(20)]
    assert all("optimizer.lr" in told(found) for found in studies)
    assert sum(told(found) != {"optimizer.lr"} for found in studies) <= 4, "5 % are false alarms"
    found = studies[1]
    below, middle, above = found["parameters"][0]["groups"]
    assert middle["mean"] > max(below["mean"], above["mean"])
    assert (below["low"], above["high"]) == pytest.approx((1e-5, 1e-1))
    assert below["high"] == middle["low"] == pytest.approx(10 ** (-5 + 4 / 3))


def test_what_only_moves_with_a_setting_that_matters_is_not_told():
    """As under TPE, which soon proposes one target and one range of another setting together."""
    rng = np.random.default_rng(0)
    trials = []
    for number in range(40):
        p = drawn(number, rng)
        p["diffusion.target"] = "x_start" if number % 2 else "eps"
        p["loss.bce"] = float(rng.uniform(0.4, 1) if number % 2 else rng.uniform(0, 0.6))
        trials.append(trial(number, p, {9: 0.2 + 0.2 * (number % 2) + float(rng.normal(0, 0.03))}))
    assert told(importance(study(), trials)) == {"diffusion.target"}


def test_a_second_setting_is_found_beside_a_strong_one():
    def value(p, rng):
        target = {"x_start": 0.5, "v": 0.45, "eps": 0.1}[p["diffusion.target"]]
        return target + 0.05 * p["loss.bce"] + rng.normal(0, 0.005)

    assert told(importance(study(), planted(24, 0, value))) == {"diffusion.target", "loss.bce"}


def test_conditional_settings_are_judged_by_the_trials_that_have_them():
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
    for number in range(32):
        child = float(rng.uniform())
        if number % 2:
            params = {"loss.weighting": "warm_in", "loss.warm_in_fraction": child}
        else:
            params = {"loss.weighting": "fixed"}
            params |= {"loss.sigmoid_bias": child} if number < 10 else {}
        trials.append(trial(number, params, {9: child if number % 2 else 0.5}))
    found = importance(study(space), trials)
    first = found["parameters"][0]
    assert (first["name"], first["num_trials"]) == ("loss.warm_in_fraction", 16)
    assert first["mattered"] and sum(group["num_trials"] for group in first["groups"]) == 16
    assert found["left_out"] == [{"name": "loss.sigmoid_bias", "num_trials": 5, "missing": 1}]


def test_few_trials_are_said_to_miss_some():
    trials = planted(5, 0, lambda p, rng: rng.uniform())
    found = importance(study(), trials)
    assert (found["missing"], found["parameters"]) == (1, [])
    assert importance(study(), [])["missing"] == 6
    assert mattered_sentence(found).startswith("what mattered: 1 more trial is needed")


@pytest.mark.slow  # a second, and its measure is time
def test_it_is_quick():
    trials = planted(200, 0, lambda p, rng: p["loss.bce"] + rng.normal())
    begun = time.perf_counter()
    importance(study(), trials)
    assert time.perf_counter() - begun < 1


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
    [target] = [row for row in found["parameters"] if row["name"] == "diffusion.target"]
    assert sum(group["diverged"] for group in target["groups"]) == 1
    means = [group["mean"] for group in target["groups"] if group["mean"] is not None]
    assert means == pytest.approx([0.15] * len(means)), "of those that did not diverge"


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


def test_a_parent_that_mattered_is_told_beside_its_child():
    """The child's choices together say whether there is a child, which is the parent's effect."""
    space = {
        "loss.weighting": {"type": "categorical", "choices": ("fixed", "warm_in")},
        "diffusion.target": {
            "type": "categorical", "choices": ("x_start", "v"),
            "when": {"loss.weighting": ["warm_in"]},
        },
    }  # fmt: skip
    rng = np.random.default_rng(0)
    trials = []
    for number in range(40):
        p: dict[str, object] = {"loss.weighting": ("fixed", "warm_in")[number % 2]}
        value = 0.3 + 0.3 * (number % 2) + float(rng.normal(0, 0.02))
        if number % 2:
            p["diffusion.target"] = ("x_start", "v")[number // 2 % 2]
            value += 0.2 * (p["diffusion.target"] == "v")
        trials.append(trial(number, p, {9: value}))
    assert told(importance(study(space), trials)) == {"loss.weighting", "diffusion.target"}
