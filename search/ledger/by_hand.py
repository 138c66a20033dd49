"""The problems of a trial that a person asks for, one line each."""

from collections.abc import Mapping
from typing import Any

from search.study.checks import check_enqueued, check_params
from search.study.config import StudyConfig
from search.study.sampler_limits import DRAWS, always_refused


def by_hand_problems(
    study: StudyConfig, params: Mapping[str, Any], where: str, *, reference: bool
) -> list[str]:
    """Return what is wrong with the settings of a trial that a person asks for.

    Args:
        study: The study.
        params: The settings; those that a searched trial lacks are drawn.
        where: To name in the lines.
        reference: Whether it is to be a reference, which may leave the space.
    """
    key = "enqueue"
    if reference:
        problems = check_params(study, params, where, key)
    else:
        problems = check_enqueued(study, params, where, key, ())
        if not problems and (said := always_refused(study, params)):
            problems = [
                f"{where}: each of {DRAWS} random combinations with it is refused, for example: "
                f"{said}"
            ]
    if not (problems or study.trains or study.trainer):
        problems = [
            f"{where}: {key}.{name}: only sampling settings make a difference where "
            "scheduler.max_t is 0"
            for name in params
            if "sampling." not in name
        ]
    return [
        line.replace(f"{where}: {key}.", f"{where}: ", 1)
        .replace(f"{where}: {key}: ", f"{where}: ", 1)
        .replace("only `references` may", "only a reference (--reference NAME) may")
        for line in problems
    ]
