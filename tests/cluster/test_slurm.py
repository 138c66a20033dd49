"""cluster/slurm.sh and worker.sh under a real Slurm: munged, slurmctld and slurmd, on one node."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.hosts import obstacle
from tests.cluster.apart import Apart
from tests.search.conftest import events, store, write_study

__all__ = ["store"]

COMMANDS = ("munged", "slurmctld", "slurmd", "sbatch", "ip", "nsenter")
MISSING = [command for command in COMMANDS if not shutil.which(command)]

pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
    pytest.mark.skipif(bool(reason := obstacle()), reason=reason),
]


class Slurm(Apart):
    """A Slurm on a host apart, whose `ray stop` ends no other Ray of this machine."""

    def __init__(self, folder: Path, cpus: int = 2):
        self.log = folder / "job.log"
        super().__init__(folder, ["one_node_slurm.sh", str(cpus)], ["--net", "--ipc"])

    def sbatch(self, *words: str | Path) -> None:
        """Submit words that follow `sbatch`."""
        self.call("sbatch", f"--output={self.log}", *words)

    def finish(self, timeout_s: float) -> dict[str, str]:
        """Wait for the job's end and return what Slurm says of it."""
        self.wait_for(lambda: not self.call("squeue", "--noheader"), timeout_s)
        words = self.call("scontrol", "show", "job").split()
        return dict(word.split("=", 1) for word in words if "=" in word)


@pytest.fixture
def slurm() -> Iterator[Slurm]:
    """A Slurm. Its folder's name is short: Ray's sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="slurm", ignore_cleanup_errors=True) as folder:
        slurm = Slurm(Path(folder))
        yield slurm
        slurm.end()


def toy_study(runs: Path, store: Path, epoch_s: float, max_t: int) -> tuple[list[str], Path]:
    """Write a study of a control, a reference and 4 trials; return its command and its folder."""
    study = write_study(
        runs,
        store,
        toy={"slow": epoch_s},
        scheduler={"grace_period": 1, "max_t": max_t, "reduction_factor": 2},
        trials={"num_trials": 4, "cpus_per_trial": 1},
    )
    return ["python", "-m", "tests.search.drive", str(study), str(runs)], runs / "toy"


def check_whole(folder: Path) -> None:
    """Check a study's ledger: every trial ended once, and no epoch is missing or there twice."""
    ends = {event["trial"]: event["epoch"] for event in events(folder, "ended")}
    assert sorted(ends) == [*range(6)] and len(events(folder, "ended")) == 6
    for trial, last in ends.items():
        epochs = [e["epoch"] for e in events(folder, "reported") if e["trial"] == trial]
        assert epochs == [*range(1, last + 1)]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_driver_is_relaunched_and_a_study_requeued_once_and_continued_to_its_end(
    slurm: Slurm, tmp_path: Path, store: Path
) -> None:
    """The signal that Slurm sends before the wall, sent by hand."""
    command, folder = toy_study(tmp_path / "runs", store, epoch_s=0.7, max_t=4)
    slurm.sbatch("cluster/slurm.sh", *command)
    slurm.wait_for(lambda: events(folder, "reported"), 240)
    slurm.call("kill", "-9", str(events(folder, "driver")[0]["pid"]))
    slurm.wait_for(lambda: len(events(folder, "driver")) == 2, 240)
    reported = len(events(folder, "reported"))
    slurm.wait_for(lambda: len(events(folder, "reported")) > reported, 240)
    slurm.call("scancel", "--batch", "--signal=TERM", "1")
    job = slurm.finish(120)
    assert (job["JobState"], job["ExitCode"], job["Restarts"]) == ("COMPLETED", "0:0", "1")
    assert "relaunch.sh: status 137; again in 1 s" in slurm.log.read_text()
    assert "requeued; the same words continue it" in slurm.log.read_text()
    assert len(events(folder, "driver")) == 3
    check_whole(folder)
    token = slurm.folder / "home" / ".ray" / "auth_token"
    assert token.stat().st_mode & 0o777 == 0o600
    assert token.read_text() not in slurm.log.read_text()


@pytest.mark.nightly
@pytest.mark.timeout(2400)
def test_killed_driver_is_relaunched_and_the_wall_requeues(
    slurm: Slurm, tmp_path: Path, store: Path
) -> None:
    """Three minutes of wall, two of warning. Slurm looks at its walls every half a minute."""
    command, folder = toy_study(tmp_path / "runs", store, epoch_s=8, max_t=9)
    slurm.sbatch("--time=3", "--signal=B:TERM@120", "cluster/slurm.sh", *command)
    slurm.wait_for(lambda: events(folder, "reported"), 240)
    slurm.call("kill", "-9", str(events(folder, "driver")[0]["pid"]))
    slurm.wait_for(lambda: "requeued" in slurm.log.read_text(), 800)
    (folder / "toy" / "slow").write_text("0.01")
    job = slurm.finish(200)
    assert (job["JobState"], job["ExitCode"]) == ("COMPLETED", "0:0")
    assert int(job["Restarts"]) >= 1  # more where this machine is slow
    assert "relaunch.sh: status 137; again in 1 s" in slurm.log.read_text()
    assert len(events(folder, "driver")) >= 3
    check_whole(folder)


@pytest.mark.slow
def test_bad_input_is_not_repeated(slurm: Slurm, tmp_path: Path) -> None:
    """Ray starts, the driver refuses, and the job ends with its status."""
    slurm.sbatch("cluster/slurm.sh", "segtune", "status", "nothing", "--runs", tmp_path)
    job = slurm.finish(120)
    assert (job["JobState"], job["ExitCode"]) == ("FAILED", "2:0")
    assert "no such study" in slurm.log.read_text()
    assert "again in" not in slurm.log.read_text()
