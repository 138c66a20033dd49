"""A best trial far below the control: what the plain network reaches, the data allow."""

from search.ledger.trial_state import TrialState

SHARE = 0.5
"""Of the control's Dice: less is far below."""
FOUND = 0.1
"""Dice from which a control has found lesions."""


def is_far_below(dice: float | None, control: float | None, *, settled: bool) -> bool:
    """Return whether a best trial's Dice is so far below the control's that data are no reason.

    Args:
        dice: Of the best trial, None where it is not known.
        control: Of the plain U-Net, trained on the same images.
        settled: Whether the best trial has ended, or was trained as long as the control: a young
            one may yet get there.
    """
    if dice is None or control is None or not settled:
        return False
    return control >= FOUND and dice < SHARE * control


def far_below(best: TrialState, control: TrialState) -> tuple[float, float] | None:
    """Return the Dice of a best trial and of the control that is far above it; None if it is not.

    Each of its last epoch.
    """
    dice, theirs = (
        trial.reports[-1].metrics.get("val/dice") if trial.reports else None
        for trial in (best, control)
    )
    settled = best.ending is not None or best.epoch >= control.epoch
    if not is_far_below(dice, theirs, settled=settled):
        return None
    assert dice is not None and theirs is not None
    return dice, theirs
