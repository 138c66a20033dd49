"""What a study will cost, from a measured minute: `segtune launch SPACE --dry-run --probe`.

The measuring process is one of its own, `python -m search.workflows.preview.cost_probe`: settings
in on stdin, figures out on stdout, so that the command line needs no torch and the device is free
again afterwards. With an address it is a task of that Ray cluster, with a trial's resources; it
waits until they are free.
"""

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any

import segtune_start
from search.report.text import align, in_bytes
from search.storage.dataset_cache import open_store
from search.study.config import StudyConfig
from search.study.rungs import expected_epochs, rung_table
from trainer.config import TrainConfig
from trainer.configfile import ConfigError
from trainer.cpus import num_cpus
from trainer.gpus import look

Order = dict[str, Any]
"""`train`, the settings of what is to be measured, and `trials`, the study's section."""

TRAINING_S = 15.0
"""How long training is measured, for each configuration."""

VALIDATION_S = 10.0
"""How long a validation is measured at most, for each configuration."""

FLOAT_BYTES = 4
"""Of a number in fp32, as weights and moments are saved."""

WARM_STEPS = 3
"""Steps before the measured ones: the first ones choose kernels and fill caches."""


@dataclass(frozen=True)
class Cost:
    """What one configuration costs on one device."""

    device: str
    image_s: float
    """Seconds of training an image; 0 where nothing is trained."""
    validation_s: float
    """Seconds of one validation, scoring included."""
    slots: int
    """Trials that this machine, or the cluster, can run at once."""
    weights: int = 0
    """Numbers that the network learns."""

    def trial_s(self, config: TrainConfig, epochs: float) -> float:
        """Return the seconds of so many epochs, validations included."""
        if not config.epochs:
            return self.validation_s
        epoch_s = self.image_s * config.epoch_images + self.validation_s / config.validation.every
        return epochs * epoch_s


def probe(study: StudyConfig, address: str | None = None) -> str:
    """Measure what a study costs, and return it as text; otherwise as `measured_costs`."""
    return cost_table(study, measured_costs(study, address))


def measured_costs(study: StudyConfig, address: str | None = None) -> dict[str, Cost]:
    """Measure a study's fixed settings, and its control.

    Args:
        study: What would be searched.
        address: Of a running Ray cluster; None for this machine without Ray.

    Returns:
        By name: "fixed settings" and, if the study has one, "control".

    Raises:
        ValueError: The settings do not suit the data or the device, the cluster does not answer,
            or no node has what a trial needs.
    """
    configs = _configs(study)
    orders = [_order(study, config) for config in configs.values()]
    share = sharing(orders[0]["trials"])
    if address:
        costs = _measure_there(orders, share, address)
    else:
        costs = [_measure(order, share) for order in orders]
    return dict(zip(configs, costs, strict=True))


def _configs(study: StudyConfig) -> dict[str, TrainConfig]:
    if study.trainer:
        raise ConfigError(["--probe: measures segtune's trainer, not one of one's own"])
    configs = {"fixed settings": study.train_config({})}
    if study.has_control:
        configs["control"] = study.train_config(study.control_params)
    return configs


def _order(study: StudyConfig, config: TrainConfig) -> Order:
    return {"train": config.model_dump(mode="json"), "trials": study.trials.model_dump()}


def cost_table(study: StudyConfig, costs: Mapping[str, Cost]) -> str:
    """Return measured costs, and the hours expected from them, as text.

    Args:
        study: The study.
        costs: As `measured_costs` returns them.
    """
    configs = _configs(study)
    rows = [("measured", "an image", "a validation", "an epoch")]
    for name, measured in costs.items():
        epoch_s = measured.trial_s(configs[name], 1) if configs[name].epochs else 0.0
        row = (f"{measured.image_s:.3g} s", f"{measured.validation_s:.3g} s", f"{epoch_s:.3g} s")
        rows.append((name, *row))
    cost = costs["fixed settings"]
    hours, most = expected_hours(study, costs)
    return (
        f"probe on {cost.device}, where {cost.slots} can run at once\n{align(rows, indent=2)}\n"
        f"about {hours:.3g} hours, {most:.3g} without a scheduler, "
        "if every searched trial costs what the fixed settings do\n"
        f"about {in_bytes(disk_bytes(study, cost))} on the disk of the runs"
    )


