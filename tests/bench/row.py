"""One line of `make bench`."""

from collections.abc import Iterable
from typing import Literal, NamedTuple


class Row(NamedTuple):
    """A quantity of ours against the same of theirs, both measured in one run."""

    name: str
    unit: str
    ours: float
    theirs: float
    better: Literal["less", "more"] = "less"

    @property
    def ratio(self) -> float:
        """How many times better ours is: above 1 where it is; NaN where one divides by 0."""
        better, worse = self.theirs, self.ours
        if self.better == "more":
            better, worse = worse, better
        return better / worse if worse else float("nan")

    def __str__(self) -> str:
        ratio = f"{self.ratio:.2f}" if self.ratio == self.ratio else "-"
        return f"{self.name}: {self.ours:.4g} against {self.theirs:.4g} {self.unit}, ratio {ratio}"


def show(rows: Iterable[Row]) -> None:
    """Print each row as it comes."""
    for row in rows:
        print(row, flush=True)
