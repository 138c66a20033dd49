"""`segtune replay` of a trial that a trainer of one's own trained: the same command again."""

import math
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from search.execution.environment import code_commit, package_versions
from search.execution.own_validations import own_fit
from search.ledger.trial_state import Report, TrialState
from search.storage.dataset_cache import open_store
from search.storage.trials.names import trial_name
from search.study.config import StudyConfig
from trainer.configfile import ConfigError


def segments(
    study: StudyConfig, trial: TrialState, until: float
) -> list[tuple[dict[str, Any], list[Report]]]:
    """Return what a trial trained: settings and reports for every number of epochs that it had."""
    found: list[tuple[dict[str, Any], list[Report]]] = []
    for report in trial.reports:
        if report.epoch > until:
            break
        goal = trial.goal_at(study, report.epoch)
        settings = study.settings(trial.params, epochs=goal, seed=trial.seed, fold=trial.fold)
        if not found or found[-1][0] != settings:
            found.append((settings, []))
        found[-1][1].append(report)
    return found


def train_again(
    study: StudyConfig, folder: Path, trial: TrialState, epochs: int | None
) -> Iterator[tuple[Report, Mapping[str, float]]]:
    """Train in a folder that is deleted; yield each report with the metrics of the new run.

    Args:
        study: With its trainer imported.
        folder: The study's.
        trial: The trial.
        epochs: Only those that were reported up to here; None for all.

    Raises:
        ConfigError: There is nothing to compare with, or the trainer does not take the settings.
        RuntimeError: The trainer failed, or reports other epochs.
    """
    parts = segments(study, trial, math.inf if epochs is None else epochs)
    if not parts:
        raise ConfigError(
            [f"{trial_name(folder, trial.number)}: no epoch of it was reported so far"]
        )
    assert study.trainer is not None
    with tempfile.TemporaryDirectory(prefix="segtune-replay-") as temporary:
        spec: dict[str, Any] = {
            "trial": trial.number,
            "run_dir": str(Path(temporary) / "trials" / f"{trial.number:04d}"),
            "received": -1,
            "objective": study.objective.metric,
            "trainer": study.trainer.model_dump(mode="json"),
            "cpus": study.trials.cpus_per_trial,
            "gpus": study.trials.gpus,
            "has_data": study.has_data,
        }
        for settings, reports in parts:
            if study.has_data:
                settings["data"]["store"] = str(open_store(study.data.store).path)
            validations = own_fit(spec | {"train": settings})()
            for report in reports:
                now = next((v for v in validations if v.epoch >= report.epoch), None)
                if now is None or now.epoch != report.epoch:
                    raise RuntimeError(f"epoch {report.epoch} is not reported now")
                yield report, now.metrics
                spec["received"] = report.epoch
            validations.close()


def environment(trial: TrialState) -> list[str]:
    """Return a line for all that is known to differ from then; the trainer's own code is not."""
    now = {"commit": code_commit(), **package_versions()}
    then = [{"commit": attempt.commit, **attempt.versions} for attempt in trial.attempts]
    lines = []
    for key, value in now.items():
        known = sorted({str(each[key]) for each in then if key in each})
        if known and known != [str(value)]:
            lines.append(
                f"{key}: {', '.join(each or 'unknown' for each in known)} then, {value} now"
            )
    return lines
