"""The problems of a study that no single section shows, one line each."""

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from search.study.own_checks import (
    confirm_problems,
    data_problems,
    fixed_problems,
    objective_problems,
    own_problems,
)
from search.study.sampler_limits import DRAWS, always_refused, grid_problems
from search.study.space import (
    Dimension,
    active,
    among,
    circle,
    context,
    stated,
)
from trainer.config import DataConfig, TrainConfig
from trainer.configfile import ConfigError, did_you_mean, field_names, flatten, quoted
from trainer.old_names import GONE, MOVED

if TYPE_CHECKING:
    from search.study.config import StudyConfig

OWNED = {
    "data.store": "data.store of the study",
    "data.fold": "data.fold of the study",
    "epochs": "scheduler.max_t",
}
"""Trainer settings that the study file has elsewhere."""

FIDELITY = (
    "epoch_images",
    "validation.every",
    "validation.steps",
    "validation.members",
    "deterministic",
    "norm_kernel",
    "cuda_graph",
)
"""Trainer settings that must be equal in all trials: else an epoch would not compare, a process
that has started CUDA cannot become deterministic, and how a GPU computes what it computes is no
question of a search."""

TABLES = {
    name
    for name, value in flatten(TrainConfig(data=DataConfig(store=".")).model_dump()).items()
    if value == {}
}
"""Trainer settings that have a value for each name in them: data.windows.tmax."""


def check(study: "StudyConfig", where: str, broken: Collection[str] = ()) -> list[str]:
    """Return a study's problems.

    TrainConfig is built for the control, for every enqueued entry, and for every dimension at its
    ends and in between, with its conditions met and the others at their defaults.

    Args:
        study: The study.
        where: Its file.
        broken: Keys whose problems are known already and that have stand-ins here.
    """
    if "trainer" in broken:  # whose settings these are is not known
        return []
    problems = data_problems(study, where, broken) + objective_problems(study, where, broken)
    problems += confirm_problems(study, where, broken)
    if study.trainer:
        problems += own_problems(study, where, broken)
    for name in study.train:
        problems += _check_owned(study, name, f"{where}: train.{name}")
    for name, dimension in study.space.items():
        problems += _check_dimension(study, name, dimension, where, broken)
    if around := circle(study.space):
        way = " -> ".join([*around, around[0]])
        return [*problems, f"{where}: space.{around[0]}.when: a circle of conditions: {way}"]
    problems += _check_sections(study, where)
    if study.sampler.type == "grid" and not any(key.startswith("space") for key in broken):
        problems += grid_problems(study, where)
    zero = not (study.trains or study.trainer)
    if zero and (missing := _check_zero_epochs(study, where)):
        return problems + missing
    if study.trainer is None:
        try:
            fixed = study.train_config({}, where)
        except ConfigError as error:
            return problems + _locate(error.lines, where, "train")
        if "scheduler" not in broken:
            problems += _check_validations(study, fixed, where)
            problems += _check_grace_period(study, fixed, where)
    elif found := fixed_problems(study, where):
        return problems + found
    for name, dimension in study.space.items():
        if not setting_problem(name, study):
            problems += _check_values(study, name, dimension, where)
    for index, entry in enumerate(study.enqueue):
        problems += check_enqueued(study, entry, where, f"enqueue.{index}", broken)
    for index, reference in enumerate(study.references):
        if reference.masks is not None:
            continue
        key = f"references.{index}.settings"
        problems += check_params(study, reference.settings, where, key)
    if study.has_control:
        problems += check_params(study, study.control_params, where, "control")
    if not (problems or broken):
        given = {f"enqueue.{index}": entry for index, entry in enumerate(study.enqueue)}
        given |= {"space, its priors": known} if (known := stated(study.space)) else {}
        problems += [
            f"{where}: {key}: each of {DRAWS} random combinations is refused, for example: {said}"
            for key, entry in (given or {"space": {}}).items()
            if (said := always_refused(study, entry))
        ]
    return problems


