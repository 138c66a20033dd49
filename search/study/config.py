"""StudyConfig: what one YAML in spaces/ says. Imports neither ray nor torch."""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from search.pruning.asha import Asha
from search.study.checkpoints import Checkpoints
from search.study.notify.section import Notify, a_section
from search.study.old_keys import in_new_keys
from search.study.own_settings import OwnSettings
from search.study.own_trainer import OwnTrainer
from search.study.reference import Reference, dotted, each_name_once, plain_name
from search.study.search_sections import Budget, Confirm, Sampler, Scheduler, Stall
from search.study.semantics import Frozen
from search.study.space import Dimension
from trainer.config import TrainConfig, absolute
from trainer.configfile import (
    ConfigError,
    Section,
    build,
    nest,
    quoted,
)
from trainer.model_config import PRESETS
from trainer.old_names import MOVED


def _absolute_if_any(path: str) -> str:
    return path and absolute(path)


class StudyData(Section):
    store: Annotated[str, AfterValidator(_absolute_if_any)] = ""
    """Folder that `segtune prepare` wrote. Required, unless a trainer of one's own has others."""
    fold: int = Field(default=0, ge=0, le=4)
    """Validation fold of every trial."""


def _one_word(metric: str) -> str:
    if not re.fullmatch(r"[\w./ -]{1,200}", metric) or metric in ("epoch", "cases"):
        raise ValueError(f"{quoted(metric)}: must be a metric's name: letters, digits and ._-/")
    return metric


class Objective(Section):
    metric: Annotated[str, AfterValidator(_one_word)] = "val/dice"
    """One of METRICS, or with a trainer of one's own whatever it reports."""
    mode: Literal["min", "max"] = "max"
    """Which way the metric is better."""


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
    max_concurrent: int | None = Field(default=None, ge=1)
    """At most so many trials run at once; None for as many as there is room for."""
    share: float = Field(default=1.0, gt=0)
    """Weight among the studies on one Ray cluster: where they want more than it has, a study with 2
    may run twice as much as one with 1."""
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


