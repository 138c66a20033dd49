"""Where a study stands: its rungs against ASHA's own record, its estimate against known paces."""

import random
from typing import Any

import pytest

from search.ledger.decisions import Pruner, decision_events
from search.ledger.journal import Event
from search.ledger.state import StudyState
from search.ledger.trial_state import Report
from search.monitor.eta import Forecast
from search.monitor.snapshot import StudySnapshot
from search.study.config import StudyConfig

EPOCH_S = 60.0


def study(**settings: Any) -> StudyConfig:
    values: dict[str, Any] = {
        "study": "known",
        "data": {"store": "store"},
        "space": {"optimizer.lr": {"type": "float", "low": 1e-5, "high": 1e-1, "log": True}},
        "scheduler": {"grace_period": 3, "max_t": 27, "reduction_factor": 3, "smoothing": 1},
        "trials": {"num_trials": 40},
    }
    return StudyConfig.model_validate(values | settings)


class Simulated:
    """A study whose epochs take a minute each, two trials at once, judged as a driver judges."""

    def __init__(self, config: StudyConfig):
        self.config = config
        self.events: list[Event] = [{"event": "study", "config": config.model_dump(mode="json")}]
        self.events += [{"event": "driver", "time": 0.0}]
        self.state = StudyState.replay(self.events)
        self.pruner = Pruner(config)
        self.now = 0.0

    def record(self, *events: Event) -> None:
        for event in events:
            self.events.append({**event, "time": self.now})
            self.state.apply(self.events[-1])
            if "trial" in event:
                self.pruner.observe(self.state.trials[event["trial"]], event)

    def start(
        self, number: int, kind: str = "sampled", params: dict[str, Any] | None = None
    ) -> None:
        about = {
            "trial": number,
            "params": params or {},
            "kind": kind,
            "protected": kind == "control",
        }
        self.record({"event": "proposed", **about})
        self.record({"event": "started", "trial": number, "attempt": 1})

    def report(self, number: int, value: float) -> bool:
        """Report the trial's next epoch and return whether it goes on."""
        trial = self.state.trials[number]
        report = Report(trial.epoch + 1, value, {})
        decision = self.pruner.decide(trial, report)
        about = {"trial": number, "epoch": report.epoch, "value": value, "metrics": {}}
        self.record({"event": "reported", **about}, *decision_events(number, report, decision))
        return decision.action == "continue"

    def run(self) -> None:
        """Run the whole plan, two trials at once, each of a lasting quality."""
        draw, number, running = random.Random(0), 0, {}
        planned = self.config.num_protected + self.config.trials.num_trials
        while running or number < planned:
            while len(running) < 2 and number < planned:
                self.start(number, "control" if number < self.config.num_protected else "sampled")
                running[number], number = draw.random(), number + 1
            self.now += EPOCH_S
            for trial, quality in list(running.items()):
                if not self.report(trial, quality):
                    del running[trial]

    def snapshot(self, until_s: float = float("inf")) -> StudySnapshot:
        snapshot = StudySnapshot(self.config)
        snapshot.apply(e for e in self.events if e.get("time", 0.0) <= until_s)
        return snapshot


@pytest.fixture(scope="module")
def pruned() -> Simulated:
    simulated = Simulated(study(scheduler=study().scheduler.model_copy(update={"brackets": 2})))
    simulated.run()
    return simulated


def test_rungs_are_those_of_asha(pruned: Simulated) -> None:
    rungs = pruned.snapshot().rungs
    recorded = pruned.pruner.asha.snapshot()["results"]
    assert [row[:-1] for row in rungs.reached] == [[*map(len, bracket)] for bracket in recorded]
    assert sum(len(rung) for bracket in recorded for rung in bracket) > 40
    ended = [trial for trial in pruned.state.searched() if trial.ending]
    completed = sum(trial.ending == "completed" for trial in ended)
    assert sum(row[-1] for row in rungs.went_on) == completed > 0
    for reached, went_on, lost in zip(rungs.reached, rungs.went_on, rungs.lost, strict=True):
        assert reached[1:] == went_on[:-1]  # nothing stalled between two rungs
        assert lost[1:] == [a - b for a, b in zip(reached[:-1], went_on[:-1], strict=True)]