def _locate(lines: Iterable[str], where: str, key: str) -> list[str]:
    """Name the study's key in the trainer's lines: `model.width: …` -> `train.model.width: …`."""
    located = []
    for line in lines:
        rest = line.removeprefix(f"{where}: ")
        setting = rest.split(": ")[0]
        if key.endswith(f".{setting}"):
            rest = rest.removeprefix(f"{setting}: ")
        joint = ": " if " " in setting or key.startswith("space.") else "."
        located.append(f"{where}: {key}{joint}{rest}")
    return located


def _check_owned(study: "StudyConfig", name: str, where: str) -> list[str]:
    if name in (elsewhere := study.settings_elsewhere):
        return [f"{where}: cannot be set here; it is {elsewhere[name]}"]
    return []


def _check_fidelity(study: "StudyConfig", name: str, where: str) -> list[str]:
    if name in FIDELITY and study.trainer is None:
        return [f"{where}: must be equal in all trials; give it in train"]
    return []


def _is_setting(name: str) -> bool:
    names = set(field_names(TrainConfig))
    if name in names:
        return not any(other.startswith(f"{name}.") for other in names)
    return name.rpartition(".")[0] in TABLES


def _check_dimension(
    study: "StudyConfig", name: str, dimension: Dimension, where: str, broken: Collection[str]
) -> list[str]:
    """Check a dimension's name and conditions."""
    where = f"{where}: space.{name}"
    problems = _check_owned(study, name, where) + _check_fidelity(study, name, where)
    if problem := setting_problem(name, study):
        problems.append(f"{where}: {problem}")
    if name in study.train:
        problems.append(f"{where}: is fixed in train too; give it in one place")
    conditions = []
    for parent, values in dimension.when.items():
        if f"space.{parent}" not in broken:
            conditions += _check_condition(study, name, parent, values, f"{where}.when")
    if not conditions and context(study.space, name) is None:
        conditions = [f"{where}.when: its conditions exclude each other: it is never searched"]
    return problems + conditions


def setting_problem(name: str, study: "StudyConfig | None" = None) -> str:
    """Return why a name is none of a trainer's setting; empty where it is one.

    Args:
        name: Dotted.
        study: Whose trainer is perhaps one's own; None for segtune's.
    """
    if study is not None and study.trainer:
        return study.own_schema.problem(name) if study.own_schema else ""
    names = list(field_names(TrainConfig))
    if name in names and not _is_setting(name):
        below = [other for other in names if other.startswith(f"{name}.")]
        return f"is a section; search its settings ({', '.join(below)})"
    if name in GONE:
        return f"is gone ({GONE[name]}): take it out"
    if name in MOVED:
        return f"is {MOVED[name]} now, which must be equal in all trials"
    if not _is_setting(name):
        return f"no such trainer setting{did_you_mean(name, names)}"
    return ""


def no_dimension(name: str, value: Any, *, own: bool = False) -> str:
    """Return what is wrong with a dimension that is no mapping: what one looks like, by its name.

    Args:
        name: Of the setting, as given.
        value: What stands there: bounds, perhaps, or choices, or one value.
        own: Whether the trainer is one's own, whose settings are not known here.
    """
    values = value if isinstance(value, list) else []
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    shown = "{type: float, low: 1e-5, high: 1e-3, log: true}"
    if len(values) == len(numbers) == 2 and numbers[0] < numbers[1]:
        low, high = numbers
        kind = "int" if isinstance(low, int) and isinstance(high, int) else "float"
        log = ", log: true" if low > 0 and high / low >= 10 else ""
        shown = f"{{type: {kind}, low: {low:g}, high: {high:g}{log}}}"
    elif values:
        shown = f"{{type: categorical, choices: {quoted(values)}}}"
    problem = "" if own else setting_problem(name)
    meant = problem.partition("did you mean ")[2].rstrip("?")
    if problem and not meant:
        return problem
    fixed = "; one value for all trials stands in train" if not isinstance(value, list) else ""
    return f"{quoted(value)}: must be a dimension, as in {meant or name}: {shown}{fixed}"


