"""What a study would do, before anything is spent: `segtune launch SPACE --dry-run`."""

import json
import random
import shlex
from pathlib import Path
from typing import Any

from search.execution.session import ray_address
from search.ledger.budget import UNITS, cost_key
from search.report.text import align
from search.storage.dataset_cache import read_manifest
from search.storage.studies import begun_under, read_study
from search.study.config import StudyConfig
from search.study.notify.targets import targets
from search.study.own_trainer import OwnTrainer
from search.study.rungs import expected_epochs, rung_table
from search.study.search_sections import Confirm
from search.study.space import Dimension, draw, stated
from trainer.configfile import did_you_mean, flatten
from trainer.data.splits import fold_problem, place_of
from trainer.gpus import look


def store_problems(study: StudyConfig) -> list[str]:
    """Return what is wrong with a study's data, as far as the store's manifest tells."""
    where = f"data.store: {study.data.store}"
    if not study.has_data:
        return []
    try:
        manifest = json.loads(read_manifest(study.data.store))
        cases, image_size = manifest["cases"], int(manifest["image_size"])
        modalities = manifest["modalities"]
        places = {case["case_id"]: place_of(case) for case in cases}
        lesion_ml = {case["case_id"]: case["lesion_ml"] for case in cases}
    except (FileNotFoundError, NotADirectoryError):
        return [f"{where}: not a prepared store; {_other_store(study.data.store)}"]
    except (AttributeError, OSError, ValueError, KeyError, RecursionError, TypeError) as error:
        return [f"{where}: damaged store: {' '.join(str(error).split())}"]
    problems = []
    if problem := fold_problem(places, lesion_ml, study.data.fold):
        problems.append(f"{where}: {problem}")
    if study.trainer:
        return problems
    config = study.train_config({})
    used = {name: "train" for name in config.data.modalities or ()}
    searched = _possible(study.space.get("data.modalities"))
    used |= {name: "space" for choice in searched for name in choice or ()}
    for name, section in used.items():
        if name not in modalities:
            hint = did_you_mean(name, modalities)
            problems.append(
                f"{section}.data.modalities: {name!r}: the store has {', '.join(modalities)}{hint}"
            )
    depth = max([config.model.depth, *_possible(study.space.get("model.depth"))])
    if image_size % 2 ** (depth - 1):
        problems.append(
            f"model.depth: {depth}: needs slices of a multiple of {2 ** (depth - 1)} pixels, "
            f"but the store's have {image_size}"
        )
    return problems


def _other_store(path: str) -> str:
    """Return the store that may be meant, or how to make one.

    A path in YAML ends where ` #` begins a comment, unless it is quoted.
    """
    folder = Path(path).parent
    others = [each.name for each in folder.iterdir()] if folder.is_dir() else []
    if cut := [name for name in sorted(others) if name.startswith(f"{Path(path).name} #")]:
        return f"did you mean '{folder / cut[0]}'? In YAML ` #` begins a comment: quote it"
    hint = did_you_mean(Path(path).name, (name for name in others if "." not in name))
    return f"make one: segtune prepare DATASET OUT{hint}"


def with_its_gpus(
    study: StudyConfig, folder: Path, address: str | None
) -> tuple[StudyConfig, list[str]]:
    """Return a study with the GPUs that a launch would give its trials, and notes on them.

    Args:
        study: What would be launched.
        folder: The study's, which may have begun it.
        address: Of a Ray cluster; None for this machine.

    Raises:
        ValueError: The study does not suit what `auto` is, or the cluster does not answer.
    """
    from search.execution.gpus import automatic, with_gpus

    notes: list[str] = []
    if study.trials.gpus_per_trial == "auto":
        if begun_under(folder):
            gpus = read_study(folder)[0].trials.gpus
        else:
            gpus = automatic(study, ray_address(address), notes.append)
        return with_gpus(study, gpus, study.study), notes
    gpus = study.trials.gpus
    if gpus and study.trainer is None and ray_address(address) == "local":
        try:
            found = look()
        except (OSError, RuntimeError) as error:
            return study, [str(error)]
        if found.problem:
            notes.append(
                f"trials.gpus_per_trial: {gpus:g}: `launch` would be refused here: {found.problem}"
            )
        elif len(found.names) < gpus:
            notes.append(
                f"trials.gpus_per_trial: {gpus:g}: `launch` would be refused here: there are "
                f"{len(found.names)}"
            )
    return study, notes


