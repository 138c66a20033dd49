"""What MLflow has of a study that is deleted: its experiment goes, and its name is free again."""

import time
from pathlib import Path
from typing import Any

from search.storage.mlflow_cursor import FILE
from search.storage.outbox import reason
from search.tracking.address import tracking_uri, without_credentials


def delete_experiment(folder: Path, runs: Path, name: str, uid: str) -> str:
    """Delete a study's experiment in MLflow, which keeps it where its own pages can restore it.

    Of one that another study of the same name has runs in, only this study's runs.

    Args:
        folder: Where the study lies now.
        runs: Beside which studies it was.
        name: The study's.
        uid: The study's.

    Returns:
        A line for people; empty where MLflow was never told of the study.
    """
    if not (folder / FILE).exists():
        return ""
    uri = tracking_uri(runs)
    try:
        from search.tracking.client import connect

        client = connect(uri)
        experiment = client.get_experiment_by_name(name)
        if experiment is None or experiment.lifecycle_stage == "deleted":
            return ""
        ours, others = _runs(client, experiment.experiment_id, uid)
        if others:
            for run_id in ours:
                client.delete_run(run_id)
            return f"MLflow    its {len(ours)} runs are deleted in {without_credentials(uri)}"
        # Else a new study of this name could not have one.
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        client.rename_experiment(experiment.experiment_id, f"{name} (deleted {now})")
        client.delete_experiment(experiment.experiment_id)
    except Exception as error:  # whatever MLflow raises
        where = without_credentials(uri)
        said = without_credentials(reason(error, length=160))
        return f"MLflow at {where} still has it: {said}: delete the experiment {name} there"
    return f"MLflow    its experiment is deleted in {without_credentials(uri)}"


def _runs(client: Any, experiment_id: str, uid: str) -> tuple[list[str], list[str]]:
    """Return the runs of a study in an experiment, and those of others."""
    found: tuple[list[str], list[str]] = ([], [])
    token: str | None = ""
    while token is not None:
        page = client.search_runs([experiment_id], max_results=1000, page_token=token or None)
        for run in page:
            tags = run.data.tags
            mine = tags.get("study_uid") == uid or tags.get("trial_uid", "").startswith(f"{uid}/")
            found[not mine].append(run.info.run_id)
        token = page.token or None
    return found
