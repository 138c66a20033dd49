"""`make bench`: every benchmark as a ratio measured in one run, since machines are noisy.

`python -m tests.bench step ensemble` runs those two alone.
"""

import argparse
from importlib import import_module

from rich.console import Console
from rich.table import Table

BENCHES = ("store", "trainable", "step", "ensemble", "memory", "scale", "pictures")


def main() -> None:
    """Run the benchmarks that are asked for, all by default, and print one table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(BENCHES)}")
    names = parser.parse_args().names or BENCHES
    if unknown := sorted({*names} - {*BENCHES}):
        parser.error(f"{', '.join(unknown)}: must be of {', '.join(BENCHES)}")
    table = Table("what", "unit", "segtune", "against", "ratio", title="Benchmarks")
    for bench in names:
        for name, unit, ours, theirs, ratio in import_module(f"tests.bench.bench_{bench}").run():
            table.add_row(name, unit, f"{ours:.4g}", f"{theirs:.4g}", f"{ratio:.2f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