def _check_condition(
    study: "StudyConfig", name: str, parent: str, values: tuple[Any, ...], where: str
) -> list[str]:
    if parent not in study.space:
        return [f"{where}: {parent}: no such dimension in space{did_you_mean(parent, study.space)}"]
    if not values:
        return [f"{where}: {parent}: needs at least one value"]
    problems = []
    for value in values:
        if not study.space[parent].contains(value):
            choices = [str(choice) for choice in study.space[parent].choices or ()]
            hint = did_you_mean(str(value), choices)
            problems.append(f"{where}: {parent}: {quoted(value)}: {parent} never has it{hint}")
    return problems


def _check_sections(study: "StudyConfig", where: str) -> list[str]:
    """Check sections of a study against each other."""
    problems = []
    device = None if study.trainer else study.train.get("device")
    metrics = [study.objective.metric]
    for index, objective in enumerate(study.further_objectives):
        if objective.metric in metrics:
            problems.append(
                f"{where}: further_objectives.{index}.metric: {objective.metric}: "
                "is an objective already"
            )
        metrics.append(objective.metric)
    if device in ("cuda", "mps") and study.trials.gpus_per_trial == 0:
        problems.append(
            f"{where}: train.device: {device}: trials.gpus_per_trial is 0, so that "
            "trials run on the CPU; give them 1, or auto"
        )
    if study.budget.gpu_hours is not None and not study.trials.gpus_per_trial:
        problems.append(
            f"{where}: budget.gpu_hours: {study.budget.gpu_hours:g}: trials.gpus_per_trial is 0, "
            "so none is ever spent; limit wall_hours or epochs"
        )
    return problems


def _check_zero_epochs(study: "StudyConfig", where: str) -> list[str]:
    """Check a study that trains nothing: only sampling makes its trials differ."""
    zero = "where scheduler.max_t is 0, which trains nothing"
    problems = []
    if study.train.get("init_from") is None:
        problems.append(f"{where}: train.init_from: required {zero}")
    if study.control:
        problems.append(f"{where}: control: there is none {zero}")
    if study.stall:
        problems.append(f"{where}: stall: nothing can stall {zero}")
    if "train/loss" in (study.objective.metric, *(o.metric for o in study.further_objectives)):
        problems.append(f"{where}: objective: there is no train/loss {zero}")
    searched = [f"space.{name}" for name in study.space]
    for index, entry in enumerate(study.enqueue):
        searched += [f"enqueue.{index}.{name}" for name in entry]
    for index, reference in enumerate(study.references):
        searched += [f"references.{index}.settings.{name}" for name in reference.settings]
    problems += [
        f"{where}: {key}: only sampling settings make a difference {zero}"
        for key in searched
        if ".sampling." not in key
    ]
    return problems


def _check_validations(study: "StudyConfig", fixed: TrainConfig, where: str) -> list[str]:
    problems = []
    for name in ("max_t", "grace_period") if study.scheduler.type != "none" else ():
        epochs = getattr(study.scheduler, name)
        if epochs % fixed.validation.every:
            problems.append(
                f"{where}: scheduler.{name}: {epochs}: must be a multiple of "
                f"train.validation.every ({fixed.validation.every})"
            )
    if fixed.epochs and fixed.validation.steps != "sampling":
        problems += [
            f"{where}: space.{name}: makes no difference to a validation: set "
            "train.validation.steps: sampling, or use `segtune respace`"
            for name in study.space
            if name.startswith("sampling.") and name != "sampling.threshold"
        ]
    return problems


