"""Faults of the surroundings, with real Ray: none of them is a trial's result."""

import os
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from search.storage.studies import read_study
from search.workflows.retry import retry
from tests.search.conftest import ROOT, Driver, write_study
from tests.search.forked import Forked
from tests.search.workflows.test_launch import results

Drive = Callable[..., Driver]

pytestmark = pytest.mark.slow


def endings(driver: Driver) -> dict[int, str | None]:
    return {t.number: t.ending for t in read_study(driver.folder)[1].trials.values()}


def copied(store: Path, tmp_path: Path) -> Path:
    """Return a store that may be harmed."""
    return Path(shutil.copytree(store, tmp_path / "store"))


def test_a_store_that_is_away_for_a_while_changes_nothing(
    tmp_path: Path, store: Path, drive: Drive, calm: Driver
) -> None:
    """Trials wait for it; no more is proposed, stopped or learnt than without the fault."""
    place = copied(store, tmp_path)
    driver = drive(write_study(tmp_path, place, toy={"slow": 0.1}))
    driver.wait_for(lambda: len(driver.events("reported")) >= 2)
    place.rename(tmp_path / "away")
    driver.wait_for(lambda: len(driver.events("interrupted")) >= 2)
    proposed = len(driver.events("proposed"))
    time.sleep(3)
    assert len(driver.events("proposed")) == proposed
    (tmp_path / "away").rename(place)
    out = driver.finish()
    assert results(driver.folder) == results(calm.folder)
    assert {event["cause"] for event in driver.events("interrupted")} == {"storage"}
    assert "not a prepared store (manifest.json is missing)" in out and "; again in 4 s" in out


def test_data_that_change_in_place_end_the_study(tmp_path: Path, store: Path, drive: Drive) -> None:
    """Before another trial trains on them, with a line; put back, the study goes on."""
    place = copied(store, tmp_path)
    study = write_study(tmp_path, place, toy={"slow": 0.2})
    driver = drive(study)
    driver.wait_for(lambda: len(driver.events("reported")) >= 2)
    path = place / "cases" / "case03.npz"
    before = path.read_bytes()
    path.write_bytes(before[:-30] + bytes(30))
    assert driver.wait() == 3
    last = driver.log.read_text().splitlines()[-1]
    assert "then: segtune launch" in last and "damaged store: case case03: " in last
    assert not [event for event in driver.events("ended") if event["ending"] == "failed"]
    path.write_bytes(before)
    driver = drive(study)
    driver.finish()
    assert {*endings(driver).values()} <= {"completed", "stopped"}


@pytest.mark.parametrize("replaced", [pytest.param(False, marks=pytest.mark.nightly), True])
def test_a_ledger_that_is_gone_ends_its_driver(
    tmp_path: Path, store: Path, drive: Drive, calm: Driver, replaced: bool
) -> None:
    """With a line and a nonzero status; what it had is saved, and put back it goes on."""
    study = write_study(tmp_path, store, toy={"slow": 0.1})
    driver = drive(study)
    driver.wait_for(lambda: len(driver.events("reported")) >= 4)
    ledger = driver.folder / "ledger.jsonl"
    content = ledger.read_bytes()
    ledger.unlink()
    if replaced:
        ledger.write_bytes(content)
    assert driver.wait() == 2
    [saved] = driver.folder.glob("ledger.*.saved.jsonl")
    assert f"{saved.name} there: move that back" in driver.log.read_text()
    assert saved.read_bytes().startswith(content)
    saved.rename(ledger)
    driver = drive(study)
    driver.finish()
    assert results(driver.folder) == results(calm.folder)


def again(folder: str, address: str, fit: str) -> int:
    return retry(Path(folder), address=address, fit=fit)


def test_what_cannot_be_imported_fails_once_and_is_retried(
    tmp_path: Path, store: Path, drive: Drive, cluster: str, mlflow_uri: str
) -> None:
    """One attempt a trial, its reason in its log; status 3 of them all; mended, it goes on."""
    driver = drive(write_study(tmp_path, store), fit="tests.search.absent:fit")
    assert driver.wait() == 3
    reason = "ModuleNotFoundError: No module named 'tests.search.absent'"
    last = driver.log.read_text().splitlines()[-1]
    assert "segtune retry toy --runs" in last and reason in last
    assert {event["reason"] for event in driver.events("ended")} == {reason}
    text = (driver.folder / "trials/0000/log.txt").read_text()
    assert text.startswith("--- ") and text.endswith(f"{reason}\n")
    assert {*Counter(e["trial"] for e in driver.events("started")).values()} == {1}
    assert [e["ending"] for e in driver.events("ended")] == ["failed"] * 3
    env = {**os.environ, "MLFLOW_TRACKING_URI": mlflow_uri, "RAY_AUTH_MODE": "disabled"}
    log = tmp_path / "retry.log"
    mended = Forked(again, str(driver.folder), cluster, "tests.search.toy:fit", log=log, env=env)
    assert mended.wait(960) == 0, log.read_text()
    assert len(endings(driver)) == 10
    assert {*endings(driver).values()} <= {"completed", "stopped"}


@pytest.mark.nightly
@pytest.mark.timeout(1200)
def test_a_node_on_which_every_process_dies_costs_no_trial(
    tmp_path: Path, store: Path, mlflow_uri: str
) -> None:
    """Its trials go elsewhere, and it is left alone and named."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("PYTHONPATH", str(ROOT))
        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        try:
            nodes.add_node(num_cpus=2)
            bad = nodes.add_node(num_cpus=4)
            study = write_study(
                tmp_path,
                store,
                toy={"bad_node": bad.node_id, "slow": 0.3},
                trials={"num_trials": 6, "cpus_per_trial": 1},
                scheduler={"type": "none", "max_t": 3},
            )
            driver = Driver(
                study,
                tmp_path,
                nodes.address,
                "tests.search.bad_node:fit",
                env={"MLFLOW_TRACKING_URI": mlflow_uri},
            )
            out = driver.finish()
        finally:
            nodes.shutdown()
    assert {*endings(driver).values()} == {"completed"} and len(endings(driver)) == 8
    deaths = Counter(event["trial"] for event in driver.events("interrupted"))
    assert deaths and {*deaths.values()} == {1}, deaths
    assert "attempts in a row died there: it is left alone for 60 s" in out
