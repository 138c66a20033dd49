"""A folder that only the driver sees is found before the first trial."""

import shutil
import subprocess
from pathlib import Path

import pytest

from search.execution.preflight import inspect_node
from search.storage.s3 import Remote
from tests.search.conftest import Driver, events, second_node, write_study
from trainer.data.store import Store


def can_mount() -> bool:
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]
    return (
        shutil.which("unshare") is not None
        and not subprocess.run(command, capture_output=True).returncode
    )


needs_mounts = pytest.mark.skipif(not can_mount(), reason="needs root and mount namespaces")


def test_what_is_seen(store: Path, tmp_path: Path) -> None:
    content = Store.open(store).content_hash
    (tmp_path / "marker").touch()
    answer, problem = inspect_node(str(tmp_path), "marker", str(store), content)
    assert problem == "" and (tmp_path / answer).exists()


@pytest.mark.parametrize(
    ("place", "marker", "says"),
    [
        ("", "other", "not what the driver sees there; all nodes must see"),
        ("nothing", "marker", "nothing: not what the driver sees there"),
    ],
)
def test_a_folder_that_is_not_shared(
    store: Path, tmp_path: Path, place: str, marker: str, says: str
) -> None:
    (tmp_path / "marker").touch()
    assert says in inspect_node(str(tmp_path / place), marker, str(store), "")[1]


def test_a_store_that_is_not_shared(store: Path, tmp_path: Path) -> None:
    (tmp_path / "marker").touch()
    there = inspect_node(str(tmp_path), "marker", str(tmp_path / "store"), "")[1]
    assert "data.store" in there and "No such file" in there
    assert "has other content there" in inspect_node(str(tmp_path), "marker", str(store), "x")[1]


def test_a_node_sees_a_study_in_s3(store: Path, s3: str) -> None:
    place = Remote.parse(s3) / "toy"
    content = Store.open(store).content_hash
    assert "not what the driver sees" in inspect_node(place.uri, "marker", str(store), content)[1]
    place.put("marker", b"")
    answer, problem = inspect_node(place.uri, "marker", str(store), content)
    assert problem == "" and place.get(answer) == b""
    assert (
        "NETWORK_CONNECTION" in inspect_node("s3://b?endpoint_override=127.0.0.1:9", "m", "", "")[1]
    )


@pytest.mark.slow
@needs_mounts
def test_a_node_that_does_not_see_the_runs(cluster: str, store: Path, tmp_path: Path) -> None:
    """It sees something else where tmp_path is."""
    study = write_study(tmp_path, store)
    elsewhere = ("unshare", "-m", "bash", "-c", f'mount -t tmpfs none {tmp_path}; exec "$0" "$@"')
    with second_node(cluster, tmp_path / "node.log", 1, *elsewhere):
        driver = Driver(study, tmp_path, cluster)
        assert driver.wait() == 2
    said = driver.log.read_text()
    lines = [line for line in said.splitlines() if line.startswith("node ")]
    assert len(lines) == 1 and f"{tmp_path}/toy: not what the driver sees there" in lines[0]
    assert "Traceback" not in said and not events(driver.folder, "proposed")
    assert not list(driver.folder.glob("seen-*"))
