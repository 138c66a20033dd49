"""Which trials a study stands by: its best, what they are compared with, and what confirms them."""

from collections.abc import Iterable

from search.analysis.ranking import ranked
from search.ledger.state import StudyState
from search.ledger.trial_state import TrialState
from search.study.config import StudyConfig


def standing_by(
    study: StudyConfig,
    state: StudyState,
    best: int,
    *,
    among: Iterable[TrialState] | None = None,
) -> set[int]:
    """Return the numbers of the best searched trials, the control, references, and what confirms.

    Args:
        study: The study.
        state: Its ledger.
        best: How many of the ranked trials.
        among: The trials that are ranked; None for all that were searched.
    """
    candidates = state.searched() if among is None else among
    kept = {trial.number for trial in ranked(study, candidates)[:best]}
    kept |= {trial.number for trial in state.references()}
    if control := state.control():
        kept.add(control.number)
    return kept | {trial.number for trial in state.confirming() if trial.of in kept}


def may_go_on(trial: TrialState) -> bool:
    """Return whether a rule may still need a trial's checkpoint: it is live, or may be retried."""
    return trial.ending is None or trial.ending in ("failed", "infeasible")
