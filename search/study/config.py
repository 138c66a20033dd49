"""StudyConfig: what one YAML in spaces/ says. Imports neither ray nor torch."""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, model_validator

from search.pruning.asha import Asha
from search.study.notify import Notify, a_section
from search.study.old_keys import in_new_keys
from search.study.semantics import Frozen
from search.study.space import Dimension
from trainer.config import TrainConfig, absolute
from trainer.configfile import (
    Section,
    build,
    did_you_mean,
    flatten,
    nest,
    quoted,
)
from trainer.model_config import PRESETS
from trainer.old_names import MOVED

METRICS: dict[str, Literal["min", "max"]] = {
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
"""What every validation reports and a study may optimise, and which way is better."""


def dotted(values: Any) -> Any:
    """Return a mapping by dotted keys; what is none comes back as it is, to be refused."""
    return flatten(values) if isinstance(values, Mapping) else values


class StudyData(Section):
    store: Annotated[str, AfterValidator(absolute)]
    """Folder that `segtune prepare` wrote."""
    fold: int = Field(default=0, ge=0, le=4)
    """Validation fold of every trial."""


def _plain_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", name):
        raise ValueError(
            f"{quoted(name)}: must be letters, digits and ._- only, beginning with the former, and "
            "at most 200"
        )
    return name


def _known_metric(metric: str) -> str:
    if metric not in METRICS:
        hint = did_you_mean(metric, METRICS)
        raise ValueError(f"{quoted(metric)}: must be one of {', '.join(METRICS)}{hint}")
    return metric


class Objective(Section):
    metric: Annotated[str, AfterValidator(_known_metric)] = "val/dice"
    """One of METRICS."""
    mode: Literal["min", "max"] = "max"
    """Which way the metric is better."""

    @model_validator(mode="after")
    def _right_way(self) -> Self:
        if self.mode != METRICS[self.metric]:
            raise ValueError(f"mode is {self.mode!r}, but {self.metric} is better the other way")
        return self


class Sampler(Section):
    type: Literal["tpe", "random", "qmc", "gp", "grid", "nsga2"] = "tpe"
    """Optuna's: tree-structured Parzen estimator, random, quasi-Monte Carlo (scrambled Sobol),
    Gaussian process, every combination once, and a genetic algorithm. gp and nsga2 learn nothing
    from trials that ASHA stops."""
    num_startup_trials: int = Field(default=10, ge=1)
    """Random trials before tpe or gp models anything."""
    population_size: int = Field(default=12, ge=2)
    """Trials of a generation of nsga2."""


def _ninth(scheduler: dict[str, Any]) -> int:
    return max(1, int(scheduler.get("max_t", 0)) // 9)


class Scheduler(Section):
    type: Literal["asha", "none"] = "asha"
    """none trains every trial to max_t and ignores the settings of the rungs."""
    max_t: int = Field(default=27, ge=0)
    """Epochs of a complete trial, and the horizon of its learning-rate schedule. 0 trains nothing:
    each trial is one validation of the weights that train.init_from names."""
    grace_period: int = Field(default_factory=_ninth, ge=1)
    """Epoch of the first rung; no trial is stopped before it. By default a ninth of max_t, since
    what a trial is worth after its first epochs says little."""
    reduction_factor: int = Field(default=3, ge=2)
    """About one trial in this many passes a rung, and rungs are this factor apart."""
    brackets: int = Field(default=1, ge=1, le=32)
    """Ladders of rungs; each begins reduction_factor later than the one before it."""
    smoothing: int = Field(default=1, ge=1)
    """Trials are ranked by the mean of this many last validations."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.type == "none":
            return self
        if self.max_t == 0:
            raise ValueError("max_t is 0, which leaves nothing to stop: it needs type none")
        if self.grace_period > self.max_t:
            raise ValueError(
                f"grace_period is {self.grace_period}, but must be at most max_t ({self.max_t})"
            )
        last = self.grace_period * self.reduction_factor ** (self.brackets - 1)
        if self.brackets > 1 and last >= self.max_t:
            raise ValueError(
                f"brackets is {self.brackets}, but the last would begin at epoch {last}, "
                f"not below max_t ({self.max_t})"
            )
        return self


class Stall(Section):
    patience: int = Field(ge=1)
    """Epochs without improvement after which a searched trial ends."""
    min_delta: float = Field(default=0.005, ge=0)
    """Smallest rise (or fall, for mode min) of the smoothed objective that is an improvement."""


class Budget(Section):
    """What a study may spend in all its launches; then its trials write checkpoints and end."""

    epochs: int | None = Field(default=None, ge=1)
    """Of all trials together, the control and the references included."""
    gpu_hours: float | None = Field(default=None, gt=0)
    """GPUs times hours of all attempts, those that failed included."""
    wall_hours: float | None = Field(default=None, gt=0)
    """Hours of the launches together."""


def _worker_a_gpu(trials: dict[str, Any]) -> int:
    return max(1, int(_number(trials.get("gpus_per_trial", 0))))


def _number(gpus: float | Literal["auto"]) -> float:
    """Return the GPUs of a trial, or for auto as many as it can come to."""
    return 1 if isinstance(gpus, str) else gpus


def _no_fewer_than_none(gpus: Any) -> Any:
    if gpus != "auto" and (isinstance(gpus, str | bool) or not isinstance(gpus, int | float)):
        raise ValueError(f"{quoted(gpus)}: must be a number, or auto")
    if gpus != "auto" and not 0 <= gpus < math.inf:
        raise ValueError(f"{gpus}: must be at least 0")
    return gpus


class Trials(Section):
    num_trials: int = Field(ge=1, le=100_000)
    """Searched trials: sampled and enqueued ones. The control and the references come on top."""
    cpus_per_trial: int = Field(default=1, ge=1)
    """Set aside for a trial; torch computes with `num_threads` of them. Two on a GPU let
    validations be scored while the next epoch trains."""
    gpus_per_trial: Annotated[float | Literal["auto"], BeforeValidator(_no_fewer_than_none)] = 0.0
    """0: trials run on the CPU, also where there are GPUs. Below 1, trials share a GPU; above 1, a
    whole number. auto is 1 where Ray has GPUs that torch can use, else 0, and stays what it is at
    the first launch."""
    workers_per_trial: int = Field(default_factory=_worker_a_gpu, ge=1)
    """Processes that share every batch of a trial, each with its part of the trial's CPUs and, of
    several GPUs, one: by default as many as GPUs, else 1."""
    hang_timeout_s: float = Field(default=600, gt=0)
    """A trial's process that gives no sign of life for so long hangs, and is replaced. Training
    gives one a second; long is only the start of a process."""

    @property
    def gpus(self) -> float:
        """GPUs of a trial; auto is resolved before a study has a trial."""
        assert not isinstance(self.gpus_per_trial, str), "auto is not resolved"
        return self.gpus_per_trial

    @model_validator(mode="after")
    def _whole_gpus(self) -> Self:
        gpus = _number(self.gpus_per_trial)
        if gpus > 1 and gpus % 1:
            raise ValueError(
                f"gpus_per_trial is {self.gpus_per_trial}, but above 1 must be a whole number"
            )
        return self

    @model_validator(mode="after")
    def _equal_workers(self) -> Self:
        workers, gpus = self.workers_per_trial, max(1, int(_number(self.gpus_per_trial)))
        if self.gpus_per_trial and workers != gpus:
            given = (
                self.gpus_per_trial if isinstance(self.gpus_per_trial, str) else f"{self.gpus:g}"
            )
            raise ValueError(
                f"workers_per_trial is {workers}, but must be {gpus} with gpus_per_trial {given}"
            )
        if self.cpus_per_trial % workers:
            raise ValueError(
                f"cpus_per_trial is {self.cpus_per_trial}, but must be a multiple of "
                f"workers_per_trial ({workers})"
            )
        return self


class Reference(Section):
    name: Annotated[str, AfterValidator(_plain_name)]
    """What it is called beside the ranking."""
    settings: Annotated[dict[str, Any], BeforeValidator(dotted)] = Field(default_factory=dict)
    """By dotted trainer path, over the fixed ones; what they leave open has TrainConfig's
    default."""


def _each_name_once(references: tuple[Reference, ...]) -> tuple[Reference, ...]:
    names = [reference.name for reference in references]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"name {twice[0]} is given twice")
    return references


class StudyConfig(Section):
    study: Annotated[str, AfterValidator(_plain_name)]
    """Name, and folder below the runs."""
    data: StudyData
    train: Annotated[dict[str, Any], BeforeValidator(dotted)] = Field(default_factory=dict)
    """Fixed settings by dotted trainer path; anything not named has TrainConfig's default."""
    space: dict[str, Dimension]
    """Searched settings by dotted trainer path."""
    objective: Objective = Objective()
    further_objectives: tuple[Objective, ...] = ()
    """Others that the sampler weighs against the first; `compare` shows the Pareto set. Pruning
    follows the first alone."""
    sampler: Sampler = Sampler()
    scheduler: Scheduler = Scheduler()
    stall: Stall | None = None
    """None lets a trial that no longer improves go on."""
    budget: Budget = Budget()
    trials: Trials
    enqueue: tuple[Annotated[dict[str, Any], BeforeValidator(dotted)], ...] = ()
    """Settings of the search to try first: the sampler fills in what they leave open."""
    references: Annotated[tuple[Reference, ...], AfterValidator(_each_name_once)] = ()
    """What the search is to be compared with, inside the space or not: trained to max_t, neither
    pruned nor shown to the sampler, and shown beside the ranking."""
    control: Annotated[dict[str, Any], BeforeValidator(dotted)] = Field(default_factory=dict)
    """The control's own settings over the fixed ones: a fair control needs its own learning rate.
    Trial 0, never pruned, model.family unet. There is none where nothing is trained (max_t 0)."""
    notify: Annotated[Notify, BeforeValidator(a_section)] = Notify()
    seed: int = Field(default=0, ge=0)
    """Of the sampler, the brackets and, unless `train` names one, of every training run."""
    _frozen: Frozen | None = PrivateAttr(default=None)

    _in_new_keys = model_validator(mode="before")(in_new_keys)

    @property
    def frozen(self) -> Frozen | None:
        """What it was begun under; None for one that is not begun."""
        return self._frozen

    def under(self, frozen: Frozen | None) -> Self:
        """Return the study as it goes on under what it froze at its birth."""
        study = self.model_copy()
        study._frozen = frozen
        return study

    def train_config(
        self,
        params: Mapping[str, Any],
        where: str | Path = "",
        *,
        epochs: int | None = None,
        seed: int | None = None,
        fold: int | None = None,
    ) -> TrainConfig:
        """Return a trial's configuration.

        Args:
            params: The trial's own settings by dotted trainer path; they win over the fixed ones.
            where: What to name in errors; the study by default.
            epochs: Of a resumed or confirming trial; scheduler.max_t by default.
            seed: Of a confirming trial.
            fold: Of a confirming trial.

        Raises:
            ConfigError: The trainer does not take these settings.
        """
        own = {
            "data.store": self.data.store,
            "data.fold": self.data.fold if fold is None else fold,
            "epochs": self.scheduler.max_t if epochs is None else epochs,
        }
        given = {"seed": self.seed, **self.train, **params, **own}
        values = {**self._frozen_beside(given), **given}
        if seed is not None:
            values["seed"] = seed
        values = nest(values)
        return build(TrainConfig, values, where or self.study)

    def _frozen_beside(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the frozen settings, without the sizes that a given preset fills in itself."""
        frozen = dict(self._frozen.settings) if self._frozen else {}
        for size in PRESETS["S"] if "model.preset" in given else ():
            frozen.pop(f"model.{size}", None)
        return frozen

    @property
    def control_params(self) -> dict[str, Any]:
        """The parameters of trial 0."""
        return {**self.control, "model.family": "unet"}

    @property
    def trains(self) -> bool:
        """Whether its trials train: with max_t 0 each is one validation of given weights."""
        return self.scheduler.max_t > 0

    @property
    def has_control(self) -> bool:
        """Whether a control is trained: not where nothing is."""
        return self.trains

    @property
    def num_protected(self) -> int:
        """How many trials come before the first searched one: the control and the references."""
        return self.has_control + len(self.references)

    def asha(self) -> Asha:
        """Return the study's ASHA before any report; without rungs for `scheduler.type: none`."""
        scheduler = self.scheduler
        prune = scheduler.type == "asha"
        return Asha(
            grace_period=scheduler.grace_period if prune else max(1, scheduler.max_t),
            max_t=scheduler.max_t,
            reduction_factor=scheduler.reduction_factor,
            brackets=scheduler.brackets if prune else 1,
            smoothing=scheduler.smoothing,
            mode=self.objective.mode,
            seed=self.seed,
            validate_every=self.train_config({}).validation.every,
        )

    def config_hash(self) -> str:
        """Return a hash of all settings, in the keys of version 0.1: it is the same since then."""
        values = self.model_dump(mode="json", exclude={"notify"})
        for reference in values.pop("references"):
            values["enqueue"].append({**reference["settings"], "protected": True})
        values["trials"]["silence_s"] = values["trials"].pop("hang_timeout_s")
        for section in (values["train"], values["control"]):
            for old, today in MOVED.items():
                if today in section:
                    section[old] = section.pop(today)
        text = json.dumps(values, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()
