"""A start of Ray that cannot do, fails or hangs is one line, and leaves no process."""

import subprocess
import sys
from pathlib import Path

import pytest

from search.execution.own_ray.start import START_S, bounded, check_limits
from tests.search.conftest import ROOT
from tests.search.execution.test_ray_folder import NOBODY, above, as_root

__all__ = ["above"]


@pytest.mark.parametrize(
    ("limits", "line"),
    [
        ("-v 6000000", "ulimit -v: 5.7 GiB of address space: Ray maps 8 GiB or more"),
        ("-S -v 6000000", "none"),
        pytest.param("-u 100", "ulimit -u: 100: ", marks=as_root),
    ],
)
def test_a_limit_under_which_ray_would_hang_is_a_line(limits: str, line: str) -> None:
    """One that this process may raise is raised."""
    code = (
        "import os; from search.execution.own_ray.start import check_limits\n"
        f"if '-u' in '{limits}': os.setuid({NOBODY})\n"
        "try: check_limits(); print('none')\nexcept ValueError as error: print(error)"
    )
    command = ["bash", "-c", f'ulimit {limits}; exec "$@"', "-", sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.stdout.startswith(line) and result.stdout.count("\n") == 1, result


def test_limits_here_do(above: Path) -> None:
    check_limits()


def test_a_start_that_fails_is_a_line_and_leaves_no_process(above: Path) -> None:
    """The line has what Ray's daemon said when it died."""
    logs = above / "ray" / "session_latest" / "logs"
    logs.mkdir(parents=True)
    (logs / "raylet.err").write_text(
        "[2026-11-28 09:00:00,000 C 12 12] (raylet) main.cc:7:  Check failed: no space\n*** Stack\n"
    )
    words, at_sh = ["-c", "read line", str(above)], {"executable": "/bin/sh", "stdin": -1}
    with (
        subprocess.Popen(["raylet", *words], **at_sh) as daemon,  # type: ignore[call-overload]
        subprocess.Popen(["tail", *words], **at_sh) as bystander,  # type: ignore[call-overload]
    ):
        with (
            pytest.raises(OSError, match="did not start on this machine") as caught,
            bounded(above),
        ):
            raise RuntimeError("The node timed out.\nAnd more.")
        assert daemon.wait(60) == -9 and bystander.poll() is None
    assert "The node timed out (raylet: Check failed: no space); look at" in str(caught.value)
    assert caught.value.filename == "Ray" and START_S > 60


def test_a_start_that_hangs_ends(above: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from search.execution.own_ray import start\n"
        "start.START_S = 0.2\n"
        "with start.bounded(Path(sys.argv[1])): time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(above / "none")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 75
    [line] = result.stderr.splitlines()
    assert line.startswith(
        "Ray: it did not start on this machine: not within 0 s; look at its load"
    )
