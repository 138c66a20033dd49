"""The section `checkpoints` of a study file: what a study keeps of its trainings on disk."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from trainer.configfile import Section, quoted

RESUMABLE = 10
"""Of the best, by default, so that `segtune resume --top 10` finds theirs."""


def _so_many_or_all(keep: Any) -> Any:
    if keep != "all" and (isinstance(keep, bool) or not isinstance(keep, int)):
        raise ValueError(f"{quoted(keep)}: must be a number of trials, or all")
    if keep != "all" and keep < 0:
        raise ValueError(f"{keep}: must be at least 0")
    return keep


class Checkpoints(Section):
    """Of trials that have not ended or may be retried, checkpoints always stay, and the weights
    that stand for a trial stay for every one."""

    keep: Annotated[int | Literal["all"], BeforeValidator(_so_many_or_all)] = RESUMABLE
    """So many of the best searched trials keep their checkpoints after their end, with the control
    and the references, for `segtune resume`; all for every trial."""