def test_a_value_that_is_not_finite_was_not_judged() -> None:
    simulated = Simulated(study())
    simulated.start(0)
    simulated.report(0, 0.5)
    simulated.report(0, 0.5)
    simulated.report(0, float("nan"))
    snapshot = simulated.snapshot()
    assert snapshot.rungs.reached == [[0, 0, 0]] and snapshot.rungs.lost == [[1, 0, 0]]
    assert (snapshot.low, snapshot.high) == (0.5, 0.5)
    assert snapshot.counts(driven=True)["trials"] == {"diverged": 1}


def test_a_resumed_trial_counts_at_no_rung_again_also_when_it_is_retried() -> None:
    simulated = Simulated(study())
    for trial in (0, 1):
        simulated.start(trial)
        while simulated.report(trial, 1.0 - trial):
            pass
    assert simulated.state.trials[1].ending == "stopped"
    before = simulated.snapshot().rungs.rows()
    at = {"trial": 1, "epoch": simulated.state.trials[1].epoch}
    simulated.record({"event": "resumed", **at, "epochs": 27})
    simulated.record({"event": "ended", **at, "ending": "failed", "reason": ""})
    simulated.record({"event": "retried", **at})
    simulated.record({"event": "started", "trial": 1, "attempt": 2})
    while simulated.report(1, 1.0):
        pass
    assert simulated.state.trials[1].ending == "completed"
    assert simulated.snapshot().rungs.rows() == before


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_time_to_the_end_with_pruning(pruned: Simulated, share: float) -> None:
    now = share * pruned.now
    estimate = Forecast(pruned.config).estimate(pruned.snapshot(now), now)
    assert estimate.seconds == pytest.approx(pruned.now - now, rel=0.35)
    assert estimate.limit == ""


def test_time_to_the_end_without_pruning_is_exact() -> None:
    simulated = Simulated(
        study(scheduler={"type": "none", "max_t": 5}, trials={"num_trials": 9, "cpus_per_trial": 1})
    )
    simulated.run()  # ten trials of five minutes, two at once
    assert simulated.now == 25 * EPOCH_S
    for epochs in (1, 7, 12, 24):
        now = epochs * EPOCH_S
        snapshot = simulated.snapshot(now)
        estimate = Forecast(simulated.config).estimate(snapshot, now)
        assert estimate.seconds == pytest.approx(simulated.now - now)
        assert estimate.epochs == 50 - 2 * epochs
        half_a_minute_later = Forecast(simulated.config).estimate(snapshot, now + 30)
        assert half_a_minute_later.seconds == pytest.approx(simulated.now - now - 30, abs=31)


@pytest.mark.parametrize(
    ("budget", "left_s"),
    [
        ({"wall_hours": 0.25}, 600),
        ({"gpu_hours": 0.5}, 600),  # of two GPUs, ten of thirty minutes are spent
        ({"epochs": 30}, 600),
    ],
)
def test_a_budget_ends_it_sooner(budget: dict[str, float], left_s: float) -> None:
    simulated = Simulated(
        study(
            scheduler={"type": "none", "max_t": 50},
            trials={"num_trials": 9, "gpus_per_trial": 1},
            budget=budget,
        )
    )
    simulated.start(0, "control")
    simulated.start(1)
    for _ in range(5):
        simulated.now += EPOCH_S
        simulated.report(0, 0.5)
        simulated.report(1, 0.5)
    estimate = Forecast(simulated.config).estimate(simulated.snapshot(), simulated.now)
    assert estimate.seconds == pytest.approx(left_s)
    assert {estimate.limit} == budget.keys()


def test_nothing_is_known_before_a_report() -> None:
    simulated = Simulated(study(scheduler={"type": "none", "max_t": 5}))
    simulated.start(0, "control")
    estimate = Forecast(simulated.config).estimate(simulated.snapshot(), 10.0)
    assert estimate == (41 * 5, None, "")