def _possible(dimension: Dimension | None) -> list[Any]:
    return dimension.values() if dimension else []


def preview(study: StudyConfig) -> str:
    """Return a study's resolved settings and its rung table as text."""
    if study.trainer:
        resolved = flatten(study.settings({}))
    else:
        resolved = flatten(study.train_config({}).model_dump())
    fixed = [
        (name, _text(value), "" if _is_named(name, study) else "(default)")
        for name, value in resolved.items()
        if name not in study.space
    ]
    searched = [(name, _describe(dimension)) for name, dimension in study.space.items()]
    first = [("control", study.control_params)] if study.has_control else []
    first += [(each.name, each.settings) for each in study.trained_references]
    first += [("enqueued", entry) for entry in study.enqueue]
    tried = [
        (kind, ", ".join(f"{k}={_text(v)}" for k, v in entry.items())) for kind, entry in first
    ]
    return "\n\n".join(
        [
            align(_sections(study)),
            *_command(study),
            "fixed in every trial\n" + align(fixed, indent=2),
            "searched\n" + align(searched, indent=2),
            *(["tried first\n" + align(tried, indent=2)] if tried else []),
            *(_rungs(study) if study.trains else [_validations(study)]),
        ]
    )


def _sections(study: StudyConfig) -> list[tuple[str, str]]:
    """Return what a study says beside its settings, a row a section."""
    trials = study.trials
    each = f"{trials.cpus_per_trial} CPUs, {trials.gpus:g} GPUs"
    if trials.workers_per_trial > 1:
        each += f", shared equally by {trials.workers_per_trial} workers"
    further = [("and", f"{o.metric} ({o.mode})") for o in study.further_objectives]
    return [
        ("study", study.study),
        (
            "data",
            f"{study.data.store}, fold {study.data.fold}"
            if study.has_data
            else "the trainer's own",
        ),
        *([("trainer", _trainer(study, study.trainer))] if study.trainer else []),
        ("objective", f"{study.objective.metric} ({study.objective.mode})"),
        *further,
        (
            "trials",
            f"{trials.num_trials} searched ({len(study.enqueue)} enqueued), "
            f"{'1' if study.has_control else 'no'} control, "
            f"{len(study.trained_references)} reference"
            f"{'s' * (len(study.trained_references) != 1)}",
        ),
        *((each.name, f"masks in {each.masks}, a reference") for each in study.mask_references),
        *([("at once", f"at most {most}")] if (most := trials.max_concurrent) else []),
        ("each", each),
        ("sampler", _sampler(study)),
        ("scheduler", _scheduler(study)),
        ("stall", _stall(study)),
        ("budget", _budget(study)),
        *([("confirm", _confirm(study, study.confirm))] if study.confirm else []),
        *([("notify", told.in_words())] if (told := targets(study.notify)) else []),
        *[("notify", note) for note in told.notes],
        ("seed", str(study.seed)),
    ]


def _trainer(study: StudyConfig, trainer: OwnTrainer) -> str:
    known = study.own_schema is not None and not study.own_schema.takes_anything
    return trainer.name if known else f"{trainer.name}, which takes settings of any name"


def _command(study: StudyConfig) -> list[str]:
    """Return the command of a trainer of one's own as it would be run, of the first trial."""
    if not (study.trainer and study.trainer.command):
        return []
    from search.execution.command_trainer import trial_words

    drawn = draw(study.space, random.Random(study.seed), {})
    first = study.enqueue[0] if study.enqueue else {}
    spec = {
        "train": study.settings({**drawn, **first}),
        "run_dir": f"RUNS/{study.study}/trials/0000",
        "trial": 0,
        "cpus": study.trials.cpus_per_trial,
        "gpus": study.trials.gpus,
        "has_data": study.has_data,
    }
    words = shlex.join(trial_words(study.trainer, spec))
    return [f"a trial, for example, in {study.trainer.folder}\n  {words}"]


