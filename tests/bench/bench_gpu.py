"""`python -m tests.bench gpu`: what a GPU makes of the trainer, in ten minutes.

Rows come as they are measured, what matters most first. Each group is a process of its own with a
limit of its own, so that one that hangs or breaks CUDA costs only its rows. It changes nothing of
the card's settings. Figures that were taken so: docs/gpu.md.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from tests.bench.gpu_groups import GROUPS, broken
from tests.bench.gpu_measure import Bench

LEAST_S = 20.0
"""A group is not begun with less."""


def main(words: Sequence[str] | None = None) -> int:
    """Run the groups that are asked for.

    Returns:
        1 where a group broke or ran into its limit.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.bench gpu")
    parser.add_argument("--dry", action="store_true", help="the same lines, tiny, on the CPU")
    parser.add_argument("--only", metavar="NAME,...", help=f"of: {', '.join(GROUPS)}")
    parser.add_argument("--budget", type=float, default=600, metavar="SECONDS", help="for all")
    parser.add_argument("--out", type=Path, metavar="FILE", help="rows as lines of JSON")
    parser.add_argument("--group", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args(words)
    if asked.group:
        return run_group(asked.group, asked.folder, asked.dry, asked.out)
    names = asked.only.split(",") if asked.only else [*GROUPS]
    if unknown := sorted({*names} - {*GROUPS}):
        parser.error(f"--only: {', '.join(unknown)}: must be of {', '.join(GROUPS)}")
    if not asked.dry and not torch.cuda.is_available():
        parser.error("no CUDA device is here; --dry tries the lines on the CPU")
    begun, status = time.monotonic(), 0
    with TemporaryDirectory(prefix="segtune-bench-") as folder:
        for name in names:
            left_s = asked.budget - (time.monotonic() - begun)
            if left_s < LEAST_S:
                print(f"{name}: not begun: {left_s:.0f} s are left", flush=True)
                continue
            status |= start_group(name, folder, asked, min(left_s, GROUPS[name][1]))
    print(f"{time.monotonic() - begun:.0f} s", flush=True)
    return status


def start_group(name: str, folder: str, asked: argparse.Namespace, limit_s: float) -> int:
    """Run a group in a process, and end that with its own children at the limit."""
    command = [sys.executable, "-m", "tests.bench.bench_gpu", "--group", name, "--folder", folder]
    command += ["--dry"] * asked.dry + (["--out", str(asked.out)] if asked.out else [])
    process = subprocess.Popen(command, start_new_session=True)
    try:
        status = process.wait(limit_s)
    except subprocess.TimeoutExpired:
        print(f"{name}: ended at its limit of {limit_s:.0f} s", flush=True)
        status = 1
    finally:
        if process.poll() is None:
            os.killpg(process.pid, 9)
            process.wait()
    return int(status != 0)


def run_group(name: str, folder: Path, dry: bool, out: Path | None) -> int:
    """Print the rows of one group."""
    torch.set_num_threads(1)
    device = torch.device("cpu" if dry else "cuda")
    begun = time.monotonic()
    rows = GROUPS[name][0](Bench(device, dry, folder))
    status = 0

    def say(what: str, found: str) -> None:
        print(f"[{name} {time.monotonic() - begun:5.1f} s] {what}: {found}", flush=True)
        if out:
            with out.open("a") as file:
                file.write(json.dumps({"group": name, "what": what, "found": found}) + "\n")

    try:
        for what, found in rows:
            say(what, found)
            status |= "BROKEN" in found
    except Exception as error:
        say("the rest of this group", broken(error))
        status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
