"""The best trial, ranked anew only where something changed: always the one that a ranking has."""

import math
import random

import pytest

from search.analysis.ranking import Leader, best_of
from search.ledger.state import StudyState
from tests.search.ledger.test_state import STUDY, ended, proposed, reported, started


@pytest.mark.parametrize("mode", ["max", "min"])
def test_the_leader_is_the_best_of_all(mode: str) -> None:
    """In 1,500 random events, with ties, ends of all kinds, values that sink, and second lives."""
    objective = STUDY.objective.model_copy(update={"mode": mode})
    study = STUDY.model_copy(update={"objective": objective})
    draw, state = random.Random(mode), StudyState()
    leader, leaders = Leader(state), set()
    for _ in range(1500):
        live = [trial for trial in state.live() if trial.attempts]
        over = [trial for trial in state.trials.values() if trial.ending in ("failed", "completed")]
        action = draw.random()
        if not live or action < 0.05:
            number = state.next_number
            kind = draw.choice(["sampled"] * 9 + ["control"]) if number else "control"
            events = [proposed(number, kind), started(number)]
        elif over and action < 0.08:
            trial = draw.choice(over)
            again: dict[str, object] = {"event": "retried"}
            if trial.ending == "completed":
                again = {"event": "resumed", "epochs": trial.epoch + 9}
            about = {"trial": trial.number, "epoch": trial.epoch}
            events = [again | about, started(trial.number, 2)]
        elif action < 0.14:
            trial = draw.choice(live)
            ending = draw.choice(["completed", "stopped", "failed", "diverged"])
            events = [ended(trial.number, ending, trial.epoch)]
        else:
            trial = draw.choice(live)
            value = math.nan if draw.random() < 0.02 else draw.randint(0, 20) / 10
            events = [reported(trial.number, trial.epoch + 1, value)]
        for event in events:
            state.apply(event)
            leader.observe(event)
        if draw.random() < 0.7:
            assert leader.best(study) is best_of(study, state)
            leaders.add(leader.best(study) and leader.best(study).number)
    assert len(leaders) > 5
