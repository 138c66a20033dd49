"""What a replay of the ledger rebuilds is what the driver had, whatever happened in what order."""

import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from search.ledger.decisions import Pruner
from search.ledger.hand import requested_events
from search.ledger.journal import Event, Ledger
from search.ledger.session import StudySession
from search.ledger.state import StudyState
from search.sampler.sampler import Sampler
from search.study.config import StudyConfig
from tests.search.toy import Validation
from tests.search.tune_loop import Loop
from trainer.config import TrainConfig
from trainer.configfile import ConfigError

TYPES = ("tpe", "random", "qmc", "grid", "nsga2", "tpe", "gp", "curve_gp")


def erratic(config: TrainConfig, run_dir: Path, *, received: int = -1) -> Iterator[Validation]:
    """Validate at random, fail, lack memory and diverge: every trial its own way."""
    name = f"{config.seed}/{run_dir.name}"
    fate = random.Random(name).random()
    for epoch in range(max(received, 0) + 1, config.epochs + 1):
        draw = random.Random(f"{name}/{epoch}")
        if fate < 0.1 and epoch >= 3:
            raise ConfigError(["these settings do not fit"])
        if 0.1 < fate < 0.2 and epoch >= 2:
            raise RuntimeError("it always fails here")
        value = float("nan") if draw.random() < 0.02 else round(draw.random(), 3)
        metrics = {"val/dice": value, "train/loss": 1.0, "time/case_s": draw.random()}
        yield Validation(epoch, metrics)


def random_study(store: Path, draw: random.Random, sampler: str) -> StudyConfig:
    """Return a study of one sampler with random settings of everything that judges."""
    space = {
        "optimizer.lr": {"type": "float", "low": 1e-5, "high": 1e-1, "log": True},
        "batch.effective": {"type": "categorical", "choices": [4, 8, 16]},
        "optimizer.ema_half_life_images": {
            "type": "int",
            "low": 10,
            "high": 1000,
            "when": {"batch.effective": [4, 8]},
        },
    }
    if sampler == "grid":
        space = {
            "optimizer.lr": {"type": "categorical", "choices": [1e-4, 1e-3, 1e-2]},
            "batch.effective": {"type": "categorical", "choices": [4, 8]},
        }
    several = {"further_objectives": [{"metric": "time/case_s", "mode": "min"}]}
    return StudyConfig.model_validate(
        {
            "study": "toy",
            "data": {"store": str(store)},
            "space": space,
            "sampler": {"type": sampler, "num_startup_trials": 4, "population_size": 4},
            "scheduler": {
                "type": draw.choice(["asha", "none"]),
                "grace_period": draw.choice([1, 2]),
                "max_t": 9,
                "reduction_factor": draw.choice([2, 3]),
                "brackets": draw.choice([1, 2]),
                "smoothing": draw.choice([1, 3]),
            },
            "stall": draw.choice([None, {"patience": 3, "min_delta": 0.1}]),
            "trials": {"num_trials": 6 if sampler == "grid" else 12, "gpus_per_trial": 1},
            "enqueue": [{"optimizer.lr": 1e-3, "protected": True}, {"optimizer.lr": 1e-2}],
            "seed": draw.randrange(100),
        }
        | (several if sampler == "nsga2" else {})
    )


def rebuilt_sampler(study: StudyConfig, events: list[Event]) -> Sampler:
    sampler = Sampler(study)
    for event in events:
        sampler.observe(event)
    return sampler


class Checked(Sampler):
    """A sampler whose every proposal must be that of one rebuilt from the file."""

    path: Path

    def propose(self, ordinal: int, given: Mapping[str, Any]) -> dict[str, Any] | None:
        again = rebuilt_sampler(self.study, Ledger.open(self.path, writer=False).events)
        expected = again.propose(ordinal, given)
        assert super().propose(ordinal, given) == expected
        return expected


def told(sampler: Sampler, proposals: set[int]) -> str:
    """Return all that Optuna knows, but for the clock times; of discarded draws that they were."""
    found = sampler.optuna_study.get_trials(deepcopy=False)
    trials = [
        (t.number, t.state, t.params, t.distributions, t.intermediate_values, t.values)
        if t.number in proposals
        else (t.number, t.state)
        for t in found
    ]
    notes = [
        {k: v for k, v in t.system_attrs.items() if k != "fixed_params"}
        for t in found
        if t.number in proposals
    ]
    storage = sampler.optuna_study._storage
    return repr((trials, notes, storage.get_study_system_attrs(sampler.optuna_study._study_id)))


