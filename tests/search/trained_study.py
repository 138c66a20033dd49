"""A study with real weights, trained in this process: what `export` and `respace` begin with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from search.cli.main import main
from search.execution.faults.recovery import Recovery
from search.execution.gpus import with_gpus
from search.sampler.sampler import Sampler
from search.study.config import StudyConfig
from search.tuning.searcher import StudySearcher
from tests.search import offline
from tests.trainer.tiny import TINY
from trainer.loop import fit

CONTROL, GOOD, BAD, GOING_ON, FAILED = range(5)
"""Trials: the U-Net, two diffusion models, one that has not ended, one without weights."""


FOLD = 1
"""Whose lesions are large enough that an epoch of a tiny model finds some of them."""


def segtune(*words: str | Path, status: int = 0) -> str:
    """Run a command in this process, and return what it prints."""
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == status, result.output
    return result.output


def study(store: Path) -> StudyConfig:
    """A study of the learning rate."""
    train = {key: value for key, value in TINY.items() if key not in ("epochs", "optimizer.lr")}
    return StudyConfig.model_validate(
        {
            "study": "demo",
            "data": {"store": str(store), "fold": FOLD},
            "train": {
                **train,
                "data.modalities": ["ncct", "tmax"],
                "sampling.num_ensemble": 2,
                "epoch_images": 64,
            },
            "space": {"optimizer.lr": {"type": "float", "low": 1e-5, "high": 1e-1, "log": True}},
            "scheduler": {"type": "none", "max_t": 1},
            "trials": {"num_trials": 4},
            "control": {"optimizer.lr": 3e-3},
        }
    )


def write(store: Path, folder: Path) -> StudyConfig:
    """Train the study's trials into a folder."""
    config = study(store)
    with offline.opened(config, folder) as session:
        plan: list[tuple[str, dict[str, Any]]] = [("control", config.control_params)]
        plan += [("sampled", {"optimizer.lr": lr}) for lr in (3e-3, 1e-5, 1e-3, 1e-3)]
        for number, (kind, params) in enumerate(plan):
            proposed = {"event": "proposed", "trial": number, "params": params, "kind": kind}
            session.record(proposed | {"protected": kind == "control"})
        for number in (CONTROL, GOOD, BAD):
            offline.train(session, session.state.trials[number], fit)
        offline.end(session, session.state.trials[FAILED], "failed")
    return config


def launch(
    study: StudyConfig,
    runs: Path,
    address: str | None,
    *,
    show: Callable[[Path], str],
) -> int:
    """Do as `workflows.launch.launch`: the same proposals and evaluations, without Ray or GPUs."""
    if study.trials.gpus_per_trial == "auto":
        study = with_gpus(study, 0, study.study)
    folder = runs / study.study
    with offline.opened(study, folder) as session:
        sampler = Sampler(study)
        for event in session.ledger.events:
            sampler.observe(event)
        session.listeners.append(sampler.observe)
        searcher = StudySearcher(session, sampler, lambda without: 1, Recovery(dict), "")
        while (number := searcher._propose()) is not None:
            offline.train(session, session.state.trials[number], fit)
    print(show(folder))
    return 0
