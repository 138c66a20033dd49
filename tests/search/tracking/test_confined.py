"""Where artifacts may be that MLflow's server shows: below the runs folder, whatever is planted."""

import os
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from search.tracking.confined import _Confined


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A runs folder with artifacts, and links, a pipe and secrets beside them."""
    folder = tmp_path / "runs" / "artifacts"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a.txt").write_text("shown")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "token").write_text("secret")
    (folder / "link").symlink_to(tmp_path / "secret" / "token")
    (folder / "linked").symlink_to(tmp_path / "secret")
    (folder / "inside").symlink_to(folder / "sub" / "a.txt")
    (tmp_path / "runs" / "away").symlink_to(tmp_path / "secret")
    os.mkfifo(folder / "pipe")
    return tmp_path / "runs"


def open_(runs: Path, uri: str):
    return _Confined(runs).get_artifact_repository(uri)


def refused(error: pytest.ExceptionInfo[MlflowException]) -> bool:
    return error.value.get_http_status_code() == 403


@pytest.mark.parametrize("form", ["{}", "file://{}", "file:{}", "file://localhost{}", "{}/sub/.."])
def test_what_is_shown(runs: Path, form: str) -> None:
    artifacts = open_(runs, form.format(runs / "artifacts"))
    assert Path(artifacts.get_local_path("sub/a.txt")).read_text() == "shown"
    assert Path(artifacts.get_local_path("inside")).read_text() == "shown"
    assert [file.path for file in artifacts.list_artifacts()] == ["inside", "sub"]
    assert [file.path for file in artifacts.list_artifacts("sub")] == ["sub/a.txt"]


@pytest.mark.parametrize("uri", [
    "/", "{above}", "{above}/secret", "file://{above}/secret", "file:{above}/secret", ".", "", "~",
    "FILE://{above}/secret", "{runs}/../secret", "file://{runs}/%2e%2e/secret", "{runs}/away",
    "file://{runs}/..%2Fsecret", "{runs}/%2e%2e/secret", "file://elsewhere{runs}/artifacts",
    "file:{runs}/away", "{runs}x", "s3://bucket/a", "http://127.0.0.1/a", "ftp://h/a", "runs:/1/a",
    "mlflow-artifacts:/a", "mlflow-artifacts://h/a", "models:/m/1", "dbfs:/a", "unheard-of://a",
    "file:///proc/self", "gs://b", "hdfs://h/a", "sftp://h/a", "sqlite:///{above}/secret",
])  # fmt: skip
def test_a_place_elsewhere(runs: Path, uri: str) -> None:
    with pytest.raises(MlflowException, match="shows artifacts below") as error:
        open_(runs, uri.format(runs=runs, above=runs.parent))
    assert refused(error)


@pytest.mark.parametrize("path", ["link", "linked", "linked/token", "pipe", "../../secret/token",
                                  "%2e%2e/%2e%2e/secret/token", "/etc/passwd"])  # fmt: skip
def test_a_path_that_leads_elsewhere(runs: Path, path: str) -> None:
    artifacts = open_(runs, str(runs / "artifacts"))
    for act in (artifacts.get_local_path, artifacts.list_artifacts, artifacts.download_artifacts):
        with pytest.raises(MlflowException) as error:
            act(path)
        assert refused(error)


def test_nothing_is_written_or_deleted(runs: Path, tmp_path: Path) -> None:
    """No endpoint that is open does; if one did, it could not."""
    artifacts = open_(runs, str(runs / "artifacts"))
    for act in (artifacts.log_artifact, artifacts.log_artifacts, artifacts.delete_artifacts):
        with pytest.raises(MlflowException) as error:
            act(str(runs / "artifacts" / "sub"))
        assert refused(error)
    assert (runs / "artifacts" / "sub" / "a.txt").exists()
