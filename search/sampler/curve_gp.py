"""The sampler curve_gp: what a model of learning curves expects most of.

It learns from every report, also of trials that were stopped.
"""

from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from search.ledger.journal import Event
from search.sampler.distributions import encode
from search.sampler.prior import Prior
from search.study.config import StudyConfig
from search.surrogate.curves import CurveModel


class Curves:
    """A study's model, fed with the ledger's events.

    Attributes:
        model: The model.
        trials: How many it was told of.
    """

    def __init__(self, study: StudyConfig):
        self.model = CurveModel(
            study.space,
            mode=study.objective.mode,
            max_t=study.scheduler.max_t,
        )
        self.trials = 0
        self._searched: set[int] = set()

    def observe(self, event: Event) -> None:
        """Take in an event; those of protected trials say nothing."""
        match event["event"]:
            case "proposed" if not event["protected"]:
                self._enter(event["trial"], event["params"])
                self._searched.add(event["trial"])
            case "refused":
                self.model.ended(self._enter_nameless(event["params"]), "infeasible")
            case "reported" if event["trial"] in self._searched:
                self.model.report(event["trial"], event["epoch"], event["value"])
            case "ended" if event["trial"] in self._searched:
                self.model.ended(event["trial"], event["ending"])

    def observe_import(self, event: Event) -> None:
        """Take in an earlier study's trial, from its proposal to its end."""
        trial = self._enter_nameless(event["params"])
        for epoch, value, *_ in event["values"]:
            self.model.report(trial, epoch, value)
        self.model.ended(trial, event["ending"])

    def _enter(self, trial: int, params: Mapping[str, Any]) -> None:
        self.trials += 1
        self.model.observe(trial, params)

    def _enter_nameless(self, params: Mapping[str, Any]) -> int:
        """Enter what is no trial of the study under a number that none has."""
        number = -1 - self.trials
        self._enter(number, params)
        return number


class CurveGP(BaseSampler):
    """Optuna's face of the model: one draw of all dimensions, random while it knows too little.

    Args:
        curves: The study's.
        study: Its settings.
        distributions: Of its space.
        seed: Of the draw.
        prior: What is known of the space before, None for nothing.
        power: To which its density counts, beside the expected improvement (pi-BO, Hvarfner et al.
            2022, arXiv 2204.11051, equation 6, with a power that falls with the trials).
    """

    def __init__(
        self,
        curves: Curves,
        study: StudyConfig,
        distributions: Mapping[str, BaseDistribution],
        seed: int,
        prior: Prior | None = None,
        power: float = 0.0,
    ):
        self._prior, self._power = prior, power
        self._curves, self._study, self._seed = curves, study, seed
        self._distributions = dict(distributions)
        self._random = RandomSampler(seed)

    def infer_relative_search_space(self, *_: Any) -> dict[str, BaseDistribution]:
        """Return all dimensions."""
        return self._distributions

    def sample_relative(self, *_: Any) -> dict[str, Any]:
        """Return the values that the model proposes, as Optuna has them."""
        if self._curves.trials < self._study.sampler.num_startup_trials:
            return {}
        weigh = self._weight if self._prior else None
        params = self._curves.model.propose(self._seed, weigh=weigh) or {}
        return {name: encode(self._study.space[name], value) for name, value in params.items()}

    def _weight(self, params: Mapping[str, Any]) -> float:
        assert self._prior is not None
        return self._power * self._prior.log_density(params)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Return a random value, of what the model does not propose."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)
