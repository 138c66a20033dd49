"""What a study's section `confirm` has spent of its share, and whether there is anything to do."""

from typing import NamedTuple

from search.ledger.budget import Meter, cost_key
from search.ledger.journal import Event
from search.study.config import StudyConfig


class Share(NamedTuple):
    """Hours of `cost_key`."""

    search: float
    """That the search's own trials took."""
    limit: float
    """That telling the best apart may take."""
    spent: float
    """That it took, what `segtune confirm` trained included."""

    @property
    def left(self) -> float:
        return max(0.0, self.limit - self.spent)


def share_of(study: StudyConfig, meter: Meter) -> Share:
    """Return the share of a study that has a section `confirm`, up to its last event."""
    assert study.confirm is not None
    key = cost_key(study.trials)
    spent = meter.confirming_hours(study.trials)[key]
    search = meter.cost_hours(study.trials)[key] - spent
    return Share(search, study.confirm.budget_share * search, spent)


def is_due(study: StudyConfig, confirmed: Event | None) -> bool:
    """Return whether the best of a search that has ended are still to be told apart.

    Args:
        study: The study.
        confirmed: What came of it the last time, since its search ended; None for never.
    """
    if study.confirm is None:
        return False
    return confirmed is None or confirmed["settings"] != study.confirm.model_dump(mode="json")
