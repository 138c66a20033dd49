"""`make chaos`: the whole campaign, about half an hour; prints what it did."""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos import suites
from tests.chaos.campaign import carry_out, table
from tests.chaos.hosts import obstacle


def main() -> int:
    """Carry out the campaign; return 0 if all studies came out as without faults."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of all moments and victims")
    seed = parser.parse_args().seed
    if reason := obstacle():
        print(f"chaos cannot be made here: {reason}", file=sys.stderr)
        return 1
    begun_s = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - begun_s:6.0f} s  {line}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        rows = carry_out(suites.full(seed), phantom(Path(folder)), seed, say)
    print(f"\n{table(rows)}\n\nseed {seed}, {(time.monotonic() - begun_s) / 60:.0f} minutes")
    return 0


def phantom(folder: Path) -> Path:
    """Prepare a small phantom."""
    from trainer.data.phantom import write_phantom
    from trainer.data.prepare import prepare

    write_phantom(folder / "dataset", num_cases=10, seed=0)
    prepare(folder / "dataset", folder / "store", image_size=32)
    return folder / "store"


if __name__ == "__main__":
    sys.exit(main())