def numbers(events: list[Event]) -> Iterator[int]:
    """Yield Optuna's numbers of what was imported and proposed, without discarded draws."""
    number = -1
    for event in events:
        if event["event"] == "exhausted":
            number += event.get("drawn_before", 0)
        elif event["event"] == "imported" or not event.get(
            "protected", event["event"] != "refused"
        ):
            number += 1 + event.get("drawn_before", 0)
            yield number


def judged(pruner: Pruner) -> str:
    courses = pruner.stall_rule._courses if pruner.stall_rule else None
    return repr((pruner.asha.snapshot(), courses))


def check(session: StudySession, sampler: Sampler) -> None:
    """Compare everything that the driver has with what the file alone says."""
    events = Ledger.open(session.ledger.path, writer=False).events
    assert repr(events) == repr(session.ledger.events)  # NaN does not equal itself
    state = StudyState.replay(events)
    assert repr(vars(state)) == repr(vars(session.state))
    trials = session.study.trials
    assert state.meter.spent(trials) == session.state.meter.spent(trials)
    again = Pruner.replay(session.study, state, events)
    assert judged(again) == judged(session.pruner)
    rebuilt, proposals = rebuilt_sampler(session.study, events), {*numbers(events)}
    assert told(rebuilt, proposals) == told(sampler, proposals)


def happen(session: StudySession, draw: random.Random) -> None:
    """Let something happen beside the trials' training, if it may happen now."""
    trials = list(session.state.trials.values())
    what = draw.choice(
        ["mlflow", "mlflow", "threshold", "stop", "resume", "retry", "confirm", "budget", "hand"]
    )
    match what:
        case "hand":
            if request := asked(session, draw):
                name = f"{draw.getrandbits(64):x}"
                session.record(*requested_events(session.study, session.state, request, name))
        case "mlflow":
            if unlinked := [trial.number for trial in trials if trial.mlflow_run_id is None]:
                number = draw.choice(unlinked)
                run_id = f"{draw.getrandbits(64):x}"
                session.record({"event": "mlflow", "trial": number, "run_id": run_id, "uri": "u"})
            elif session.state.mlflow_experiment_id is None:
                session.record({"event": "mlflow", "experiment_id": "7", "uri": "u"})
        case "threshold" if session.state.threshold is None:
            session.record({"event": "threshold", "modality": "tmax", "dice": 0.3})
        case "stop" if session.state.live():
            run_dir = session.trial_dir(draw.choice(session.state.live()).number)
            run_dir.mkdir(parents=True, exist_ok=True)
            (run_dir / "stop").touch()
        case "resume":
            ended = [t for t in trials if t.ending in ("completed", "stopped") and t.epoch < 20]
            if ended:
                trial = draw.choice(ended)
                epochs = trial.epoch + draw.randint(1, 5)
                chosen = {"top": None, "epochs": epochs, "trials": [trial.number]}
                resumed = {"trial": trial.number, "epoch": trial.epoch, "epochs": epochs}
                session.record({"event": "resume", **chosen}, {"event": "resumed", **resumed})
        case "retry" if failed := session.state.failed():
            trial = draw.choice(failed)
            about = {"trial": trial.number, "epoch": trial.epoch}
            session.record({"event": "retried", **about})
        case "confirm":
            ended = [trial for trial in session.state.searched() if trial.ending == "completed"]
            if ended and len(session.state.confirming()) < 3:
                trial = draw.choice(ended)
                again = {"of": trial.number, "seed": 5, "fold": 1, "epochs": draw.randint(2, 9)}
                event = {"event": "proposed", "trial": session.state.next_number}
                event |= {"params": trial.params, "kind": "confirm", "protected": True}
                session.record(event | again)
        case "budget" if draw.random() < 0.1:
            session.record({"event": "budget", "what": "epochs", "spent": 3, "limit": 2})


