"""What `compare` says of one trial, as JSON values."""

from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from search.analysis.case_scores import (
    DICE,
    dice_of,
    intervals_of,
    paired_difference,
    read_cases,
    volume_groups,
)
from search.analysis.first_weights import warning
from search.analysis.intervals import mean_interval
from search.analysis.ranking import standing, value_at, value_of
from search.ledger.state import StudyState
from search.ledger.trial_state import TrialState
from search.storage.run_folders import logs_of
from search.study.config import StudyConfig
from trainer.config import TrainConfig
from trainer.configfile import ConfigError, build, flatten
from trainer.files.documents import strict

Changes = dict[str, list[Any]]
"""[default, value] by dotted trainer path."""


class TrialRows:
    """A study's trials as rows, each beside the best one.

    Args:
        study: Its settings.
        state: Its ledger.
        folder: Where the trials' cases lie.
        equal_epoch: At which all are compared on equal terms; None before any report.
        best: The best searched trial, None without one.
        driven: Whether the study's driver lives.
    """

    def __init__(
        self,
        study: StudyConfig,
        state: StudyState,
        folder: Path,
        equal_epoch: int | None,
        best: TrialState | None,
        *,
        driven: bool,
    ):
        self.study, self.state, self.folder = study, state, folder
        self.equal_epoch, self.best, self.driven = equal_epoch, best, driven
        self._log = logs_of(folder)
        self._dice: Callable[[int, int], dict[str, float] | None] = cache(
            lambda number, epoch: dice_of(study, state.trials[number], epoch, self._run_dir(number))
        )

    def row(self, trial: TrialState) -> dict[str, Any]:
        """Return all that is known of a trial.

        Its numbers are those of its last epoch reported, whose weights stand for it; but `value`
        and `means` are the mean over `value_epochs`, by which it is ranked.
        """
        study, epoch = self.study, self.equal_epoch
        metrics = trial.reports[-1].metrics if trial.reports else {}
        dice = self._dice(trial.number, trial.epoch)
        own = trial.reports[-1].value if trial.reports else None
        mean = standing(study, trial)
        settings: dict[str, Any] = {"seed": study.seed, **study.train, **trial.params}
        return {
            "trial": trial.number,
            "kind": trial.kind,
            "from_prior": trial.from_prior,
            "status": trial.status(driven=self.driven),
            "ending": trial.ending,
            "reason": trial.reason,
            "notes": trial.notes,
            "deleted": trial.deleted.in_words() if trial.deleted else None,
            "log": self._log(trial.number) if trial.attempts else "",
            "epochs": trial.epoch,
            "goal": trial.goal(study),
            "resumed_after": [segment.after for segment in trial.segments],
            "value": value_of(study, trial),
            "value_epochs": list(mean.epochs) if mean else [],
            "last_value": strict(own),
            "means": self._means(trial),
            "value_at_equal": None if epoch is None else strict(value_at(study, trial, epoch)),
            "rank_at_equal": None,
            "dice": strict(metrics.get("val/dice")),
            "dice_interval": mean_interval([*dice.values()], DICE.scale) if dice else None,
            "num_cases": len(dice) if dice else None,
            "avd_ml": strict(metrics.get("val/avd_ml")),
            "lesion_f1": strict(metrics.get("val/lesion_f1")),
            "difference_to_best": self._difference_to_best(trial),
            **self.state.meter.cost_hours(study.trials, trial.number),
            "seed": settings["seed"] if trial.seed is None else trial.seed,
            "fold": self._fold(trial),
            "hosts": trial.hosts,
            "first_weights": warning(study, self.state, trial.params),
            "changed": changed(study, trial),
            "pictures": [f"trials/{trial.number:04d}/{path}" for path in trial.pictures],
            "metrics": {key: strict(value) for key, value in metrics.items()},
            "params": trial.params,
        }

    def _fold(self, trial: TrialState) -> int | None:
        if not self.study.has_data:
            return None
        return self.study.data.fold if trial.fold is None else trial.fold

    def _means(self, trial: TrialState) -> dict[str, float | None]:
        """Return each objective's mean over the last validations, by which trials are judged."""
        metrics = [o.metric for o in (self.study.objective, *self.study.further_objectives)]
        found = {metric: standing(self.study, trial, metric=metric) for metric in metrics}
        return {metric: strict(mean.value) for metric, mean in found.items() if mean}

    def _difference_to_best(self, trial: TrialState) -> dict[str, Any] | None:
        """Return the paired difference of Dice to the best at the last epoch that both reported.

        The same epoch draws the same noise in validation, so that what is left is the trials'.
        """
        if self.best is None or trial is self.best:
            return None
        shared = {r.epoch for r in trial.reports} & {r.epoch for r in self.best.reports}
        if not shared:
            return None
        epoch = max(shared)
        mine, theirs = (self._dice(number, epoch) for number in (trial.number, self.best.number))
        found = paired_difference(mine, theirs)
        return found and {**found, "epoch": epoch}

    def subgroups(self, trial: TrialState, role: str) -> dict[str, Any] | None:
        """Return how a trial does by lesion volume, None where that is not at hand."""
        if self.study.trainer:  # which does not tell the volumes
            return None
        rows = read_cases(self._run_dir(trial.number), trial.epoch)
        about = {"trial": trial.number, "role": role, "epoch": trial.epoch}
        if not rows:
            return None
        return {**about, "groups": volume_groups(rows), "intervals": intervals_of(rows)}

    def _run_dir(self, number: int) -> Path:
        return self.folder / "trials" / f"{number:04d}"


def changed(study: StudyConfig, trial: TrialState) -> Changes | None:
    """Return what a trial's configuration has other than the trainer's defaults.

    Store, fold, number of epochs and the weights it begins with are taken as the trial has them.
    None where an earlier version had settings that there are no more.
    """
    if study.trainer:
        usual = study.frozen.settings if study.frozen else study.defaults
        own = _without_empty(trial.settings(study))
        elsewhere = {*study.settings_elsewhere, "seed"}
        return {
            key: [usual.get(key), value]
            for key, value in own.items()
            if key not in elsewhere and usual.get(key) != value
        }
    try:
        mine = trial.config(study)
        default, of_all = _usual(mine.data.store, mine.data.fold, mine.epochs, mine.init_from)
    except ConfigError:
        return None
    sections = TrainConfig.model_fields
    apart = {each for each in sections if getattr(mine, each) != getattr(default, each)}
    values = _settings(mine, apart)
    defaults = {key: value for each in apart for key, value in of_all[each].items()}
    return {
        key: [defaults.get(key), values.get(key)]
        for key in [*values, *(defaults.keys() - values.keys())]
        if defaults.get(key) != values.get(key)
    }


@lru_cache
def _usual(
    store: str, fold: int, epochs: int, init_from: str | None
) -> tuple[TrainConfig, dict[str, dict[str, Any]]]:
    """Return the defaults, also by section and dotted path."""
    given = {"data": {"store": store, "fold": fold}, "epochs": epochs, "init_from": init_from}
    config = build(TrainConfig, given, "")
    return config, {each: _settings(config, {each}) for each in TrainConfig.model_fields}


def _settings(config: TrainConfig, sections: set[str]) -> dict[str, Any]:
    """Return some settings by dotted path, without tables that have no entry."""
    return _without_empty(config.model_dump(mode="json", include=sections))


def _without_empty(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in flatten(settings).items() if value != {}}
