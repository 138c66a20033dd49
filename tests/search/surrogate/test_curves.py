"""What the model says of a study, by events as a study has them."""

import math
import random
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from search.study.space import Dimension, draw
from search.surrogate.curves import MIN_TRIALS, CurveModel
from search.surrogate.observations import Reports, Scale, thinned

SPACE = {
    "x": Dimension(type="float", low=0.0, high=1.0),
    "kind": Dimension(type="categorical", choices=("good", "bad")),
}
MAX_T = 27


def truth(params: dict, epoch: int) -> float:
    """Return a Dice that rises, fastest where it ends worst."""
    end = 0.8 - (params["x"] - 0.6) ** 2 - 0.2 * (params["kind"] == "bad")
    return end - 0.5 * math.exp(-5 * (1 + (params["kind"] == "bad")) * epoch / MAX_T)


def model(mode: str = "max", **changes) -> CurveModel:
    settings = {"mode": mode, "max_t": MAX_T}
    return CurveModel(SPACE, **{**settings, **changes})


def events(trials: int, seed: int = 0) -> list[tuple]:
    """Return proposals, then reports of ever more epochs, by turns, and ends."""
    rng, found = random.Random(seed), []
    params = [draw(SPACE, rng, {}) for _ in range(trials)]
    length = [rng.choice([3, 3, 9, MAX_T]) for _ in range(trials)]
    found += [("observe", trial, p) for trial, p in enumerate(params)]
    for epoch in range(1, MAX_T + 1):
        for trial in range(trials):
            if epoch <= length[trial]:
                value = truth(params[trial], epoch) + rng.gauss(0, 0.01)
                found.append(("report", trial, epoch, value))
                if epoch == MAX_T:
                    found.append(("ended", trial, "completed"))
    return found


def fed(curves: CurveModel, some: list[tuple]) -> CurveModel:
    for name, *arguments in some:
        getattr(curves, name)(*arguments)
    return curves


def to_objective(scale: Scale, mean: float, sd: float) -> tuple[float, float]:
    """Return a mean and a standard deviation in the objective's units."""
    value = scale.sign * (mean * scale.sd + scale.mean)
    if scale.log:
        value = math.exp(value)
    return value, sd * scale.sd * (value if scale.log else 1.0)


def ends_of(curves: CurveModel, trials: Iterable[int]) -> dict[int, tuple[float, float]]:
    """Return what a proposal expects trials to end with and the deviation, as the objective has it.

    Only trials of which it has rows can be asked for.
    """
    known = curves._knowledge()
    at_end = dict.fromkeys(trials, curves.max_t)
    found = known.posterior.predict(*curves._points(known, at_end))
    scale = known.kept.scale
    return {trial: to_objective(scale, *each) for trial, *each in zip(at_end, *found, strict=True)}


def test_nothing_is_said_of_too_little() -> None:
    curves = model()
    assert curves.propose(0) is None
    for trial in range(MIN_TRIALS - 1):
        curves.observe(trial, {"x": trial / 10, "kind": "good"})
        curves.report(trial, 1, 0.1 * trial)
        curves.report(trial, 2, 0.1 * trial + 0.2)
    curves.observe(3, {"x": 0.5, "kind": "good"})
    curves.report(3, 1, math.nan)
    assert curves.propose(0) is None
    curves.observe(4, {"x": 0.9, "kind": "good"})
    curves.report(4, 1, 0.2)
    assert curves.propose(0) is not None


@pytest.mark.parametrize("mode", ["max", "min"])
def test_ends_are_foreseen_better_than_by_what_was_seen(mode: str) -> None:
    """In the objective's own units, also where the model sees a loss by its logarithm."""
    sign = 1 if mode == "max" else -1
    told = [(n, *a[:2], 1 + sign * (a[2] - 1)) if n == "report" else (n, *a)
            for n, *a in events(30)]  # fmt: skip
    curves = fed(model(mode), told)
    params = {trial: p for name, trial, p, *_ in told if name == "observe"}
    seen = {trial: (epoch, value) for name, trial, epoch, *rest in told if name == "report"
            for value in rest}  # fmt: skip
    stopped = [trial for trial, (epoch, _) in seen.items() if epoch < MAX_T]
    ends = {trial: 1 + sign * (truth(params[trial], MAX_T) - 1) for trial in params}
    found = ends_of(curves, stopped)
    errors = np.array([found[trial][0] - ends[trial] for trial in stopped])
    naive = np.array([seen[trial][1] - ends[trial] for trial in stopped])
    assert abs(errors).mean() < 0.3 * abs(naive).mean()
    deviations = errors / np.array([found[trial][1] for trial in stopped])
    assert 0.3 < np.sqrt((deviations**2).mean()) < 3


def test_proposals_are_near_the_best_and_new() -> None:
    curves, told = model(), events(30)
    fed(curves, told)
    first = curves.propose(5)
    assert first == curves.propose(5) != curves.propose(6)
    assert curves.propose(5, taken=[first]) != first
    proposed = [curves.propose(seed) for seed in range(10)]
    assert np.mean([p["kind"] == "good" for p in proposed]) > 0.8
    assert np.median([abs(p["x"] - 0.6) for p in proposed]) < 0.15


