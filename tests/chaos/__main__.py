"""`make chaos`: the whole campaign, about forty minutes; prints what it did."""

import argparse
import time

from tests.chaos import suites
from tests.chaos.campaign import carry_out, table


def main() -> None:
    """Carry out the campaign; it raises where a study came out otherwise than without faults."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of all moments and victims")
    seed, begun_s = parser.parse_args().seed, time.monotonic()
    with suites.equipped() as (store, say):
        rows = carry_out(suites.full(seed), store, seed, say)
    print(f"\n{table(rows)}\n\nseed {seed}, {(time.monotonic() - begun_s) / 60:.0f} minutes")


if __name__ == "__main__":
    main()
