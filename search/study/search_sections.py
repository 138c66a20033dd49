"""Sections of a study file that say how it is searched: sampler, scheduler, stall rule, budget."""

from typing import Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from trainer.configfile import Section

LOSS = 0.01
"""Of Dice, or another objective between 0 and 1, what a choice may lose unless a study says."""


class Sampler(Section):
    type: Literal["tpe", "curve_gp", "random", "qmc", "gp", "grid", "nsga2"] = "tpe"
    """Optuna's: tree-structured Parzen estimator, random, quasi-Monte Carlo (scrambled Sobol),
    Gaussian process, every combination once, and a genetic algorithm. gp and nsga2 learn nothing
    from trials that ASHA stops. curve_gp is this project's: a Gaussian process over settings and
    epochs, which learns from every validation of the first objective."""
    num_startup_trials: int = Field(default=10, ge=1)
    """Random trials before tpe, gp or curve_gp models anything."""
    population_size: int = Field(default=12, ge=2)
    """Trials of a generation of nsga2."""
    warm_start: Literal["trials", "prior"] = "trials"
    """What `launch --warm-start` takes from earlier studies: all trials, as if they were this
    study's, or the best of each, as a prior where the space states none: for
    earlier studies of other data or shorter trainings, whose figures do not compare."""

    @model_serializer(mode="wrap")
    def _without_what_is_not_there(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Dump a sampler as versions did that knew of no other warm start."""
        values: dict[str, Any] = dump(self)
        if self.warm_start == "trials":
            values.pop("warm_start", None)
        return values


def _ninth(scheduler: dict[str, Any]) -> int:
    return max(1, int(scheduler.get("max_t", 0)) // 9)


class Scheduler(Section):
    type: Literal["asha", "none"] = "asha"
    """asha stops at a rung whoever is not among the best so far. none trains every trial to max_t
    and ignores the settings of the rungs."""
    max_t: int = Field(default=27, ge=0)
    """Epochs of a complete trial, and the horizon of its learning-rate schedule. 0 trains nothing:
    each trial is one validation of the weights that train.init_from names."""
    grace_period: int = Field(default_factory=_ninth, ge=1)
    """Epoch of the first rung; no trial is stopped before it. By default a ninth of
    max_t, since what a trial is worth after its first epochs says little."""
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


class Confirm(Section):
    """Tells the best apart when all of the search's trials have ended: see docs/judging.md."""

    budget_share: float = Field(gt=0, lt=1)
    """Of the GPU-hours that the search's trials took, or without GPUs of their CPU-hours: so much
    more may be spent, in all launches, on other noise of validations and on trainings with other
    seeds on other folds."""
    loss: float | None = Field(default=None, gt=0)
    """What the best may have less of the objective than another without being a wrong choice: it
    ends as soon as no interval of the best minus another reaches so far down. By default 0.01,
    where the objective is a score between 0 and 1; where it is not, it has to be said."""
    top: int = Field(default=3, ge=2)
    """Best trials that are told apart."""
    seeds: int = Field(default=4, ge=3)
    """At most so many other seeds, a fold each: best a multiple of four, since all four other folds
    are trained on before it looks."""

    @property
    def tolerated(self) -> float:
        """The loss, as given or by default."""
        return LOSS if self.loss is None else self.loss


class Budget(Section):
    """What a study may spend in all its launches; then its trials write checkpoints and end."""

    epochs: int | None = Field(default=None, ge=1)
    """Of all trials together, the control and the references included."""
    gpu_hours: float | None = Field(default=None, gt=0)
    """GPUs times hours of all attempts, those that failed included."""
    wall_hours: float | None = Field(default=None, gt=0)
    """Hours of the launches together."""
