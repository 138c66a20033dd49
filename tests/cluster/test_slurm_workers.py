"""cluster/worker.sh under a real Slurm: jobs that share a node, its walls, and what kills them."""

import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.test_slurm import Slurm, pytestmark, store
from tests.search.conftest import events, write_study

__all__ = ["pytestmark", "store"]

JOBS = 8
WALL_MIN = 2 + min(3, round(os.getloadavg()[1] / (os.cpu_count() or 1)))
"""Where others use this machine, too, eight nodes of Ray would not have begun within two."""


@pytest.fixture
def slurm() -> Iterator[Slurm]:
    """A Slurm of one node that says it has eight CPUs."""
    with tempfile.TemporaryDirectory(prefix="slurm", ignore_cleanup_errors=True) as folder:
        slurm = Slurm(Path(folder), cpus=JOBS)
        yield slurm
        slurm.end()


def check_whole(folder: Path, epochs: int) -> None:
    """Check that every trial ended once, and has each epoch once."""
    ends = events(folder, "ended")
    assert {event["ending"] for event in ends} == {"completed"}
    assert len({event["trial"] for event in ends}) == len(ends)
    for event in ends:
        found = [e["epoch"] for e in events(folder, "reported") if e["trial"] == event["trial"]]
        assert found == [*range(1, epochs + 1)]


def check_said(logs: str) -> None:
    """Check that no job said anything unforeseen.

    Where Slurm ends a job at once, its driver hears of it twice, and ends at once; which `segtune`
    says in a line, and the driver of these tests with a traceback.
    """
    assert logs.count("Traceback") == logs.count("stop_signals.Ended: ended at once by"), logs


def running(slurm: Slurm) -> list[str]:
    """Return the names of the jobs that run, as `1_8`."""
    return slurm.call("squeue", "--noheader", "--states=R", "--array", "--format=%i").split()


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_eight_jobs_with_walls_of_two_minutes_carry_a_study_of_ten(
    slurm: Slurm, tmp_path: Path, store: Path
) -> None:
    """One is cancelled, another takes its place, and then the node fails."""
    runs, trials, epochs, epoch_s = tmp_path / "runs", 15, 12, 2.5 * WALL_MIN
    study = write_study(
        runs,
        store,
        toy={"slow": epoch_s},
        scheduler={"type": "none", "max_t": epochs},
        trials={"num_trials": trials, "cpus_per_trial": 1},
        enqueue=[],
    )
    folder, begun_s = runs / "toy", time.monotonic()
    words = [f"--time={WALL_MIN}", "--signal=B:TERM@60", "cluster/worker.sh", study, runs]
    output = f"--output={slurm.folder}/job-%A_%a.log"
    environment = {"SEGTUNE_WORK": "python -m tests.search.job"}
    array = ["sbatch", output, "--cpus-per-task=1"]
    slurm.call(*array, f"--array=1-{JOBS}", *words, **environment)
    slurm.wait_for(lambda: len(events(folder, "reported")) >= JOBS, 600)
    slurm.call("scancel", running(slurm)[-1])
    slurm.call(*array, *words, **environment)
    slurm.wait_for(lambda: len(events(folder, "driver")) >= 2, 600)
    slurm.wait_for(lambda: len(running(slurm)) > JOBS / 2, 300)
    reported = len(events(folder, "reported"))
    slurm.wait_for(lambda: len(events(folder, "reported")) > reported + JOBS, 600)
    # Slurm ends all that runs there, requeues it, and drains the node where it comes back too soon.
    slurm.call("scontrol", "update", "nodename=localhost", "state=down", "reason=test")
    # One that it was about to launch may run by now.
    slurm.wait_for(lambda: "DUE TO NODE FAILURE" in slurm.said(), 60)
    time.sleep(30)
    if "idle" not in slurm.call("sinfo", "--noheader", "--format=%T"):
        slurm.call("scontrol", "update", "nodename=localhost", "state=resume")
    for job in slurm.call("squeue", "--noheader", "--array", "--format=%i").split():
        slurm.call("scontrol", "release", job)
    slurm.wait_for(lambda: not slurm.call("squeue", "--noheader"), 2400)
    check_whole(folder, epochs)
    ends = events(folder, "ended")
    assert len(ends) == trials + 1  # the control
    causes = {event["cause"] for event in events(folder, "interrupted")}
    assert causes <= {"stop", "node"}
    busy_s = len(ends) * epochs * epoch_s
    print(f"{time.monotonic() - begun_s:.0f} s for {busy_s / JOBS:.0f} s of training on {JOBS}")
    logs = "".join(path.read_text() for path in slurm.folder.glob("job-*.log"))
    assert re.search(r"requeued; the same words continue it", logs)
    check_said(logs)
