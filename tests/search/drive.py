"""`segtune launch` with a toy trainer: `python -m tests.search.drive STUDY RUNS ADDRESS FIT`."""

import sys
from pathlib import Path

from search.storage.s3 import Remote, is_remote, mirror_of
from search.study.load import load_study
from search.workflows.launch import launch


def main(path: str, runs: str, address: str = "", fit: str = "tests.search.toy:fit") -> int:
    """Launch, with a user's mistake as lines on stderr and status 2."""
    try:
        folder = mirror_of(Remote.parse(runs)) if is_remote(runs) else Path(runs)
        return launch(load_study(path), folder, address or None, fit=fit)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
