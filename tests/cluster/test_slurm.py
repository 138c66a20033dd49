"""cluster/slurm.sh under a real Slurm: munged, slurmctld and slurmd, one node of two CPUs."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chaos.hosts import obstacle
from tests.search.conftest import ROOT, events, store, write_study

__all__ = ["store"]

COMMANDS = ("munged", "slurmctld", "slurmd", "sbatch", "ip", "nsenter")
MISSING = [command for command in COMMANDS if not shutil.which(command)]

pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
    pytest.mark.skipif(bool(reason := obstacle()), reason=reason),
]


class Slurm:
    """A Slurm in namespaces of its own, whose `ray stop` ends no other Ray of this host."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.log = folder / "job.log"
        here = Path(__file__).with_name("one_node_slurm.sh")
        apart = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--net", "--ipc"]
        with (folder / "slurm.log").open("w") as log:
            self._process = subprocess.Popen(
                [*apart, here, folder], stdout=log, stderr=log, start_new_session=True
            )
        try:
            self.wait_for((folder / "ready").exists, 20)
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """End the first process of the namespace, and so every process in it."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def call(self, *command: str | Path) -> str:
        """Run a command in there and return what it prints."""
        children = f"/proc/{self._process.pid}/task/{self._process.pid}/children"
        init = Path(children).read_text().strip()
        inside = ["nsenter", f"--target={init}", "--pid", "--mount", "--net", "--ipc"]
        result = subprocess.run(
            [*inside, f"--wd={ROOT}", *map(str, command)],
            env={
                **os.environ,
                "SLURM_CONF": str(self.folder / "slurm.conf"),
                "HOME": str(self.folder / "home"),
                "RAY_TMPDIR": str(self.folder),
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "PYTHONPATH": str(ROOT),
            },
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr + self.said()
        return result.stdout

    def sbatch(self, *words: str | Path) -> None:
        """Submit words that follow `sbatch`."""
        self.call("sbatch", f"--output={self.log}", *words)

    def wait_for(self, ready: Callable[[], object], timeout_s: float) -> None:
        """Wait until something is true."""
        end = time.monotonic() + timeout_s
        while not ready():
            assert self._process.poll() is None, self.said()
            assert time.monotonic() < end, self.said()
            time.sleep(0.1)

    def finish(self, timeout_s: float) -> dict[str, str]:
        """Wait for the job's end and return what Slurm says of it."""
        self.wait_for(lambda: not self.call("squeue", "--noheader"), timeout_s)
        words = self.call("scontrol", "show", "job").split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def said(self) -> str:
        """Return all logs."""
        paths = [self.folder / "slurm.log", self.folder / "slurmctld.log", self.log]
        return "\n".join(path.read_text() for path in paths if path.exists())


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
@pytest.mark.timeout(300)
def test_study_is_requeued_once_and_continued_to_its_end(
    slurm: Slurm, tmp_path: Path, store: Path
) -> None:
    """The signal that Slurm sends before the wall, sent by hand."""
    command, folder = toy_study(tmp_path / "runs", store, epoch_s=0.7, max_t=4)
    slurm.sbatch("cluster/slurm.sh", *command)
    slurm.wait_for(lambda: len(events(folder, "reported")) >= 3, 60)
    slurm.call("scancel", "--batch", "--signal=TERM", "1")
    job = slurm.finish(120)
    assert (job["JobState"], job["ExitCode"], job["Restarts"]) == ("COMPLETED", "0:0", "1")
    assert "requeued; the same words continue it" in slurm.log.read_text()
    assert len(events(folder, "driver")) == 2
    check_whole(folder)
    token = slurm.folder / "home" / ".ray" / "auth_token"
    assert token.stat().st_mode & 0o777 == 0o600
    assert token.read_text() not in slurm.log.read_text()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_driver_is_relaunched_and_the_wall_requeues(
    slurm: Slurm, tmp_path: Path, store: Path
) -> None:
    """Three minutes of wall, two of warning. Slurm looks at its walls every half a minute."""
    command, folder = toy_study(tmp_path / "runs", store, epoch_s=8, max_t=9)
    slurm.sbatch("--time=3", "--signal=B:TERM@120", "cluster/slurm.sh", *command)
    slurm.wait_for(lambda: events(folder, "reported"), 60)
    slurm.call("kill", "-9", str(events(folder, "driver")[0]["pid"]))
    slurm.wait_for(lambda: "requeued" in slurm.log.read_text(), 200)
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
