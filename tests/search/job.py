"""`segtune work` with a toy trainer: `python -m tests.search.job STUDY RUNS`."""

import sys
from pathlib import Path

from search.workflows.work import work

DRIVE = (
    "import sys; from tests.search.drive import plain; sys.exit(plain(*sys.argv[1:3], sys.argv[4]))"
)
"""As `segtune launch`, whose last two words are `--address HOST:PORT`."""


def main(study: str, runs: str) -> int:
    """Work on a study that is called toy."""
    return work(Path(runs) / "toy", [sys.executable, "-c", DRIVE, study, runs], leave_s=50)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
