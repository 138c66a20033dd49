"""`segtune init`: a study file for a store and a machine, each of its numbers with its reason.

The store says how large a network may be and how many images one pass over the lesions takes; a
measured minute says what an image costs; the hours that are given say how many trials, and how
long ones. The words of the file are in study.yaml.jinja beside this file.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from search.execution.session import ray_address
from search.report.template import filled_in
from search.storage.dataset_cache import read_manifest
from search.study.config import StudyConfig
from search.study.load import load_study
from search.workflows.preview.cost_probe import Cost, expected_hours, measured_costs
from search.workflows.preview.dry_run import store_problems
from trainer.configfile import ConfigError
from trainer.cpus import num_cpus
from trainer.data.splits import NUM_FOLDS, fold_problem, place_of
from trainer.files.atomic import write_atomically
from trainer.gpus import look

LENGTHS = ((81, 96), (81, 48), (81, 24), (27, 48), (27, 24), (9, 48), (9, 24), (9, 12))
"""Epochs of a whole training and number of trials, the most wanted first: fewer than two dozen
trials say little of six settings, and a training of few epochs little of a longer one."""

EPOCH_IMAGES = (100, 4000)
"""Fewest and most training images of an epoch."""

SMALL_LESION_PX = 16
"""Median area below which half of the lesions are a handful of pixels."""

FEW_CASES = 20
"""Validation cases below which an interval is wide."""

SHARE_OF_HOURS = 0.9
"""That may be planned; measurements of a minute are off by a tenth."""


@dataclass(frozen=True)
class Fingerprint:
    """What a store says that sizes a study."""

    store: str
    fold: int
    """The first that can be validated with."""
    image_size: int
    pixel_mm: float
    num_training: int
    num_validation: int
    num_test: int
    lesion_ml: tuple[float, float, float]
    """Smallest, median and largest of the cases with lesion."""
    lesion_slices: int
    """Of the training cases."""
    slices: int
    lesion_px: float
    """Median area of a slice's lesion, in pixels."""


@dataclass(frozen=True)
class Size:
    """What is decided before anything is measured."""

    width: int
    depth: int
    epoch_images: int
    batches: tuple[int, ...]
    lr: tuple[str, str]
    gpus_per_trial: int
    cpus_per_trial: int


@dataclass(frozen=True)
class Plan:
    """What the hours allow."""

    epoch_images: int
    max_t: int
    num_trials: int
    grace_period: int
    smoothing: int
    validate_every: int
    hours: float
    hours_unpruned: float


def init_study(
    store: str,
    out: Path,
    *,
    hours: float,
    gpus: int | None,
    address: str | None = None,
    say: Callable[[str], None],
) -> None:
    """Write a study file that fits a store, a device and a number of hours.

    Args:
        store: What `segtune prepare` wrote.
        out: File to write; it must not exist.
        hours: Wall-clock time of the study.
        gpus: That it will have; None takes those of this machine, or of the cluster.
        address: Of a running Ray cluster to measure on; None is this machine.
        say: Is told what the file says, in a few lines.

    Raises:
        ConfigError: The store, the file or the machine does not suit it.
    """
    if out.exists():
        raise ConfigError([f"{out}: exists: choose another name or delete it"])
    if not out.parent.is_dir():
        raise ConfigError([f"{out}: no such folder: {out.parent}"])
    if hours <= 0:
        raise ConfigError([f"command line: hours: {hours:g}: must be above 0"])
    if gpus is not None and gpus < 0:
        raise ConfigError([f"command line: gpus: {gpus}: must be at least 0"])
    found = fingerprint(store)
    cpus, gpus_there = machine(address)
    gpus = gpus_there if gpus is None else gpus
    size = size_of(found, gpus, cpus)

    def text_of(plan: Plan, costs: Mapping[str, Cost]) -> str:
        return render(out, found, size, plan, hours, costs)

    study = study_of(text_of(next(plans(size.epoch_images)), {}))
    if problems := store_problems(study):
        raise ConfigError(problems)
    say(f"measuring V1 of width {size.width} and the control, for a minute")
    costs = measured_costs(study, address)
    if gpus:
        costs = {kind: replace(cost, slots=gpus) for kind, cost in costs.items()}
    plan = plan_for(hours, size, lambda plan: study_of(text_of(plan, {})), costs)
    text = text_of(plan, costs)
    study_of(text)  # what is written can be launched
    write_atomically(out, lambda path: path.write_text(text, encoding="utf-8"))
    say(
        f"{out}: {plan.num_trials} trials of at most {plan.max_t} epochs of {plan.epoch_images} "
        f"images, about {plan.hours:.2g} hours ({plan.hours_unpruned:.2g} without pruning)"
    )
    for note in notes(found, plan, hours):
        say(f"note: {note}")
    say(f"read it, change it, then: segtune launch {out}")


