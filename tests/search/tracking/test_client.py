"""What MLflow takes of names that a trainer of one's own may give."""

from pathlib import Path

import pytest

from search.tracking.address import sqlite_uri
from search.tracking.client import MAX_NAME, connect, log, name_for

ODD = ["dice (%)", "dice [%]", "a//b", "/a", "a/", "../a", "./a", ".", "", "é=1", "x" * 300, "a\nb"]


@pytest.mark.parametrize(
    "name", ["val/dice", "optimizer.lr", "mlflow.note.content", "a b:c-d_e", "é"]
)
def test_a_name_that_mlflow_takes_stays(name: str) -> None:
    assert name_for(name) == name


def test_mlflow_takes_every_name_and_keeps_them_apart(tmp_path: Path) -> None:
    """MLflow itself is asked: it refuses a whole request for one name."""
    client = connect(sqlite_uri(tmp_path / "mlflow.db"))
    run = client.create_run(client.create_experiment("odd")).info.run_id
    points = [(name, float(value), 1, 1) for value, name in enumerate(ODD)]
    log(client, run, points, tags=dict.fromkeys(ODD, "t"), params=dict.fromkeys(ODD, 1))
    found = client.get_run(run).data
    assert sorted(found.metrics.values()) == [float(value) for value in range(len(ODD))]
    assert len(found.params) == len(ODD) and set(found.params) <= set(found.tags)
    assert all(len(name) <= MAX_NAME for name in found.metrics)
