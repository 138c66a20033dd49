"""Whether those who judge a trial were unseen by the weights that it begins with, in words."""

from collections.abc import Mapping
from typing import Any

from search.ledger.state import StudyState
from search.study.config import StudyConfig
from trainer.config import absolute
from trainer.saved.seen import Overlap, sentence

LABEL = "selected on, optimistic"
"""What the numbers of a search are: the best of many on one validation fold."""


def named(study: StudyConfig) -> list[tuple[str, str]]:
    """Return the weights that a study's trials may begin with: by which key, and the path.

    A trainer of one's own may call anything `init_from`.
    """
    if study.trainer:
        return []
    places = [("train", study.train), ("control", study.control)]
    places += [(f"references.{i}.settings", r.settings) for i, r in enumerate(study.references)]
    places += [(f"enqueue.{i}", entry) for i, entry in enumerate(study.enqueue)]
    given = [(f"{place}.init_from", values.get("init_from")) for place, values in places]
    if dimension := study.space.get("init_from"):
        given += [("space.init_from", path) for path in dimension.values()]
    return [(key, absolute(path)) for key, path in given if path]


def warning(study: StudyConfig, state: StudyState, params: Mapping[str, Any] | None = None) -> str:
    """Return in words that a trial's first weights may have been trained on those who judge it.

    Args:
        study: The study.
        state: Its ledger, which has at its birth what those weights say.
        params: The trial's; None for what all trials begin with.

    Returns:
        Empty where it begins with none, or all it was trained on is known and is others.
    """
    path = (params or {}).get("init_from", study.train.get("init_from"))
    if not path or study.trainer:
        return ""
    recorded = (state.study or {}).get("first_weights", {}).get(absolute(path))
    return sentence(Overlap(**recorded) if recorded else Overlap(0, 0, 0, 0, is_all=False))


def label(study: StudyConfig, state: StudyState, params: Mapping[str, Any] | None = None) -> str:
    """Return what the numbers of a study are."""
    return "; ".join(filter(None, [LABEL, warning(study, state, params)]))