def study_name(out: Path) -> str:
    """Return a study's name from its file's, of the letters that a name may have."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", out.stem).strip("-._") or "study"


def machine(address: str | None) -> tuple[int, int]:
    """Return how many CPUs and GPUs a study would find; no GPU where torch computes on none."""
    if ray_address(address) == "local":
        found = look()
        return num_cpus(), 0 if found.problem else len(found.names)
    from search.execution.session import before_ray, ray_session

    before_ray(ray_address(address))
    import ray

    with ray_session(ray_address(address)):
        there = ray.cluster_resources()
        return int(there.get("CPU", 1)), int(there.get("GPU", 0))


def fingerprint(store: str) -> Fingerprint:
    """Read from a store's manifest what sizes a study.

    Raises:
        ConfigError: It is no store, or none of its folds can be searched on.
    """
    try:
        manifest = json.loads(read_manifest(store))
        cases = manifest["cases"]
        places = {case["case_id"]: place_of(case) for case in cases}
        lesion_ml = {case["case_id"]: case["lesion_ml"] for case in cases}
        problems = [fold_problem(places, lesion_ml, fold) for fold in range(NUM_FOLDS)]
        fold = problems.index("") if "" in problems else 0
        training = [c for c in cases if places[c["case_id"]] not in ("test", fold)]
        validation = [c for c in cases if places[c["case_id"]] == fold]
        volumes = [case["lesion_ml"] for case in cases if case["lesion_ml"]]
        areas = [pixels for case in training for pixels in case["lesion_pixels"] if pixels]
        slices = sum(case["num_slices"] for case in training)
        size, pixel_mm = manifest["image_size"], cases[0]["spacing_mm"][0]
    except (FileNotFoundError, NotADirectoryError):
        rule = "not a prepared store; make one: segtune prepare DATASET OUT"
        raise ConfigError([f"{store}: {rule}"]) from None
    except (AttributeError, IndexError, KeyError, OSError, TypeError, ValueError) as error:
        raise ConfigError([f"{store}: damaged store: {' '.join(str(error).split())}"]) from error
    if problems[fold]:
        raise ConfigError([f"{store}: {problems[fold]}"])
    return Fingerprint(
        store=store,
        fold=fold,
        image_size=size,
        pixel_mm=pixel_mm,
        num_training=len(training),
        num_validation=len(validation),
        num_test=sum(case["split"] == "test" for case in cases),
        lesion_ml=(min(volumes), median(volumes), max(volumes)),
        lesion_slices=len(areas),
        slices=slices,
        lesion_px=median(areas),
    )


def size_of(found: Fingerprint, gpus: int, cpus: int) -> Size:
    """Choose the network, the length of an epoch and a trial's share of the machine.

    Raises:
        ConfigError: No network halves slices of this size evenly.
    """
    width, depth = (64, 5) if gpus and found.image_size >= 96 else (32, 4) if gpus else (16, 3)
    while found.image_size % 2 ** (depth - 1) and depth > 2:
        depth -= 1
    if found.image_size % 2 ** (depth - 1):
        rule = f"slices of {found.image_size} pixels cannot be halved: prepare at a multiple of 8"
        raise ConfigError([f"{found.store}: {rule}"])
    # Half of an epoch's images are drawn from slices with lesion (data.foreground_fraction).
    low, high = EPOCH_IMAGES
    return Size(
        width=width,
        depth=depth,
        epoch_images=min(max(rounded(2 * found.lesion_slices), low), high),
        batches=(8, 16, 32) if gpus else (4, 8, 16),
        lr=("3e-5", "1e-3") if gpus else ("1e-4", "3e-3"),
        gpus_per_trial=1 if gpus else 0,
        cpus_per_trial=max(1, min(8, cpus // gpus)) if gpus else 1,
    )


def rounded(number: float) -> int:
    """Return a number of two digits that count."""
    return int(float(f"{number:.2g}"))


def plans(epoch_images: int) -> Iterator[Plan]:
    """Yield what could be searched, the most wanted first; shorter epochs come last."""
    images = epoch_images
    while True:
        for max_t, num_trials in LENGTHS:
            # Epochs are shortened only where the shortest trainings are too long.
            if images == epoch_images or (max_t, num_trials) == LENGTHS[-1]:
                grace = max(max_t // 9, 2)
                yield Plan(images, max_t, num_trials, grace, min(grace, 3), 1, 0.0, 0.0)
        if images == EPOCH_IMAGES[0]:
            return
        images = max(rounded(images / 2), EPOCH_IMAGES[0])


def plan_for(
    hours: float,
    size: Size,
    study_of_plan: Callable[[Plan], StudyConfig],
    costs: Mapping[str, Cost],
) -> Plan:
    """Return the most wanted plan that its hours allow; the smallest where none does.

    Args:
        hours: Wall-clock time.
        size: As chosen.
        study_of_plan: Makes a study of a plan.
        costs: Measured, by what was measured.
    """
    image_s, validation_s = costs["fixed settings"].image_s, costs["fixed settings"].validation_s
    for plan in plans(size.epoch_images):
        # A validation that takes longer than an epoch's training waits for the third.
        rare = validation_s > plan.epoch_images * image_s and plan.max_t == max(LENGTHS)[0]
        chosen = replace(plan, validate_every=3 if rare else 1)
        expected, unpruned = expected_hours(study_of_plan(chosen), costs)
        chosen = replace(chosen, hours=expected, hours_unpruned=unpruned)
        if expected <= SHARE_OF_HOURS * hours:
            break
    return chosen


def notes(found: Fingerprint, plan: Plan, hours: float) -> list[str]:
    """Return what a user should know before the study is launched."""
    lines = []
    if plan.hours > hours:
        lines.append(
            f"the smallest study takes about {plan.hours:.2g} hours, more than {hours:g}: its "
            "budget ends it before; `launch` with a larger budget.wall_hours continues it"
        )
    if found.lesion_px < SMALL_LESION_PX:
        lines.append(
            f"half of the slices' lesions have at most {found.lesion_px:.0f} pixels at "
            f"{found.image_size} x {found.image_size}: prepare with a larger --image-size"
        )
    if found.num_validation < FEW_CASES:
        lines.append(
            f"{found.num_validation} validation cases tell little apart: `segtune confirm` "
            "judges the best over the folds"
        )
    return lines


def render(
    out: Path,
    found: Fingerprint,
    size: Size,
    plan: Plan,
    budget_hours: float,
    costs: Mapping[str, Cost],
) -> str:
    """Return a study file's text; without costs, its header has no figures of them."""
    values: dict[str, Any] = asdict(found) | asdict(size) | asdict(plan)
    values |= {"store": json.dumps(found.store, ensure_ascii=False)}
    return filled_in(
        "search.workflows",
        "study.yaml.jinja",
        **values,
        file=out,
        name=json.dumps(study_name(out)),  # quoted: 0 and true are names too
        budget_hours=budget_hours,
        cost=costs.get("fixed settings"),
        startup=max(6, plan.num_trials // 4),
    )


def study_of(text: str) -> StudyConfig:
    """Return the study that a file's text is, checked as a launch checks it."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "study.yaml"
        path.write_text(text, encoding="utf-8")
        return load_study(path)
