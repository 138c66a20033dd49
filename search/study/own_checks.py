"""The problems of a study that depend on whose trainer it is: data, objectives, its settings."""

from collections.abc import Collection
from typing import TYPE_CHECKING

from trainer.configfile import ConfigError, did_you_mean, quoted

if TYPE_CHECKING:
    from search.study.config import StudyConfig

METRICS = {
    "val/dice": "max",
    "val/dice_official": "max",
    "val/lesion_f1": "max",
    "val/avd_ml": "min",
    "val/lesion_count_diff": "min",
    "val/hd95_mm": "min",
    "val/false_positive_ml": "min",
    "train/loss": "min",
    "time/case_s": "min",
}
"""What every validation of segtune's trainer reports and a study may optimise, and which way is
better. Another trainer may report others as well."""
WITHOUT_CASES = ("train/loss", "time/case_s")
"""Those of METRICS that are no mean over cases, so that nothing tells two trials apart."""
SCORES = ("val/dice", "val/dice_official", "val/lesion_f1")
"""Those that lie between 0 and 1."""


def data_problems(study: "StudyConfig", where: str, broken: Collection[str]) -> list[str]:
    """Return what is missing in a study's `data`."""
    if study.has_data or "data" in broken:
        return []
    if study.trainer is None:
        given = "data" in study.model_fields_set
        return [f"{where}: data{'.store' * given}: required, but not given"]
    if study.data.fold:
        return [f"{where}: data.fold: {study.data.fold}: is of a store, and there is none"]
    return []


def objective_problems(study: "StudyConfig", where: str, broken: Collection[str]) -> list[str]:
    """Return what is wrong with the metrics of a study and which way they are better."""
    named = [("objective", study.objective)] if "objective" not in broken else []
    if "further_objectives" not in broken:
        further = enumerate(study.further_objectives)
        named += [(f"further_objectives.{index}", each) for index, each in further]
    problems = []
    for key, objective in named:
        metric, mode = objective.metric, objective.mode
        if metric not in METRICS and study.trainer is None:
            known = f"must be one of {', '.join(METRICS)}{did_you_mean(metric, METRICS)}"
            problems.append(f"{where}: {key}.metric: {quoted(metric)}: {known}")
        elif METRICS.get(metric, mode) != mode:
            rule = f"mode is {mode!r}, but {metric} is better the other way"
            problems.append(f"{where}: {key}: {rule}")
    return problems


def own_problems(study: "StudyConfig", where: str, broken: Collection[str]) -> list[str]:
    """Return what a study has that a trainer of one's own does not, or cannot hear of."""
    trainer, problems = study.trainer, []
    assert trainer is not None
    if study.control:
        problems.append(f"{where}: control: there is none with a trainer of one's own")
    if study.scheduler.max_t == 0 and "scheduler" not in broken:
        problems.append(
            f"{where}: scheduler.max_t: 0: a trainer of one's own has to train: at least 1"
        )
    if study.trials.workers_per_trial > 1 and not study.trials.gpus_per_trial:
        problems.append(
            f"{where}: trials.workers_per_trial: {study.trials.workers_per_trial}: a trainer of "
            "one's own starts its own processes: leave it out"
        )
    problems += [
        f"{where}: references.{index}.masks: {reference.masks}: are scored on the cases of a "
        "store: needs data.store"
        for index, reference in enumerate(study.references)
        if reference.masks and not study.has_data
    ]
    if study.has_data and not trainer.told("fold"):
        problems.append(
            f"{where}: trainer.command: has neither {{fold}} nor {{config}}, so that the program "
            "would not know data.fold: name it, or take out data"
        )
    if study.has_data and study.own_schema and not study.own_schema.takes("data.fold"):
        problems.append(
            f"{where}: data: trainer.settings have no data.fold, so that the trainer would not "
            "know it: add it there, or take out data"
        )
    return problems


def confirm_problems(study: "StudyConfig", where: str, broken: Collection[str]) -> list[str]:
    """Return why the best trials of a study could not be told apart at its end."""
    if study.confirm is None or {"confirm", "objective"} & {*broken}:
        return []
    metric, trainer, problems = study.objective.metric, study.trainer, []
    if trainer is None and metric in WITHOUT_CASES:
        rule = "is no mean over cases, of which verdicts are"
        problems.append(f"{where}: confirm: objective.metric {metric} {rule}: leave it out")
    elif study.confirm.loss is None and metric not in SCORES:
        rule = f"required for {metric}, which is no score between 0 and 1"
        problems.append(f"{where}: confirm.loss: {rule}: what the best may be worse by")
    if trainer and not study.hears_of_seeds:
        rule = "does not hear of seeds, so that it would train the same again"
        remedy = "{seed} or {config} in trainer.command, or a setting `seed`"
        problems.append(f"{where}: confirm: {trainer.name} {rule}: {remedy}")
    if study.trains and trainer is None and "init_from" in study.train:
        rule = "those weights were trained on the folds that would confirm"
        problems.append(f"{where}: confirm: train.init_from: {rule}: leave one of them out")
    return problems


def fixed_problems(study: "StudyConfig", where: str) -> list[str]:
    """Return what a trainer of one's own says of what is fixed, searched settings at some value."""
    first = {name: dimension.values()[0] for name, dimension in study.space.items()}
    try:
        study.check_settings(first, where)
    except ConfigError as error:
        named = [(line, line.removeprefix(f"{where}: ").split(": ")[0]) for line in error.lines]
        return [
            line.replace(f"{where}: ", f"{where}: train.", 1)
            for line, name in named
            if not any(f"{each}.".startswith(f"{name}.") for each in study.space)
        ]
    return []
