"""`make bench`: every benchmark as a ratio measured in one run, since machines are noisy.

`python -m tests.bench step ensemble` runs those two alone, `python -m tests.bench gpu` what a GPU
makes of the trainer (tests/bench/bench_gpu.py, which has options of its own).
"""

import argparse
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module

from tests.bench.row import show

BENCHES = ("store", "trainable", "step", "ensemble", "scoring", "memory", "scale", "pictures")


def main(words: Sequence[str] | None = None) -> int:
    """Run the benchmarks that are asked for, all by default, and print each row as it comes.

    Returns:
        1 where a benchmark broke; the others are run all the same.
    """
    words = sys.argv[1:] if words is None else words
    if words[:1] == ["gpu"]:
        from tests.bench.bench_gpu import main as gpu

        return gpu(words[1:])
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(BENCHES)}")
    names = parser.parse_args(words).names or BENCHES
    if unknown := sorted({*names} - {*BENCHES}):
        parser.error(f"{', '.join(unknown)}: must be of {', '.join(BENCHES)}")
    status = 0
    for name in names:
        try:
            show(import_module(f"tests.bench.bench_{name}").run())
        except Exception as error:
            traceback.print_exc()
            print(f"{name}: broken: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
