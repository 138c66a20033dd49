"""`make bench`: every benchmark as a ratio measured in one run, since machines are noisy."""

from rich.console import Console
from rich.table import Table

from tests.bench import bench_store, bench_trainable


def main() -> None:
    """Run the benchmarks and print one table."""
    table = Table("what", "unit", "segtune", "against", "ratio", title="Benchmarks")
    for name, unit, ours, theirs, ratio in [*bench_store.run(), *bench_trainable.run()]:
        table.add_row(name, unit, f"{ours:.4g}", f"{theirs:.4g}", f"{ratio:.1f}")
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