def disk_bytes(study: StudyConfig, cost: Cost) -> int:
    """Return about what a study's weights and checkpoints take, all trials as large as this one.

    Every trial has its averaged weights; those that run, and that keep their
    checkpoints, two of these: weights, their average and AdamW's two moments each.

    Args:
        study: The study.
        cost: Of its fixed settings.
    """
    number, keep = study.trials.num_trials + study.num_protected, study.checkpoints.keep
    beside = study.num_protected + cost.slots
    most = number if keep == "all" else min(number, keep + beside)
    kept = most * 2 * 4 * FLOAT_BYTES * cost.weights
    return FLOAT_BYTES * cost.weights * number + (kept if study.trains else 0)


def expected_hours(study: StudyConfig, costs: Mapping[str, Cost]) -> tuple[float, float]:
    """Return the hours of a study, and those without a scheduler; as for `cost_table`.

    Searched trials cost what the fixed settings do.
    """
    configs = _configs(study)
    config, cost = configs["fixed settings"], costs["fixed settings"]
    max_t, num_trials = study.scheduler.max_t, study.trials.num_trials
    # An epoch of 0 is a validation, the whole of such a trial.
    searched = expected_epochs(rung_table(study)) if study.trains else float(num_trials)
    beside = len(study.trained_references) * cost.trial_s(config, max_t)
    if "control" in costs:
        beside += costs["control"].trial_s(configs["control"], max_t)
    pruned = searched * cost.trial_s(config, 1)
    unpruned = num_trials * cost.trial_s(config, max_t)
    longest = cost.trial_s(config, max_t)
    slots = min(cost.slots, study.trials.max_concurrent or cost.slots)
    hours, most = (max((s + beside) / slots, longest) / 3600 for s in (pruned, unpruned))
    return hours, most


def sharing(trials: Mapping[str, Any]) -> int:
    """Return how many trials run at once on one GPU, and so are measured at once."""
    gpus = trials["gpus_per_trial"]
    return int(1 / gpus + 1e-9) if 0 < gpus < 1 else 1