def asked(session: StudySession, draw: random.Random) -> dict[str, Any] | None:
    """Return something that a person might ask for."""
    trials, dimension = list(session.state.trials.values()), session.study.space["optimizer.lr"]
    match draw.choice(["enqueue", "enqueue", "reference", "stop", "note"]):
        case "enqueue" if len(session.state.requests) < 12:
            return {"kind": "enqueue", "params": {"optimizer.lr": dimension.draw(draw)}}
        case "reference" if len(session.state.requests) < 12:
            name = f"r{draw.getrandbits(32)}"
            return {"kind": "enqueue", "params": {"optimizer.lr": 0.5}, "reference": name}
        case "stop" if live := [t for t in session.state.live() if not t.stop_asked]:
            return {"kind": "stop", "trial": draw.choice(live).number}
        case "note" if trials:
            return {"kind": "note", "trial": draw.choice(trials).number, "text": "look\x1b here"}
    return None


def imported(study: StudyConfig, draw: random.Random) -> list[Event]:
    """Return trials of an earlier study."""
    events = []
    for number in range(draw.choice([0, 0, 4])):
        params = {"optimizer.lr": 1e-3, "batch.effective": draw.choice([4, 8])}
        if "optimizer.ema_half_life_images" in study.space:
            params["optimizer.ema_half_life_images"] = draw.randint(10, 1000)
        values = [
            [epoch, *(draw.random() for _ in (study.objective, *study.further_objectives))]
            for epoch in range(1, draw.randint(2, 6))
        ]
        event = {"event": "imported", "source": "old", "uid": "old", "source_trial": number}
        ending = draw.choice(["completed", "stopped", "infeasible", "failed"])
        events.append(event | {"params": params, "values": values, "ending": ending})
    return events


def open_study(
    study: StudyConfig, folder: Path, draw: random.Random
) -> tuple[StudySession, Sampler, Loop]:
    """Begin a study or continue it as a new driver does."""
    ledger = Ledger.open(folder / "ledger.jsonl", writer=True)
    if not any(event["event"] == "study" for event in ledger.events):
        ledger.append({"event": "study", "uid": "toy", "config": {}}, *imported(study, draw))
    session = StudySession(study, folder, ledger)
    sampler = Checked(study)
    sampler.path = ledger.path
    for event in ledger.events:
        sampler.observe(event)
    session.listeners.insert(0, sampler.observe)
    fit = f"{__name__}:erratic"
    loop = Loop(session, sampler, workers=draw.randint(1, 5), fit=fit, draw=draw, deaths=0.05)
    return session, sampler, loop


def live_through(store: Path, folder: Path, seed: int) -> tuple[StudyConfig, StudySession]:
    """Run a random study to its end through kills, and compare at random moments."""
    draw = random.Random(f"rebuild/{seed}")
    study = random_study(store, draw, TYPES[seed % len(TYPES)])
    session, sampler, loop = open_study(study, folder, draw)
    while loop.turn():
        if draw.random() < 0.15:
            happen(session, draw)
        if draw.random() < 0.1:
            check(session, sampler)
        if draw.random() < 0.02:
            session.ledger.close()
            session, sampler, loop = open_study(study, folder, draw)
            check(session, sampler)
    check(session, sampler)
    session.ledger.close()
    assert session.finished or session.broken
    return study, session


@pytest.mark.parametrize("seed", range(7))
@pytest.mark.one_in(4)
def test_rebuilt_as_it_was(store, tmp_path, seed):
    """State, spending, rungs, stall rule, Optuna's trials, MLflow's ids, and every proposal."""
    _, session = live_through(store, tmp_path, seed)
    assert any(trial.reports for trial in session.state.trials.values())


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_rebuilt_as_it_was_in_many_orders(store, tmp_path):
    """Also that the random studies have in them what the comparison is about."""
    endings, kinds = set(), set()
    for seed in range(100, 149):
        _, session = live_through(store, tmp_path / str(seed), seed)
        endings |= {trial.ending for trial in session.state.trials.values()}
        kinds |= {event["event"] for event in session.ledger.events}
    assert endings >= {"completed", "stopped", "stalled", "diverged", "infeasible", "failed"}
    assert kinds >= {"driver", "imported", "interrupted", "resumed", "mlflow", "budget"}
    assert kinds >= {"enqueued", "stop_asked", "note"}
