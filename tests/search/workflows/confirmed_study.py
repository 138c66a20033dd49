"""A finished study to confirm, and what is found of it then."""

import shutil
from pathlib import Path

import pytest

import search.workflows.confirming.confirm
from search.ledger.trial_state import TrialState
from search.storage.studies import read_study
from tests.search import offline
from trainer.configfile import ConfigError


@pytest.fixture(autouse=True)
def no_weights_and_no_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Say what a task says of the toy's folders, without Ray; deliver nothing, a second a call.

    `test_the_same_again_and_more_seeds` delivers, and so do those that are slow.
    """
    monkeypatch.setattr(search.workflows.confirming.confirm, "send_rest", lambda session, say: None)

    def score_as_used(session, trials, address):
        raise ConfigError(["0007: has no weights"])

    monkeypatch.setattr("search.workflows.confirming.models.score_as_used", score_as_used)


@pytest.fixture
def folder(
    tmp_path: Path,
    store: Path,
    empty_database: Path,
    plain_pictures: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A finished study: control 0, reference 1, and 4, 6, 2, 3, 5 from the best to the worst."""
    monkeypatch.setattr(search.workflows.confirming.confirm, "run_study", offline.run_study)
    offline.finished(tmp_path / "runs" / "toy", store)
    shutil.copy(empty_database, tmp_path / "runs" / "mlflow.db")
    return tmp_path / "runs" / "toy"


def confirming(folder: Path) -> list[TrialState]:
    return read_study(folder)[1].confirming()


def newest(folder: Path) -> dict:
    return read_study(folder)[1].verdicts[-1]


def words(verdict: dict) -> dict[tuple[str, int, int], str]:
    return {(c["family"], c["trial"], c["other"]): c["verdict"] for c in verdict["comparisons"]}