def _sampler(study: StudyConfig) -> str:
    sampler = study.sampler
    prior = ", beside draws around the prior" if stated(study.space) else ""
    match sampler.type:
        case "tpe":
            return f"tpe, the first {sampler.num_startup_trials} at random{prior}"
        case "random":
            return f"random{prior}"
        case "gp" | "curve_gp":
            return f"{sampler.type}, the first {sampler.num_startup_trials} at random"
        case "nsga2":
            return f"nsga2, generations of {sampler.population_size}"
    return sampler.type


def _scheduler(study: StudyConfig) -> str:
    scheduler = study.scheduler
    if scheduler.type == "none":
        return f"none: max_t {scheduler.max_t}"
    return (
        f"{scheduler.type}: grace_period {scheduler.grace_period}, max_t {scheduler.max_t}, "
        f"reduction_factor {scheduler.reduction_factor}, brackets {scheduler.brackets}, "
        f"smoothing {scheduler.smoothing}"
    )


def _stall(study: StudyConfig) -> str:
    if study.stall is None:
        return "none"
    return (
        f"after {study.stall.patience} epochs without an improvement of {study.stall.min_delta:g}, "
        f"counted from epoch {study.scheduler.grace_period} at the earliest"
    )


def _budget(study: StudyConfig) -> str:
    limits = study.budget.model_dump(exclude_none=True).items()
    return ", ".join(f"{limit:g} {name.replace('_', ' ')}" for name, limit in limits) or "none"


def _confirm(study: StudyConfig, confirm: Confirm) -> str:
    """Return what tells the best apart at the end, and what that would cost."""
    unit, top, seeds = UNITS[cost_key(study.trials)], confirm.top, confirm.seeds
    said = f"the best {top}, for at most {confirm.budget_share:g} of the search's {unit}"
    if study.trains:
        epochs = study.num_protected * study.scheduler.max_t + expected_epochs(rung_table(study))
        said += (
            f", as about {confirm.budget_share * epochs:.0f} epochs take; {top * seeds} trainings "
            f"of {study.scheduler.max_t} for all {seeds} seeds"
        )
    return f"{said}; until the best is told from the others, or loses at most {confirm.tolerated:g}"


def _rungs(study: StudyConfig) -> list[str]:
    """Return the rung table, and what the study trains in all."""
    table, max_t = rung_table(study), study.scheduler.max_t
    rungs = [
        (
            str(rung.bracket),
            f"{rung.epoch}{' (max_t)' if rung.epoch == max_t else ''}",
            f"{rung.trials:.1f}",
            *([] if rung.images is None else [str(rung.images)]),
        )
        for rung in table
    ]
    head = ("bracket", "epoch", "trials expected", "images of a trial")
    return [
        "rungs\n" + align([head[: len(rungs[0])], *rungs], indent=2),
        f"about {expected_epochs(table):.0f} epochs for the searched trials, "
        f"{study.trials.num_trials * max_t} without a scheduler; "
        f"{study.num_protected * max_t} for the control and the references",
    ]


def _validations(study: StudyConfig) -> str:
    return f"nothing is trained: each trial is one validation of {study.train['init_from']}"


def _is_named(name: str, study: StudyConfig) -> bool:
    named = {*study.train, "data.store", "data.fold", "epochs", "seed"}
    return any(name == key or name.startswith(f"{key}.") for key in named)


def _describe(dimension: Dimension) -> str:
    if dimension.choices is not None:
        text = f"one of {', '.join(_text(choice) for choice in dimension.choices)}"
    else:
        step = f" in steps of {_text(dimension.step)}" if dimension.step else ""
        log = ", log" if dimension.log else ""
        text = f"{dimension.type} {_text(dimension.low)} to {_text(dimension.high)}{step}{log}"
    for parent, values in dimension.when.items():
        text += f", when {parent} is {' or '.join(_text(value) for value in values)}"
    if dimension.has_prior:
        text += f"; prior {_text(dimension.prior)}, confidence {dimension.confidence}"
    return text


def _text(value: Any) -> str:
    match value:
        case float():
            return f"{value:g}"
        case None:
            return "auto"
        case list() | tuple():
            return f"[{', '.join(_text(item) for item in value)}]"
    return str(value)
