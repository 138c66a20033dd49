"""A study and its trials, read from its folder as the commands read it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.analysis.case_scores import read_cases
from search.analysis.ranking import value_of
from search.ledger.state import StudyState
from search.ledger.trial_state import TrialState
from search.storage.run_folders import fetch_cases
from search.storage.studies import display_path, find_study, read_study, refresh
from search.storage.trials.names import trial_name, trial_of
from search.study.config import StudyConfig
from search.workflows.model_ref import best_trial
from segtune.models import Model, model_of
from segtune.places import runs_of

if TYPE_CHECKING:
    import optuna
    import pandas as pd

OF_MASKS = ("masks", "unseen")
"""Columns that say nothing of trials."""


def study(words: str | Path, *, runs: str | Path | None = None) -> "Study":
    """Find a study, which may be running.

    Args:
        words: Its folder, its name below `runs`, or its address (s3://BUCKET/PREFIX/NAME).
        runs: The folder of all studies; by default SEGTUNE_RUNS or `runs`.

    Raises:
        ValueError: There is none, in a line that names the nearest.
        OSError: S3 does not answer, or refuses.
    """
    name = str(Path(words).expanduser()) if isinstance(words, Path) or words[:1] == "~" else words
    return Study(find_study(name.rstrip("/") or name, runs_of(runs)))


class Study:
    """A study. Each call reads its ledger anew, so that one that runs is seen as it stands then.

    All methods raise ValueError where the ledger is damaged, and OSError where it cannot be read.

    Attributes:
        folder: Its folder; of a study in S3, the one that stands for it on this machine.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def __repr__(self) -> str:
        return f"segtune.study({display_path(self.folder)!r})"

    @property
    def config(self) -> StudyConfig:
        """Its settings, as it was launched last."""
        return self._read()[0]

    def trials(self) -> "pd.DataFrame":
        """Return a row a trial: the searched ones as they are ranked, the control, the references.

        Returns:
            Indexed by the trial's number. The columns are those of `segtune compare --csv`: what it
            was (`kind`, `reference`) and how it ended (`ending`, `reason`), `value` and `rank`,
            `gpu_hours` and `cpu_hours`, the metrics of its last epoch (`val/dice`), and its
            settings by their dotted names (`optimizer.lr`); a setting that has the name of another
            column is `params.NAME`.
        """
        import pandas as pd

        from search.analysis.results import compare
        from search.report.csv_table import flat

        refresh(self.folder)
        found = compare(self.folder)
        rows = []
        for row in (*found["trials"], *found["references"]):
            about, params = flat(found, row)
            same = about.keys() - {"seed"}
            rows.append(about | {f"params.{k}" if k in same else k: v for k, v in params.items()})
        table = pd.DataFrame(rows, columns=None if rows else ["trial", *OF_MASKS])
        return table.set_index("trial").drop(columns=[*OF_MASKS])

    def curves(self) -> "pd.DataFrame":
        """Return a row a validation: `trial`, `kind`, `epoch`, `value` and the metrics.

        `value` is the objective at that epoch, which the leaderboard averages over the last few.
        """
        import pandas as pd

        _, state = self._read()
        rows = [
            {"trial": trial.number, "kind": trial.kind, "epoch": r.epoch, "value": r.value}
            | r.metrics
            for trial in state.trials.values()
            for r in trial.reports
        ]
        return pd.DataFrame(rows, columns=None if rows else ["trial", "kind", "epoch", "value"])

    def cases(self) -> "pd.DataFrame":
        """Return a row for each validation case of each trial, at the trial's last epoch.

        Returns:
            `trial`, `case_id`, `epoch` and the scores (`dice`, `avd_ml`, …). Trials whose cases are
            not at hand, as they were trained on another disk, have no rows.
        """
        import pandas as pd

        _, state = self._read()
        fetch_cases(self.folder)
        rows = [
            {"trial": number} | row
            for number, trial in state.trials.items()
            for row in read_cases(self.folder / "trials" / f"{number:04d}", trial.epoch)
        ]
        return pd.DataFrame(rows, columns=None if rows else ["trial", "case_id", "epoch"])

    def best(self) -> "Trial":
        """Return the trial that the leaderboard has first.

        Raises:
            ValueError: No trial has a result.
        """
        config, state = self._read()
        return self._trial(config, best_trial(self.folder, config, state))

    def trial(self, number: int) -> "Trial":
        """Return a trial; also the control, a reference or a confirming one.

        Raises:
            ValueError: There is no such trial.
        """
        config, state = self._read()
        return self._trial(config, trial_of(self.folder, state, number))

    def optuna(self, storage: "optuna.storages.BaseStorage | str | None" = None) -> "optuna.Study":
        """Return the searched trials as a study of Optuna's, for its pictures and dashboard.

        Args:
            storage: Where Optuna is to keep it; None is memory.

        Raises:
            ImportError: Optuna is not installed.
        """
        from segtune.optuna_study import optuna_study

        config, _ = self._read()
        return optuna_study(config, self.folder / "ledger.jsonl", storage)

    def _read(self) -> tuple[StudyConfig, StudyState]:
        refresh(self.folder)
        return read_study(self.folder)

    def _trial(self, config: StudyConfig, trial: TrialState) -> "Trial":
        return Trial(
            folder=self.folder,
            number=trial.number,
            kind=trial.kind,
            params=trial.params,
            ending=trial.ending,
            reason=trial.reason,
            epoch=trial.epoch,
            value=value_of(config, trial),
        )


@dataclass(frozen=True)
class Trial:
    """A trial as it stood when it was asked for."""

    folder: Path
    """The study's."""
    number: int
    kind: str
    """control, enqueued, sampled or confirm."""
    params: dict[str, Any]
    """Its settings of the search, by dotted name."""
    ending: str | None
    """completed, stopped, stalled, diverged, infeasible or failed; None before it ended."""
    reason: str
    """Why it ended."""
    epoch: int
    """The last one reported, 0 before the first."""
    value: float | None
    """By which it is ranked: the objective's mean over its last validations."""

    @property
    def name(self) -> str:
        """As the commands name it: STUDY:7."""
        return trial_name(self.folder, self.number)

    def model(self, device: str = "auto") -> Model:
        """Load its averaged weights.

        Args:
            device: Where to predict: auto, cpu, cuda or mps.

        Raises:
            ValueError: It has not ended, left no weights, or another trainer trained it.
            OSError: S3 does not answer.
        """
        return model_of(self.folder, self.number, device)
