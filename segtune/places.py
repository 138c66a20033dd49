"""Where the studies lie that a notebook names."""

import os
from pathlib import Path

from search.storage.studies import runs_folder


def runs_of(runs: str | Path | None) -> Path:
    """Return the folder of all studies: as the commands' --runs, by default SEGTUNE_RUNS or `runs`.

    Args:
        runs: A folder, or s3://BUCKET/PREFIX.

    Raises:
        ValueError: It is no address in S3 although it begins like one.
        OSError: The folder that stands for S3 on this machine cannot be written.
    """
    return runs_folder(os.fspath(runs or os.environ.get("SEGTUNE_RUNS", "runs"))).expanduser()