def test_a_confirmation_is_timed_alone() -> None:
    """The trials that `confirm` adds are all that its launch ends, whatever the plan lacks."""
    simulated = Simulated(study(scheduler={"type": "none", "max_t": 5}))
    simulated.start(0, "control")
    while True:
        simulated.now += EPOCH_S
        if not simulated.report(0, 0.5):
            break
    again = {"params": {}, "kind": "confirm", "protected": True, "of": 0, "seed": 1, "fold": 1}
    for number in (1, 2):
        simulated.record({"event": "proposed", "trial": number, **again, "epochs": 10})
    simulated.record({"event": "driver"})
    simulated.record({"event": "started", "trial": 1, "attempt": 1})
    estimate = Forecast(simulated.config).estimate(simulated.snapshot(), simulated.now)
    assert estimate.epochs == 20
    assert estimate.seconds == pytest.approx(20 * EPOCH_S)  # one at a time


def searched(**settings: Any) -> Simulated:
    """A study of four trials, two at once, whose first search has ended: five epochs each."""
    plain = {"type": "none", "max_t": 5}
    simulated = Simulated(study(scheduler=plain, trials={"num_trials": 4}, **settings))
    simulated.run()
    return simulated


CONFIRMS = {"params": {}, "kind": "confirm", "protected": True, "seed": 1, "fold": 1, "epochs": 5}


@pytest.mark.parametrize("budget", [{}, {"epochs": 25}])
def test_a_confirmation_is_timed_before_its_first_training_starts(budget: dict[str, int]) -> None:
    """Twelve wait, of five minutes each, two at once as before; no budget of the search ends it."""
    simulated = searched(budget=budget)
    simulated.record({"event": "driver"})
    for number in range(5, 17):
        simulated.record({"event": "proposed", "trial": number, **CONFIRMS, "of": 1})
    for again in range(2):  # the second time, nothing is proposed any more
        estimate = Forecast(simulated.config).estimate(simulated.snapshot(), simulated.now)
        assert estimate.seconds == pytest.approx(12 * 5 * EPOCH_S / 2), again
        assert (estimate.epochs, estimate.limit) == (60, "")
        simulated.record({"event": "driver"})


def test_a_resumed_trial_is_timed_before_it_starts() -> None:
    simulated = searched(budget={"epochs": 25})
    simulated.record({"event": "driver"}, {"event": "resume", "trials": [1], "epochs": 20})
    simulated.record({"event": "resumed", "trial": 1, "epoch": 5, "epochs": 20})
    estimate = Forecast(simulated.config).estimate(simulated.snapshot(), simulated.now)
    assert estimate == (15, pytest.approx(15 * EPOCH_S), "")


def test_a_confirmation_goes_at_the_pace_of_what_it_confirms() -> None:
    """Trial 1 took twice as long an epoch as trial 2."""
    simulated = Simulated(study(scheduler={"type": "none", "max_t": 4}, trials={"num_trials": 2}))
    for number, pace in ((0, 1), (1, 4), (2, 2)):
        simulated.start(number, "sampled" if number else "control")
        for _ in range(4):
            simulated.now += pace * EPOCH_S
            simulated.report(number, 0.5)
    simulated.record({"event": "driver"})
    for number, of in ((3, 0), (4, 1), (5, 2)):
        about = {"trial": number, **CONFIRMS, "epochs": 4, "of": of}
        simulated.record({"event": "proposed", **about})
    estimate = Forecast(simulated.config).estimate(simulated.snapshot(), simulated.now)
    assert estimate.seconds == pytest.approx(4 * (1 + 4 + 2) * EPOCH_S)


def test_a_whole_plan_is_timed_whole_while_its_extras_wait() -> None:
    """A launch after an interrupted `confirm`, with searched trials to come."""
    simulated = searched()
    simulated.record({"event": "proposed", "trial": 5, **CONFIRMS, "of": 1})
    config = simulated.config
    more = config.model_copy(update={"trials": config.trials.model_copy(update={"num_trials": 6})})
    simulated.record({"event": "driver"})
    simulated.record({"event": "study", "config": more.model_dump(mode="json")})
    estimate = Forecast(simulated.config).estimate(simulated.snapshot(), simulated.now)
    assert estimate.epochs == 3 * 5