def _measure(order: Order, share: int) -> Cost:
    """Measure in processes of their own, as many as share a GPU: they take turns on it.

    Raises:
        ConfigError: The settings do not suit the data or the device.
    """
    share = min(share, max(1, num_cpus() // order["trials"]["cpus_per_trial"]))
    with ThreadPoolExecutor(share) as threads:
        return _mean([*threads.map(_measure_one, [order] * share)])


def _mean(costs: Sequence[Cost]) -> Cost:
    """Return the cost of one of several that were measured at once."""
    return replace(
        costs[0],
        image_s=fmean(cost.image_s for cost in costs),
        validation_s=fmean(cost.validation_s for cost in costs),
    )


def _measure_one(order: Order) -> Cost:
    child = subprocess.run(
        segtune_start.command("search.workflows.preview.cost_probe"),
        input=json.dumps(order),
        capture_output=True,
        text=True,
    )
    if child.returncode:
        lines = child.stderr.strip().splitlines() or ["the process ended without a word"]
        raise ConfigError([f"probe: {lines[-1]}"])
    return Cost(**json.loads(child.stdout.splitlines()[-1]))


def _measure_there(orders: Sequence[Order], share: int, address: str) -> list[Cost]:
    """Measure on a cluster, one after the other, each as often at once as trials share a GPU.

    Raises:
        ValueError: The cluster does not answer, cannot run a trial, or the measurement failed.
    """
    from search.execution.session import before_ray, ray_address

    address = ray_address(address)
    before_ray(address)
    import ray

    from search.execution.capacity import Slots
    from search.execution.session import ray_session

    trials = orders[0]["trials"]
    cpus, gpus = trials["cpus_per_trial"], trials["gpus_per_trial"]
    with ray_session(address):
        there = Slots(cpus, gpus)
        there.check()
        there.say_if_full("the probe")
        task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(_answer)
        try:
            answers = [
                _mean(ray.get([task.remote(order) for _ in range(min(share, there.count()))]))
                for order in orders
            ]
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            raise ConfigError([f"probe: {str(cause).splitlines()[-1]}"]) from error
        return [replace(cost, slots=there.count()) for cost in answers]


def _answer(order: Order) -> Cost:
    from search.execution.worker import on_its_devices

    trials = order["trials"]
    train = on_its_devices(order["train"], trials["gpus_per_trial"])
    return measure(TrainConfig.model_validate(train), trials)


def measure(config: TrainConfig, trials: Mapping[str, Any]) -> Cost:
    """Train and validate for a while in this process, of several workers one's share.

    Args:
        config: What to train.
        trials: The study's section: cpus_per_trial, gpus_per_trial, workers_per_trial.

    Raises:
        ConfigError: The settings do not suit the data or the device.
    """
    import torch

    from search.execution.hardware import cpu_model
    from trainer.data.batches import Draws, prefetch, rows_of
    from trainer.devices import limit_memory, pick_device, set_determinism
    from trainer.evaluation.validate import Validator
    from trainer.training.train_state import TrainState

    workers = trials["workers_per_trial"]
    torch.set_num_threads(config.num_threads)
    set_determinism(config)
    gpus = trials["gpus_per_trial"]
    if gpus and config.device != "cpu" and not torch.accelerator.is_available():
        raise ConfigError([f"trials.gpus_per_trial: {gpus:g}: {look().problem}"])
    device = pick_device(config)
    limit_memory(config.model_copy(update={"memory_share": min(1, gpus or 1)}), device)
    store = open_store(config.data.store)
    training, held_out = store.split(config.data.fold)
    share = {"effective": max(1, config.batch.effective // workers)}
    own = config.model_copy(update={"batch": config.batch.model_copy(update=share)})
    state = TrainState(own, store, device)
    image_s = 0.0
    if config.epochs:
        batches = prefetch(Draws(store, own, rows_of(training)).batches(0, device, 0, 1))
        for _ in range(WARM_STEPS):
            state.step(next(batches))
        before, begun = state.images, time.perf_counter()
        while time.perf_counter() < begun + TRAINING_S:
            state.step(next(batches))
        image_s = (time.perf_counter() - begun) / (state.images - before) / workers
        batches.close()
    # Cases differ in length, so that slices are what is counted.
    slices, begun = 0, time.perf_counter()
    for case in held_out:
        validator = Validator(store, [case], own, state.process, device)
        validator.validate(state.ema, 0, batch_size=state.sampling_batch, autocast=state.autocast)
        slices += case.num_slices
        if time.perf_counter() > begun + VALIDATION_S:
            break
    slice_s = (time.perf_counter() - begun) / slices / workers
    name = torch.cuda.get_device_name() if device.type == "cuda" else cpu_model() or device.type
    return Cost(
        device=name,
        image_s=image_s,
        validation_s=slice_s * sum(case.num_slices for case in held_out),
        slots=slots(trials, num_cpus(), torch.cuda.device_count()),
        weights=sum(value.numel() for value in state.ema.parameters()),
    )


def slots(trials: Mapping[str, Any], cpus: int, gpus: int) -> int:
    """Return how many trials fit on a machine at once, 1 at least."""
    fit: int = cpus // trials["cpus_per_trial"]
    if share := trials["gpus_per_trial"]:
        fit = min(fit, int(gpus // share) if share >= 1 else gpus * int(1 / share + 1e-9))
    return max(1, fit)


def main() -> None:
    """Read settings from stdin and print their cost, or an error in one line."""
    order = json.load(sys.stdin)
    try:
        cost = _answer(order)
    except ValueError as error:
        sys.exit(str(error))
    print(json.dumps(asdict(cost)))


if __name__ == "__main__":
    main()