class StudyConfig(Section):
    study: Annotated[str, AfterValidator(plain_name)]
    """Name, and folder below the runs."""
    data: StudyData = StudyData()
    """Required, unless a trainer of one's own has others."""
    trainer: OwnTrainer | None = None
    """A trainer of one's own instead of segtune's (docs/own_trainer.md): Python or any program.
    `train` and `space` then have its settings."""
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
    checkpoints: Checkpoints = Checkpoints()
    confirm: Confirm | None = None
    """None spends nothing at the end: `segtune confirm` judges the best."""
    trials: Trials
    enqueue: tuple[Annotated[dict[str, Any], BeforeValidator(dotted)], ...] = ()
    """Settings of the search to try first: the sampler fills in what they leave open."""
    references: Annotated[tuple[Reference, ...], AfterValidator(each_name_once)] = ()
    """What the search is to be compared with, inside the space or not: trained to max_t, neither
    pruned nor shown to the sampler, and shown beside the ranking."""
    control: Annotated[dict[str, Any], BeforeValidator(dotted)] = Field(default_factory=dict)
    """The control's own settings over the fixed ones: a fair control needs its own learning rate.
    Trial 0, never pruned, model.family unet. There is none where nothing is trained (max_t 0)."""
    notify: Annotated[Notify, BeforeValidator(a_section)] = Notify()
    seed: int = Field(default=0, ge=0)
    """Of the sampler, the brackets and, unless `train` names one, of every training run."""
    _frozen: Frozen | None = PrivateAttr(default=None)
    _schema: OwnSettings | None = PrivateAttr(default=None)

    _in_new_keys = model_validator(mode="before")(in_new_keys)

    @model_serializer(mode="wrap")
    def _without_what_is_not_there(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Dump a study without what earlier versions did not know, and it does not use."""
        values: dict[str, Any] = dump(self)
        if self.checkpoints == Checkpoints():
            values.pop("checkpoints", None)
        for name in ("trainer", "confirm"):
            if getattr(self, name) is None:
                values.pop(name, None)
        return values

    @property
    def frozen(self) -> Frozen | None:
        """What it was begun under; None for one that is not begun."""
        return self._frozen

    def under(self, frozen: Frozen | None) -> Self:
        """Return the study as it goes on under what it froze at its birth."""
        study = self.model_copy()
        study._frozen = frozen
        return study

    @property
    def own_schema(self) -> OwnSettings | None:
        """What its own trainer may be set to; None where that is not imported, or segtune's."""
        return self._schema

    def checked_by(self, schema: OwnSettings) -> Self:
        """Return the study as one whose settings a trainer of its own checks."""
        study = self.model_copy()
        study._schema = schema
        return study

    def settings(
        self,
        params: Mapping[str, Any],
        where: str | Path = "",
        *,
        epochs: int | None = None,
        seed: int | None = None,
        fold: int | None = None,
    ) -> dict[str, Any]:
        """Return a trial's resolved settings, nested, as JSON values, whoever trains it.

        Arguments are those of `train_config`.

        Raises:
            ConfigError: segtune's trainer does not take these settings; another is not asked.
        """
        if self.trainer is None:
            config = self.train_config(params, where, epochs=epochs, seed=seed, fold=fold)
            return config.model_dump(mode="json")
        given = {"seed": self.seed, **self.train, **params}
        given |= self._of_the_file(epochs, fold) | ({} if seed is None else {"seed": seed})
        return nest({**(self._frozen.settings if self._frozen else self.defaults), **given})

    def check_settings(
        self, params: Mapping[str, Any], where: str | Path = "", *, epochs: int | None = None
    ) -> None:
        """Ask the trainer whether it takes a trial's settings, as far as it is imported here.

        Raises:
            ConfigError: It does not.
        """
        settings = self.settings(params, where, epochs=epochs)
        if self._schema:
            self._schema.check(settings, where or self.study)

    @property
    def defaults(self) -> Mapping[str, Any]:
        """By dotted path, of a trainer of one's own that is imported here; else none."""
        return self._schema.defaults if self._schema else {}

    def _of_the_file(self, epochs: int | None, fold: int | None) -> dict[str, Any]:
        """Return the settings that the study file has elsewhere, by dotted path."""
        data = {
            "data.store": self.data.store,
            "data.fold": self.data.fold if fold is None else fold,
        }
        own = {"epochs": self.scheduler.max_t if epochs is None else epochs}
        return (data if self.has_data or self.trainer is None else {}) | own

    @property
    def hears_of_seeds(self) -> bool:
        """Whether another seed is another training: a trainer of one's own may not be told it."""
        told = self.trainer is None or self.trainer.told("seed")
        return told and (self.own_schema is None or self.own_schema.takes("seed"))

    @property
    def settings_elsewhere(self) -> dict[str, str]:
        """Settings that the study file has elsewhere, and where."""
        elsewhere = {"epochs": "scheduler.max_t"}
        if self.has_data or self.trainer is None:
            elsewhere |= {f"data.{name}": f"data.{name} of the study" for name in ("store", "fold")}
        return elsewhere

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
            ConfigError: segtune's trainer does not take these settings, or is not the study's.
        """
        if self.trainer:
            name = self.trainer.name
            raise ConfigError([f"{where or self.study}: trained by {name}, not segtune's trainer"])
        own = self._of_the_file(epochs, fold)
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
    def has_data(self) -> bool:
        """Whether it has a store, which only a trainer of one's own can do without."""
        return bool(self.data.store)

    @property
    def has_control(self) -> bool:
        """Whether a control is trained: not where nothing is, or another trainer does it."""
        return self.trains and self.trainer is None

    @property
    def training_seed(self) -> int:
        """Of every training, unless it is searched or a confirming one has its own."""
        seed: int = self.train.get("seed", self.seed)
        return seed

    @property
    def validate_every(self) -> int:
        """Epochs between two validations; another trainer may report any epoch."""
        return 1 if self.trainer else self.train_config({}).validation.every

    @property
    def epoch_images(self) -> int | None:
        """Training images an epoch; None where another trainer knows."""
        return None if self.trainer else self.train_config({}).epoch_images

    @property
    def num_protected(self) -> int:
        """How many trials come before the first searched one: the control and the references."""
        return self.has_control + len(self.trained_references)

    @property
    def trained_references(self) -> tuple[Reference, ...]:
        """The references that are trained: those with settings."""
        return tuple(each for each in self.references if each.masks is None)

    @property
    def mask_references(self) -> tuple[Reference, ...]:
        """The references that are masks of another program."""
        return tuple(each for each in self.references if each.masks is not None)

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
            validate_every=self.validate_every,
        )

    def config_hash(self) -> str:
        """Return a hash of all settings, in the keys of version 0.1: it is the same since then."""
        values = self.model_dump(mode="json", exclude={"notify", "checkpoints", "confirm"})
        for reference in values.pop("references"):
            if "masks" in reference:  # which say nothing about the trials
                continue
            values["enqueue"].append({**reference["settings"], "protected": True})
        values["trials"]["silence_s"] = values["trials"].pop("hang_timeout_s")
        if values["trials"]["max_concurrent"] is None:
            del values["trials"]["max_concurrent"]
        if values["trials"]["share"] == 1:
            del values["trials"]["share"]
        for section in (values["train"], values["control"]):
            for old, today in MOVED.items():
                if today in section:
                    section[old] = section.pop(today)
        text = json.dumps(values, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()
