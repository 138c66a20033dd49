"""What more masks bring: the first 1, 2, 4, ... members of an ensemble, judged as one of their own.

The masks are those that were sampled anyway; a smaller ensemble is the beginning of a larger one.
"""

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from trainer.data.store import Case, Store
from trainer.evaluation.certainty.case_certainty import CaseCertainty, certainty
from trainer.evaluation.ensemble import fuse


def sizes(members: int) -> list[int]:
    """Return the powers of two below a number of members, and the number."""
    return [1 << power for power in range((members - 1).bit_length())] + [members]


@dataclass
class EnsembleSizes:
    """Judges the members of one case after another.

    Attributes:
        by_size: The cases, by how many members their probability is made of; the last is all.
    """

    store: Store
    members: int
    how: Literal["mean", "majority", "staple"]
    threshold: float
    by_size: dict[int, list[CaseCertainty]] = field(init=False)

    def __post_init__(self) -> None:
        self.by_size = {size: [] for size in sizes(self.members)}

    def add(self, case: Case, sampled: Tensor) -> None:
        """Judge a case by its members on the store's grid, (members, slices, H, W)."""
        truth, brain = self.store.native_mask(case), self.store.native_brain(case)
        for size, judged in self.by_size.items():
            probability = fuse(sampled[:size], self.how).probability.numpy()
            native = self.store.to_native(case, probability)
            judged.append(certainty(case.case_id, native, truth, brain, self.threshold))
