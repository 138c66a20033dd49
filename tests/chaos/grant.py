"""What a batch system grants, on a cluster of several studies: a node until SIGTERM says to leave.

    python -m tests.chaos.grant ADDRESS STUDY_FOLDER...

As a job of `segtune work` leaves (search/workflows/work.py), but each study that may have a trial
here is asked.
"""

import signal
import sys
import time
from pathlib import Path

from search.execution.own_ray.head import ask_to_leave, head_folder, let_go, waits_to_leave
from search.execution.own_ray.node import Node

LEAVE_S = 60.0
"""In which trials write their checkpoints, or are left."""


def main(address: str, *studies: str) -> None:
    """Be a node until a signal, and leave when no study has a trial here."""
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    node = Node(address)
    print("joined", flush=True)
    while not told and node.alive:
        time.sleep(0.2)
    folders = [Path(study) for study in studies]
    for folder in folders:
        head_folder(folder).mkdir(parents=True, exist_ok=True)
        ask_to_leave(folder, node.name)
    end_s = time.monotonic() + LEAVE_S
    while any(waits_to_leave(f, node.name) for f in folders) and time.monotonic() < end_s:
        time.sleep(0.2)
    for folder in folders:
        let_go(folder, node.name)
    node.end()


if __name__ == "__main__":
    main(*sys.argv[1:])
