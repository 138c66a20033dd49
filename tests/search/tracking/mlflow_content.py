"""Everything that MLflow has of a study, in a form that can be compared."""

from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run

CHANGING = {"report.html", "compare.json", "leaderboard.txt", "answer.txt"}
"""Files in which seconds and dates stand."""


def experiment_runs(client: MlflowClient, study: str = "toy") -> list[Run]:
    """Return all runs of a study, its own among them."""
    experiment = client.get_experiment_by_name(study)
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def content(uri: str, study: str = "toy") -> dict[str, Any]:
    """Return what MLflow has: the experiment's tags, and each run by its name."""
    client = MlflowClient(uri)
    found = experiment_runs(client, study)
    names = {run.info.run_id: run.info.run_name for run in found}
    assert len(set(names.values())) == len(found), "a run twice"
    runs = {run.info.run_name: _run(client, run, names) for run in found}
    return {"tags": client.get_experiment_by_name(study).tags, "runs": runs}


def _run(client: MlflowClient, run: Run, names: dict[str, str]) -> dict[str, Any]:
    tags = dict(run.data.tags)
    if parent := tags.pop("mlflow.parentRunId", None):
        tags["parent"] = names[parent]
    if "kind" in tags and tags["kind"] == "study":
        del tags["mlflow.note.content"]
    return {
        "tags": tags,
        "params": run.data.params,
        "metrics": {key: _history(client, run, key) for key in run.data.metrics},
        "status": run.info.status,
        "times": (run.info.start_time, run.info.end_time),
        "files": files(client, run),
    }


def _history(client: MlflowClient, run: Run, key: str) -> list[tuple[int, int, float]]:
    points = client.get_metric_history(run.info.run_id, key)
    return [(point.step, point.timestamp, point.value) for point in points]


def files(client: MlflowClient, run: Run) -> dict[str, bytes]:
    """Return the artifacts of a run that are kept as files here; of changing ones that they are."""
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.*")}
    return {name: b"" if name in CHANGING else path.read_bytes() for name, path in found.items()}
