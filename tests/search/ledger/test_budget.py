"""What a study has spent."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.ledger.budget import Meter, budget_rule, cost_key, overspent
from search.study.config import StudyConfig, Trials


def meter(*events: tuple) -> Meter:
    """Apply (time, event, trial, epoch) tuples."""
    spent = Meter()
    for time, kind, *rest in events:
        about = dict(zip(("trial", "epoch"), rest, strict=False))
        spent.apply({"time": time, "event": kind, **about})
    return spent


HOUR = 3600.0


def trials(gpus: float, cpus: int = 2) -> Trials:
    return Trials(num_trials=1, gpus_per_trial=gpus, cpus_per_trial=cpus)


def test_reports_are_paid_as_they_come_and_failed_work_too():
    spent = meter(
        (0 * HOUR, "driver"),
        (1 * HOUR, "started", 0),
        (2 * HOUR, "reported", 0, 1),
        (2 * HOUR, "started", 1),
        (4 * HOUR, "interrupted", 1),  # two hours for nothing
        (5 * HOUR, "reported", 0, 2),
        (5 * HOUR, "ended", 0),
    ).spent(trials(0.5, cpus=3))
    assert spent == {"epochs": 2, "gpu_hours": 0.5 * (4 + 2), "cpu_hours": 3 * 6, "wall_hours": 5}


def test_nothing_runs_between_two_launches():
    events = [
        (0 * HOUR, "driver"),
        (0 * HOUR, "started", 0),
        (1 * HOUR, "reported", 0, 1),
        (2 * HOUR, "threshold"),  # last sign of a driver that was killed some time after
        (9 * HOUR, "driver"),
        (9 * HOUR, "started", 0),
        (10 * HOUR, "reported", 0, 2),
    ]
    spent = {"epochs": 2, "gpu_hours": 3, "cpu_hours": 6, "wall_hours": 3}
    assert meter(*events).spent(trials(1)) == spent
    spent = {"epochs": 1, "gpu_hours": 2, "cpu_hours": 4, "wall_hours": 2}
    assert meter(*events[:5]).spent(trials(1)) == spent


def test_what_a_trial_has_may_change_between_launches():
    """Each attempt costs what was set aside for it then, of a trial as of all."""
    spent = Meter()
    for gpus, cpus, begin in ((1, 2, 0), (2, 8, 10)):
        config = {"trials": {"gpus_per_trial": gpus, "cpus_per_trial": cpus}}
        for event in (
            {"event": "driver", "time": begin * HOUR},
            {"event": "study", "time": begin * HOUR, "config": config},
            {"event": "started", "time": begin * HOUR, "trial": begin},
            {"event": "started", "time": begin * HOUR, "trial": 7},
            {"event": "reported", "time": (begin + 3) * HOUR, "trial": begin, "epoch": 1},
        ):
            spent.apply(event)
    cost = spent.spent(trials(2, cpus=8), now=13 * HOUR)
    assert (cost["gpu_hours"], cost["cpu_hours"]) == (2 * 3 * (1 + 2), 2 * 3 * (2 + 8))
    assert spent.cost_hours(trials(2), 0) == {"gpu_hours": 3, "cpu_hours": 6}
    assert spent.cost_hours(trials(2), 10) == {"gpu_hours": 6, "cpu_hours": 24}


def test_an_attempt_costs_what_it_was_started_with():
    """Another size may be given while it runs; what starts from then on has that."""
    spent = Meter()
    small, large = ({"gpus_per_trial": gpus, "cpus_per_trial": 2} for gpus in (1, 2))
    for hour, kind, about in (
        (0, "study", {"config": {"trials": small}}),
        (0, "started", {"trial": 0}),
        (1, "study", {"config": {"trials": large}}),
        (2, "reported", {"trial": 0, "epoch": 1}),
        (2, "started", {"trial": 1}),
        (3, "reported", {"trial": 1, "epoch": 1}),
    ):
        spent.apply({"time": hour * HOUR, "event": kind, **about})
    assert spent.spent(trials(2))["gpu_hours"] == 2 * 1 + 1 * 2
    assert spent.spent(trials(2), now=5 * HOUR)["gpu_hours"] == 4 + 3 * 1 + 2 * 2


def test_what_runs_is_paid_until_now():
    running = meter((0.0, "driver"), (0.0, "started", 0), (1 * HOUR, "reported", 0, 1))
    spent = {"epochs": 1, "gpu_hours": 6, "cpu_hours": 6, "wall_hours": 3}
    assert running.spent(trials(2), now=3 * HOUR) == spent


def test_cost_is_shown_in_gpu_hours_where_trials_have_gpus():
    assert (cost_key(trials(0.25)), cost_key(trials(0))) == ("gpu_hours", "cpu_hours")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.floats(-5, 5), st.integers(0, 3)), max_size=40))
def test_a_clock_that_steps_back_never_pays_back(steps):
    spent, now, before = Meter(), 0.0, (0.0, 0.0)
    kinds = ["driver", "started", "interrupted", "threshold"]
    for step, kind in steps:
        now += step
        spent.apply({"time": now, "event": kinds[kind], "trial": 0})
        assert (spent.attempt_s, spent.wall_s) >= before
        assert spent.attempt_s >= before[0] and spent.wall_s >= before[1]
        before = (spent.attempt_s, spent.wall_s)


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ({"epochs": 3}, None),
        ({"epochs": 2}, "the budget of 2 epochs is spent"),
        ({"gpu_hours": 6.1, "wall_hours": 5.0}, "the budget of 5 wall hours is spent"),
        ({"gpu_hours": 1}, "the budget of 1 GPU-hours is spent"),
    ],
)
def test_a_spent_budget_is_named(budget, said):
    study = StudyConfig.model_validate(
        {
            "study": "demo",
            "data": {"store": "store"},
            "space": {},
            "trials": {"num_trials": 1, "gpus_per_trial": 1},
            "budget": budget,
        }
    )
    spent = meter((0.0, "driver"), (0.0, "started", 0), (5 * HOUR, "reported", 0, 2))
    event = overspent(study, spent)
    assert (event and budget_rule(event)) == said
