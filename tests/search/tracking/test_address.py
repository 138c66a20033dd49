"""MLflow's database lies in the folder of all studies, whatever that is called."""

import shutil
import sys
from pathlib import Path

import pytest

from search.tracking.address import database_path, sqlite_uri, tracking_uri, ui_command
from search.tracking.client import connect

NAMES = ["a?b", "100% #1 & Co?", "a%20b", "a%b", "a#b", "a\\b", "Müller's (2)", "a@b:c;d"]


@pytest.mark.parametrize("name", NAMES)
def test_an_address_leads_back_to_its_file(name: str) -> None:
    path = Path("/runs") / name / "mlflow.db"
    assert database_path(sqlite_uri(path)) == path


def test_addresses_of_earlier_versions_stay_as_they_were_linked() -> None:
    for name in set(NAMES) - {"a?b", "100% #1 & Co?", "a%20b"}:
        assert sqlite_uri(Path("/runs") / name) == f"sqlite:////runs/{name}"


def test_a_database_is_opened_in_a_folder_of_any_name_and_nothing_is_made_beside_it(
    tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    runs = tmp_path / "100% #1 & Co?"
    runs.mkdir()
    shutil.copy(empty_database, runs / "mlflow.db")
    connect(tracking_uri(runs)).create_experiment("here")
    names = [e.name for e in connect(f"sqlite:///{empty_database}").search_experiments()]
    assert names == ["Default"]
    assert [path.name for path in tmp_path.iterdir()] == [runs.name]
    assert ui_command(runs / "study").endswith(f"ui study --runs '{runs}'")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert ui_command(runs / "study").startswith("segtune ui ")
