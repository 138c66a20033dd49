"""What the settings of a study mean, as a number: raised when an unchanged one means another thing.

A study is trained under the semantics of its birth and no others. So raise SEMANTICS whenever the
same settings would train something else than before, and also when a trainer setting goes that says
what is trained, not one that only rounded (`trainer.old_names.GONE`). A new setting whose default
keeps things as they were needs no raise, since a study is frozen without it.
"""

from typing import Any, NamedTuple

SEMANTICS = 2

RAISES = {
    1: "what version 0.1 trains",
    2: "validations by one sampling step, the last weights, no weight decay on norms and biases, "
    "eps weights without a floor",
}
"""For every semantics, what it changed: a few words for the line that refuses an older study."""


class Frozen(NamedTuple):
    """What a study goes on under, whatever a later version's defaults are."""

    settings: dict[str, Any]
    """Every trainer setting as resolved at its birth, by dotted path; the study's own `train`, a
    trial's parameters, and what the study file has elsewhere win over them."""
    semantics: int
