"""A study carried out in this process: the ledger that a driver would write, without Ray."""

from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from search.execution.environment import code_commit, package_versions
from search.execution.hardware import cpu_model
from search.ledger.decisions import decision_events
from search.ledger.journal import Ledger
from search.ledger.session import StudySession
from search.ledger.trial_state import Report, TrialState
from search.study.config import StudyConfig
from search.study.frozen import birth
from tests.search import toy
from trainer.data.store import Store
from trainer.exceptions import Diverged

LR = (3e-4, 1e-2, 9e-4, 3e-5, 2e-3)
"""Of the searched trials: with the toy, trial 4 is the best, then 6, 2, 3 and 5."""


def study(store: Path, **settings: Any) -> StudyConfig:
    """A study of lr alone, with a control and a reference, without pruning."""
    values: dict[str, Any] = {
        "study": "toy",
        "data": {"store": str(store)},
        "space": {"optimizer.lr": {"type": "float", "low": 1e-5, "high": 1e-1, "log": True}},
        "scheduler": {"type": "none", "max_t": 3},
        "trials": {"num_trials": len(LR)},
        "enqueue": [{"optimizer.lr": 1e-4, "protected": True}],
        "seed": 1,
    }
    return StudyConfig.model_validate(values | settings)


@contextmanager
def opened(config: StudyConfig, folder: Path, *, frozen: bool = True, **begun: Any):
    """Open a study as its driver; a new one gets its first event, of version 0.1 if not frozen."""
    with Ledger.open(folder / "ledger.jsonl", writer=True) as ledger:
        if not any(event["event"] == "study" for event in ledger.events):
            ledger.append(
                {
                    "event": "study",
                    "uid": "0",
                    "config": config.model_dump(mode="json"),
                    "store_hash": Store.open(config.data.store).content_hash,
                    "commit": code_commit(),
                    "versions": package_versions(),
                    **(birth(config)._asdict() if frozen else {}),
                    **begun,
                }
            )
        yield StudySession(config, folder, ledger)


def propose(session: StudySession) -> None:
    """Record the whole plan: control, references, and a trial for each of LR."""
    config = session.study
    plan = [("control", config.control_params)] if config.has_control else []
    plan += [("enqueued", reference.settings) for reference in config.trained_references]
    plan += [("sampled", {"optimizer.lr": lr}) for lr in LR[: config.trials.num_trials]]
    for number, (kind, params) in enumerate(plan):
        proposed = {"event": "proposed", "trial": number, "params": params, "kind": kind}
        session.record(proposed | {"protected": kind != "sampled"})


def run_study(
    session: StudySession, address: str = "", *, only: Iterable[int] | None = None, fit: str = ""
) -> int:
    """Train live trials, one after the other; in the place of `workflows.launch.run_study`."""
    session.only = None if only is None else frozenset(only)
    for trial in session.live():
        train(session, trial)
    return 0


def train(session: StudySession, trial: TrialState, fit: Any = toy.fit) -> None:
    about = {"trial": trial.number}
    config = trial.config(session.study)
    where = {"host": "h", "pid": 1, "cpu": cpu_model(), "threads": config.num_threads}
    where |= {"commit": code_commit(), "versions": package_versions()}
    session.record({"event": "started", **about, "attempt": len(trial.attempts) + 1, **where})
    try:
        for validation in fit(config, session.trial_dir(trial.number), received=trial.received):
            metrics = validation.metrics
            value = metrics[session.study.objective.metric]
            report = Report(validation.epoch, value, metrics)
            decision = session.pruner.decide(trial, report)
            reported = {"event": "reported", **about, **report._asdict()}
            session.record(reported, *decision_events(trial.number, report, decision))
            if trial.ending:
                return
    except Diverged as error:
        end(session, trial, "diverged", str(error))


def end(session: StudySession, trial: TrialState, ending: str, reason: str = "why") -> None:
    about = {"trial": trial.number, "epoch": trial.epoch}
    session.record({"event": "ended", **about, "ending": ending, "reason": reason})


def finished(folder: Path, store: Path, *, frozen: bool = True, **settings: Any) -> StudyConfig:
    """Write a study that ran to its end."""
    config = study(store, **settings)
    with opened(config, folder, frozen=frozen) as session:
        propose(session)
        run_study(session)
    return config