def _check_grace_period(study: "StudyConfig", fixed: TrainConfig, where: str) -> list[str]:
    """Check that no trial is stopped before its learning rate and its losses have risen."""
    if study.scheduler.type == "none" and not study.stall:
        return []
    max_t, grace_period = study.scheduler.max_t, study.scheduler.grace_period
    images = max(_possible(study, fixed, "optimizer.warmup_images"))
    ends = [
        (
            "warm-up",
            images / fixed.epoch_images,
            f"optimizer.warmup_images up to {images} of {fixed.epoch_images} an epoch",
        )
    ]
    if "warm_in" in _possible(study, fixed, "loss.weighting"):
        # One that is searched with warm_in only has no other value while it matters.
        share = max(_possible(study, fixed, "loss.warm_in_fraction", always="loss.weighting"))
        ends.append(
            ("warm-in", share * max_t, f"loss.warm_in_fraction up to {share:g} of max_t {max_t}")
        )
    return [
        f"{where}: scheduler.grace_period: {grace_period}: ends before the {what} does (epoch "
        f"{epoch:.3g}: {why}): it would prune the very thing that is asked"
        for what, epoch, why in ends
        if epoch > grace_period
    ]


def _possible(study: "StudyConfig", fixed: TrainConfig, name: str, always: str = "") -> list[Any]:
    """Return the values that a searched trial may have, all or the ends and one between.

    Args:
        study: The study.
        fixed: What its trials share.
        name: A setting.
        always: A condition that is met wherever the setting matters.
    """
    dimension = study.space.get(name)
    searched = dimension.values() if dimension else []
    if dimension is None or dimension.when.keys() - {always}:
        searched.append(flatten(fixed.model_dump())[name])
    return searched


def _check_values(study: "StudyConfig", name: str, dimension: Dimension, where: str) -> list[str]:
    met = context(study.space, name) or {}
    problems = []
    for value in dimension.values():
        try:
            study.check_settings({**met, name: value}, where)
        except ConfigError as error:
            problems += _locate(error.lines, where, f"space.{name}")
    return problems


def check_enqueued(
    study: "StudyConfig", entry: Mapping[str, Any], where: str, key: str, broken: Collection[str]
) -> list[str]:
    """Check an entry of `enqueue`, which has to lie in the space."""
    if "protected" in entry:
        value = quoted(entry["protected"])
        return [f"{where}: {key}.protected: {value}: must be true or false"]
    problems: list[str] = []
    for name, value in entry.items():
        here = f"{where}: {key}.{name}"
        if f"space.{name}" in broken or name in study.settings_elsewhere:
            continue
        if name not in study.space:
            hint = did_you_mean(name, study.space) or "; only `references` may leave the space"
            problems.append(f"{here}: not searched{hint}")
        elif not study.space[name].contains(value):
            problems.append(f"{here}: {quoted(value)}: outside space.{name}")
        elif name not in active(study.space, entry):
            problems += _unmet(study, entry, name, here)
    return problems + check_params(study, entry, where, key, build=not problems)


def check_params(
    study: "StudyConfig", params: Mapping[str, Any], where: str, key: str, *, build: bool = True
) -> list[str]:
    """Check settings of one trial, and unless told otherwise, that TrainConfig takes them."""
    problems: list[str] = []
    for name in params:
        here = f"{where}: {key}.{name}"
        problems += _check_owned(study, name, here) + _check_fidelity(study, name, here)
    if build and not problems:
        try:
            study.check_settings(params, where)
        except ConfigError as error:
            problems += _locate(error.lines, where, key)
    return problems


def _unmet(study: "StudyConfig", params: Mapping[str, Any], name: str, where: str) -> list[str]:
    """Return a line about the conditions that an entry does not meet.

    None if it meets all: then a condition's own are unmet, which has a line of its own.
    """
    conditions = study.space[name].when
    if all(parent in params and among(params[parent], conditions[parent]) for parent in conditions):
        return []
    when = " and ".join(f"{parent} in {list(values)}" for parent, values in conditions.items())
    return [f"{where}: searched only when the entry has {when}"]