def test_only_what_is_left_is_proposed() -> None:
    space = {"a": SPACE["kind"], "b": Dimension(type="int", low=0, high=3)}
    curves = CurveModel(space, mode="max", max_t=3)
    every = [{"a": a, "b": b} for a in ("good", "bad") for b in range(4)]
    for trial, params in enumerate(every[:6]):
        curves.observe(trial, params)
        curves.report(trial, 3, random.Random(trial).random())
    proposed = curves.propose(0)
    assert proposed in every[6:]
    assert curves.propose(0, taken=[proposed]) in every[6:]
    assert curves.propose(0, taken=every[6:]) is None


def test_events_alone_decide_not_when_it_is_asked() -> None:
    told = events(12)
    asked = model()
    for place, event in enumerate(told):
        fed(asked, [event])
        if place % 7 == 0:
            asked.propose(place)
    silent = fed(model(), told)
    assert ends_of(asked, range(12)) == ends_of(silent, range(12))
    assert asked.propose(3) == silent.propose(3)


def test_trials_that_run_keep_others_away() -> None:
    curves = fed(model(), events(20))
    first = curves.propose(0)
    curves.observe(100, first)
    second = curves.propose(0)
    assert second != first
    curves.ended(100, "failed")  # of which nothing is learnt
    assert curves.propose(0) != first  # since it was tried all the same


def test_what_cannot_be_trained_is_avoided() -> None:
    curves = fed(model(), events(20))
    for trial, x in enumerate(np.linspace(0.45, 0.75, 6), start=100):
        curves.observe(trial, {"x": float(x), "kind": "good"})
        curves.ended(trial, "infeasible") if trial % 2 else curves.report(trial, 2, math.nan)
        curves.ended(trial, "diverged")
    proposed = [curves.propose(seed) for seed in range(10)]
    assert not any(p["kind"] == "good" and 0.5 < p["x"] < 0.7 for p in proposed)


def test_one_validation_without_training() -> None:
    curves = CurveModel(SPACE, mode="max", max_t=0)
    for trial in range(8):
        curves.observe(trial, {"x": trial / 8, "kind": "good"})
        curves.report(trial, 0, trial / 8)
    assert ends_of(curves, [7])[7][0] == pytest.approx(7 / 8, abs=0.05)
    assert curves.propose(0)["x"] > 0.7


def test_few_rows_say_about_the_same(monkeypatch: Any) -> None:
    told = events(30)
    exact = fed(model(), told)
    monkeypatch.setattr("search.surrogate.curves.ROWS", 30)
    curves = fed(model(), told)
    trials = curves._knowledge().kept.trials.tolist()
    assert 5 < len(trials) < 25
    few, all_ = ends_of(curves, trials), ends_of(exact, trials)
    errors = [abs(few[trial][0] - all_[trial][0]) for trial in trials]
    assert np.median(errors) < 0.02 and max(errors) < 0.15


def test_rows_are_averages_and_a_loss_is_seen_by_its_logarithm() -> None:
    reports = Reports(mode="min", max_t=27)
    for epoch, value in enumerate([4.0, 2.0, 8.0, 1.0], start=1):
        reports.add(7, epoch, value)
    reports.add(3, 1, 1e9)
    reports.add(5, 1, math.nan)
    configs = {trial: np.array([trial / 10]) for trial in (3, 5, 7)}
    found = reports.observed(configs)
    assert found.trials.tolist() == [3, 5, 7]
    assert found.rows.points.of.tolist() == [0, 1, 2, 2, 2]
    assert found.rows.counts.tolist() == [1, 1, 1, 2, 1]
    units = [to_objective(found.scale, v, 1.0)[0] for v in found.rows.values]
    assert units[2:] == pytest.approx([4, 4, 1]) and units[0] == units[1]
    assert found.rows.points.phi[1] == pytest.approx(np.zeros(4))
    reports.add(7, 5, -1.0)
    assert not reports.observed(configs).scale.log
    assert reports.observed(configs, first=6).scale == found.scale


def test_of_many_rows_some_are_chosen_the_best_among_them() -> None:
    reports, rng = Reports(mode="max", max_t=27), random.Random(0)
    values = [rng.random() for _ in range(100)]
    for trial, value in enumerate(values):
        for epoch in (1, 3, 9):
            reports.add(trial, epoch, value)
    observed = reports.observed({trial: np.array([0.5]) for trial in range(100)})
    few = thinned(observed, 60)
    assert 50 <= len(few.rows.values) <= 65
    assert {int(t) for t in np.argsort(values)[-9:]} <= set(few.trials.tolist())
    for index, trial in enumerate(few.trials.tolist()):
        mine = few.rows.values[few.rows.points.of == index]
        assert mine == pytest.approx(observed.rows.values[observed.rows.points.of == trial])


def test_what_is_known_before_counts_beside_the_gain() -> None:
    curves = fed(model(), events(30))
    plain = [curves.propose(seed) for seed in range(8)]
    assert [curves.propose(seed, weigh=lambda params: 0.0) for seed in range(8)] == plain
    slightly = [curves.propose(seed, weigh=lambda p: 0.01 * p["x"]) for seed in range(8)]
    much = [curves.propose(seed, weigh=lambda p: 1e6 * p["x"]) for seed in range(8)]
    assert np.mean([p["x"] for p in much]) > 0.9 > np.mean([p["x"] for p in slightly])
