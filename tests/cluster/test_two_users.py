"""Two users' studies on one host: neither sees nor ends the other's Ray."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.hosts import obstacle
from tests.cluster.apart import USERS, Apart
from tests.cluster.test_slurm import MISSING, Slurm
from tests.cluster.test_slurm_workers import check_said
from tests.search.conftest import events, store, write_study

__all__ = ["store"]

pytestmark = pytest.mark.skipif(bool(reason := obstacle()), reason=reason)

EPOCHS = 40
"""So many that no study ends before it is told to hurry, also on a busy machine."""


class Person:
    """A user of a host, with a study."""

    def __init__(self, host: Apart, name: str):
        self.name = name
        self.home = host.folder / name
        self.uid = self.home.stat().st_uid
        runs = self.home / "runs"
        study = write_study(
            runs,
            host.folder / "store",
            toy={"slow": 4},
            scheduler={"type": "none", "max_t": EPOCHS},
            trials={"num_trials": 3, "cpus_per_trial": 1},
            enqueue=[],
        )
        self.words = [str(study), str(runs)]
        self.study = runs / "toy"
        host.call("chown", "--recursive", f"{name}:{name}", self.home)

    def hurry(self) -> None:
        """Let epochs take no time from now on."""
        (self.study / "toy" / "slow").write_text("0.01")

    def processes(self) -> dict[int, set[str]]:
        """Return the user's processes, and the folders of Rays that they name."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if path.stat().st_uid == self.uid:
                    words = (path / "cmdline").read_text()
                    found[int(path.name)] = {*re.findall(r"/tmp/segtune-ray-\w+", words)}
            except OSError:  # it ended
                continue
        return found

    def rays(self) -> set[str]:
        """Return the folders of Rays that the user's processes name."""
        return {folder for folders in self.processes().values() for folder in folders}

    def folders(self) -> list[Path]:
        """Return the private folders of this user's Rays."""
        return [p for p in Path("/tmp").glob("segtune-ray-*") if p.stat().st_uid == self.uid]

    def said(self) -> dict[str, Any]:
        """Return what the study's head says."""
        about: dict[str, Any] = json.loads((self.study / "head" / "now.json").read_text())
        return about

    def ended(self) -> bool:
        """Return whether the study has."""
        return self.said().get("status") == 0

    def check_whole(self) -> None:
        """Check that the study has all of its trials and epochs, once."""
        ends = events(self.study, "ended")
        assert len(ends) == 4 and {event["ending"] for event in ends} == {"completed"}
        for event in ends:
            reports = [e for e in events(self.study, "reported") if e["trial"] == event["trial"]]
            assert [report["epoch"] for report in reports] == [*range(1, EPOCHS + 1)]


def check_apart(host: Apart, ada: Person, bob: Person) -> None:
    """Check that each has a Ray of their own, to which the other has no access."""
    for person in (ada, bob):
        assert person.rays()
        for folder in person.rays():
            assert (os.stat(folder).st_uid, os.stat(folder).st_mode & 0o777) == (person.uid, 0o700)
    addresses = [person.said()["address"] for person in (ada, bob)]
    assert addresses[0] != addresses[1]
    found = host.call("python", "-m", "search.execution.own_ray.folder", user=bob.name)
    assert found.strip() == addresses[1]  # `--address auto`
    host.call("chmod", "755", ada.home)
    words = ("segtune", "work", ada.words[0], "--runs", ada.words[1])
    refused = host.run(*words, user=bob.name)
    assert (refused.returncode, "Permission denied" in refused.stderr) == (2, True), refused.stderr
    status = ("ray", "status", "--address")
    for address, is_own in zip(addresses, (False, True), strict=True):
        result = host.run(*status, address, user=bob.name, RAY_AUTH_MODE="token")
        assert (result.returncode == 0) == is_own, result.stderr
        assert ("auth" in result.stderr.lower()) != is_own, result.stderr


Begin = Callable[[Person, int], None]
End = Callable[[Person], None]


def check_studies(host: Apart, store: Path, begin: Begin, end: End) -> None:
    """Check two users' studies at once, and that one lives on when all of the other's ends."""
    if why := host.let_in_users():
        pytest.skip(f"other users cannot run segtune here: {why}")
    shutil.copytree(store, host.folder / "store")
    ada, bob = (Person(host, name) for name in USERS)
    begin(ada, 2)
    begin(bob, 1)
    host.wait_for(lambda: all(events(each.study, "reported") for each in (ada, bob)), 300)
    check_apart(host, ada, bob)
    theirs = bob.rays()
    end(ada)
    host.wait_for(lambda: not ada.processes(), 120)
    assert bob.rays() == theirs and not bob.ended()
    bob.hurry()
    host.wait_for(bob.ended, 300)
    bob.check_whole()
    assert len(events(bob.study, "driver")) == 1 and not events(bob.study, "interrupted")
    ada.hurry()
    begin(ada, 1)
    host.wait_for(ada.ended, 300)
    ada.check_whole()
    host.wait_for(lambda: not ada.folders(), 60)  # also what Slurm's SIGKILL left behind


@pytest.fixture
def folder() -> Iterator[Path]:
    """A host's. Its name is short: Ray's sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="host", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
    for path in Path("/tmp").glob("segtune-60*"):
        shutil.rmtree(path)


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_two_users_work_on_one_host(folder: Path, store: Path) -> None:
    """Their jobs are granted by nothing, as where people log in and share a machine."""
    host = Apart(folder, ["one_host.sh"])
    jobs: dict[str, list[subprocess.Popen[bytes]]] = {name: [] for name in USERS}

    def begin(person: Person, number: int) -> None:
        for _ in range(number):
            log = folder / f"{person.name}.log"
            words = ("python", "-m", "tests.search.job", *person.words)
            job = host.start(*words, log=log, user=person.name, SLURM_CPUS_ON_NODE="1")
            jobs[person.name].append(job)

    def end(person: Person) -> None:
        for job in jobs[person.name]:
            [process] = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
            os.kill(int(process), signal.SIGTERM)
        assert [job.wait(150) for job in jobs[person.name]] == [75, 75], host.said()
        assert not person.folders()

    try:
        check_studies(host, store, begin, end)
    finally:
        host.end()
        for job in [*jobs["ada"], *jobs["bob"]]:
            job.wait()


@pytest.mark.nightly
@pytest.mark.timeout(1200)
@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
def test_two_users_jobs_of_one_slurm(folder: Path, store: Path) -> None:
    """Each submits the line of cluster/README.md, and the first cancels all that are hers."""
    slurm = Slurm(folder, cpus=3)

    def begin(person: Person, number: int) -> None:
        words = ["--cpus-per-task=1", f"--array=1-{number}", f"--output={person.home}/%A_%a.log"]
        command = ("sbatch", *words, "cluster/worker.sh", *person.words)
        slurm.call(*command, user=person.name, SEGTUNE_WORK="python -m tests.search.job")

    def end(person: Person) -> None:
        slurm.call("scancel", "--user", person.name, user=person.name)

    try:
        check_studies(slurm, store, begin, end)
        check_said("".join(path.read_text() for path in folder.glob("*/*.log")))
    finally:
        slurm.end()
