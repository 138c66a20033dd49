"""What may change between two launches of a study: what says nothing about its results."""

from typing import Any

from search.study.config import StudyConfig
from search.study.notify.section import Notify
from search.study.search_sections import Confirm
from search.study.semantics import Frozen
from trainer.configfile import flatten

LIMITS = {
    "data.store",
    "budget.epochs",
    "budget.gpu_hours",
    "budget.wall_hours",
    "trials.hang_timeout_s",
    "trials.max_concurrent",
    "trials.share",
    "trials.cpus_per_trial",
    "train.memory_share",
    "checkpoints.keep",
    *(f"confirm.{name}" for name in Confirm.model_fields),
    *(f"notify.{name}" for name in Notify.model_fields),
    "trainer.folder",
}
"""Who is told, where trials run and for how long, and what is judged when they have ended; the
store is known by its content."""
COMPUTED = {
    "trials.gpus_per_trial",
    "trials.workers_per_trial",
    "train.num_threads",
    "train.device",
    "train.norm_kernel",
    "train.cuda_graph",
}
"""How what they compute is computed: another value rounds otherwise."""

AT_ONCE = (
    "budget.",
    "checkpoints.",
    "confirm.",
    "trials.num_trials",
    "trials.max_concurrent",
    "trials.share",
    "trials.hang_timeout_s",
)
"""How settings begin that a driver follows at once; all others it follows in new attempts."""


MASKS = "references."
"""Before the name of masks that are a reference: nothing of a trial depends on them."""


AT_A_LAUNCH = ("data.store", "trainer.folder", "notify.", MASKS)
"""How keys begin that a driver reads when it starts."""


def changes(begun: StudyConfig, study: StudyConfig) -> tuple[list[str], list[str]]:
    """Return what differs between a study as it was launched last and as it is launched now.

    Returns:
        A line for every setting with which it cannot be continued, and one for every other.
    """
    before, now = _settings(begun), _settings(study)
    refused, notes = [], []
    raised = study.trials.num_trials > begun.trials.num_trials
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        if old == new:
            continue
        rule = "give the study another name to change it"
        if key == "trials.num_trials":
            rule = "can only be raised"
        if (
            key in LIMITS | COMPUTED
            or key.startswith(MASKS)
            or (key == "trials.num_trials" and raised)
        ):
            notes.append(f"{key}: {_text(new)}, was {_text(old)}{_of_bits(key, old, new)}")
        else:
            refused.append(f"{key}: {new!r}: this study was begun with {old!r}; {rule}")
    return refused, notes


def changes_while_running(begun: StudyConfig, study: StudyConfig) -> tuple[list[str], list[str]]:
    """Return what differs between a study as its driver runs it and as it is to be run.

    Args:
        begun: As it is run.
        study: As it is to be; `changes` refuses nothing of it.

    Returns:
        A line for every setting that only another launch can change, and one for every other.
    """
    before, now = _settings(begun), _settings(study)
    later, changed = [], []
    for line in changes(begun, study)[1]:
        key = line.partition(": ")[0]
        gpus = key == "trials.gpus_per_trial" and not (before.get(key) and now.get(key))
        if gpus or key.startswith(AT_A_LAUNCH):
            again = f"`segtune stop {study.study}`, then launch it with that"
            later.append(f"{line}: needs another launch: {again}")
        else:
            running = "" if key.startswith(AT_ONCE) else "; of attempts that start from now on"
            changed.append(f"{line}{running}")
    return later, changed


def frozen_beside(frozen: Frozen, begun: StudyConfig, study: StudyConfig) -> Frozen:
    """Return what a study goes on under, without settings that it gave and gives no more."""
    if study.trainer:
        return frozen
    dropped = {key.removeprefix("train.") for key in LIMITS | COMPUTED}
    dropped &= begun.train.keys() - study.train.keys()
    settings = {name: value for name, value in frozen.settings.items() if name not in dropped}
    return frozen._replace(settings=settings)


def _settings(study: StudyConfig) -> dict[str, Any]:
    values = study.model_dump(mode="json")
    values["references"] = [{"settings": each.settings} for each in study.trained_references]
    for each in study.mask_references:
        values[f"{MASKS}{each.name}"] = each.masks
        values[f"{MASKS}{each.name}.splits"] = each.splits or {}
    return {key: value for key, value in flatten(values).items() if value != {}}


def _text(value: Any) -> str:
    return "not given" if value is None else str(value)


def _of_bits(key: str, old: Any, new: Any) -> str:
    if key not in COMPUTED:
        return ""
    if key == "train.device" or (key == "trials.gpus_per_trial" and not (old and new)):
        return ": a GPU draws other noise than a CPU, and `precision: auto` is bf16 there"
    return ": sums are rounded otherwise, so no trial repeats one from before to the last bit"
