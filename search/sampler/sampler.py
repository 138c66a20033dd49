"""Optuna: which configuration is tried next, drawn from the seed and the ledger alone.

Whatever Optuna's samplers remember between two draws, they keep in their study: results, and notes
in its and its trials' system attributes. Both are rebuilt from the ledger, event by event, so a
study that is continued proposes what the uninterrupted one would have.
"""

import math
import random
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import (
    BaseSampler,
    BruteForceSampler,
    GPSampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
)
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import Trial, TrialState, create_trial

from search.ledger.journal import Event
from search.sampler.curve_gp import CurveGP, Curves
from search.sampler.distributions import decode, distribution, encode, suggest
from search.sampler.guidance import Guidance
from search.sampler.guided_tpe import GuidedTPE
from search.sampler.quick_tpe import Encoded, QuickTPE
from search.sampler.tried import Tried
from search.study.config import StudyConfig
from search.study.sampler_limits import COMPLETE_ONLY
from search.study.space import active, ordered

optuna.logging.set_verbosity(optuna.logging.ERROR)

UNTRAINABLE = "untrainable"
"""The constraint that a diverged, an infeasible or a refused configuration violates."""
ASKS = 8
"""Draws for one trial, each of which was tried before, until random ones follow."""
RANDOM_ASKS = 64
"""Random draws, until what is left of the space is counted."""


@dataclass
class _Running:
    """A trial that has not ended for Optuna."""

    trial: Trial
    reports: list[list[float]] = field(default_factory=list)
    """Values of all objectives, report by report."""


class Sampler:
    """Optuna's study, in memory, fed with the ledger's events one by one.

    It has the searched and the imported trials: neither the control nor another protected one.
    What it is told of a trial is what ASHA judges by, the mean of its last `smoothing` reports, so
    that a single lucky validation does not lead the search. How an end is told:

        completed, stalled    complete, with the mean at the end; a stalled trial had converged
        stopped               pruned, with its values so far (of a single objective)
        diverged, infeasible  pruned, and a violated constraint
        failed                failed, which no sampler learns from
        refused               pruned, and a violated constraint: no trial, for the trainer does not
                              take the combination

    A sampler of COMPLETE_ONLY is told of the diverged and infeasible as complete, too, with the
    worst values that any trial completed with: it would see neither them nor their constraint.

    A resumed trial's later reports are not told: they are of another length of training.

    Attributes:
        optuna_study: Optuna's study as it stands.
        drawn_in_vain: How many draws the last proposal took that came to nothing; for the
            `exhausted` event, after which a person may ask for a trial still.
    """

    def __init__(self, study: StudyConfig):
        self.study = study
        self._objectives = (study.objective, *study.further_objectives)
        self._distributions = {
            name: distribution(dimension) for name, dimension in ordered(study.space)
        }
        self._encoded = Encoded(self._distributions)
        ways = {"max": StudyDirection.MAXIMIZE, "min": StudyDirection.MINIMIZE}
        self._storage = InMemoryStorage()
        self.optuna_study = optuna.create_study(
            storage=self._storage,
            sampler=RandomSampler(),
            directions=[ways[objective.mode] for objective in self._objectives],
        )
        self._study_id = self._storage.get_study_id_from_name(self.optuna_study.study_name)
        self._begun = False
        self._imports: list[Event] = []
        self._drawn: Trial | None = None
        self._trials: dict[int, _Running] = {}
        self._tried = Tried(study.space)
        self._guidance = Guidance(study)
        self._curves = Curves(study) if study.sampler.type == "curve_gp" else None
        self.drawn_in_vain = 0
        self._entered: Mapping[str, Any] = {}
        """Parameters of the last trial."""
        self._refused = 0
        """Configurations refused since the last proposal."""
        self._complete_only = study.sampler.type in COMPLETE_ONLY
        self._worst: list[float] | None = None
        """Of each objective, among the complete trials."""
        self._untrainable: list[Trial] = []
        """To be told of once there is a worst value."""

    def _begin(self) -> None:
        """Take in the imported trials, which are final once there is another."""
        if not self._begun:
            self._begun = True
            if self.study.sampler.warm_start == "prior":
                self._guidance.begin_from(self._imports)
                self._imports = []
            for event in self._imports:
                self._import(event)
                if self._curves:
                    self._curves.observe_import(event)

    def propose(self, ordinal: int, given: Mapping[str, Any]) -> dict[str, Any] | None:
        """Draw a new trial from (study seed, ordinal) and the events so far.

        What was tried is drawn again, a bounded number of times, unless all of it is given.

        Args:
            ordinal: How many control, reference and searched trials come before it.
            given: Parameters that are not drawn; those of an enqueued trial.

        Returns:
            Its part of the `proposed` event (or of `refused`), which `observe` expects next:
            `params`; where they apply `optuna`, the notes that the sampler took; `from_prior`, true
            where they are the prior's; `drawn_before`, how many draws had been tried; and
            `same_as`, the trial with the same parameters, where they are given. None if nothing new
            is left.
        """
        self._begin()
        notes = self._storage.get_study_system_attrs(self._study_id)
        drawn_before = 0
        for ask in range(ASKS + RANDOM_ASKS):
            purpose = self._purpose("prior", ordinal, ask)
            known = self._guidance.draw(purpose, given, again=ask > 0) if ask < ASKS else None
            if known is None:
                trial, params = self._draw(self._seeded(ordinal, ask), given)
            else:
                trial, params = self._draw(RandomSampler(), known)
            if params not in self._tried or params.keys() <= given.keys():
                break
            self.optuna_study.tell(trial, state=TrialState.FAIL)  # which no sampler learns from
            drawn_before += 1
        else:
            known = None
            rest = self._tried.left(given, _seed(f"left/{self.study.seed}/{ordinal}"))
            if rest is None and not given:
                self.drawn_in_vain = drawn_before
                return None
            trial, params = self._draw(self._seeded(ordinal, 0), params if rest is None else rest)
        self._drawn = trial
        proposal = {"params": params} | self._notes_since(notes, trial)
        if known is not None and not given:
            proposal["from_prior"] = True
        if drawn_before:
            proposal["drawn_before"] = drawn_before
        if (same := self._tried.trial(params)) is not None:
            proposal["same_as"] = same
        return proposal

    def _draw(self, sampler: BaseSampler, given: Mapping[str, Any]) -> tuple[Trial, dict[str, Any]]:
        """Return a new trial of Optuna's, and its parameters."""
        self.optuna_study.sampler = sampler
        if given:
            self.optuna_study.enqueue_trial(self._encode(given))
        trial = self.optuna_study.ask()
        params: dict[str, Any] = {}
        for name, drawn in self._distributions.items():
            if name in active(self.study.space, params):
                value = suggest(trial, name, drawn)
                params[name] = decode(self.study.space[name], value)
        self.optuna_study.sampler = RandomSampler()
        return trial, params

    def _notes_since(self, before: Mapping[str, Any], trial: Trial) -> dict[str, Any]:
        """Return what a draw wrote into Optuna's trial and study."""
        trials = self._storage.get_trial_system_attrs(trial._trial_id)
        studies = self._storage.get_study_system_attrs(self._study_id)
        notes = {
            "trial": {key: value for key, value in trials.items() if key != "fixed_params"},
            "study": {key: value for key, value in studies.items() if before.get(key) != value},
        }
        notes = {where: values for where, values in notes.items() if values}
        return {"optuna": notes} if notes else {}

    def observe(self, event: Event) -> None:
        """Take in an event, of the study in progress or of one that is replayed."""
        self._guidance.observe(event)
        number = event.get("trial")
        match event["event"]:
            case "study" if not self._begun:
                self._imports.clear()  # written again, and perhaps with another space
            case "imported":
                self._imports.append(event)
            case "proposed":
                self._begin()
                if not event["protected"]:
                    self._trials[event["trial"]] = self._enter(event)
                    self._tried.add(event["params"], event["trial"])
                    self._refused = 0
            case "refused":
                self._begin()
                self._tell(self._enter(event), "infeasible")
                self._tried.add(event["params"], None)
                self._refused += 1
            case "exhausted":
                self._begin()
                if not self.drawn_in_vain:
                    tried = self._encode(self._entered)
                    self._discard(event.get("drawn_before", 0), tried)
                self.drawn_in_vain = 0
            case "reported" if number in self._trials:
                further = (event["metrics"][other.metric] for other in self._objectives[1:])
                self._report(self._trials[number], event["epoch"], [event["value"], *further])
            case "ended" if number in self._trials:
                self._tell(self._trials.pop(number), event["ending"])
        if self._curves:
            self._curves.observe(event)

    def _enter(self, event: Event) -> _Running:
        """Return a proposed trial: the one just drawn, or in a replay one made from the event."""
        self._entered = event["params"]
        trial, self._drawn = self._drawn, None
        if trial is None:
            notes = event.get("optuna", {})
            params = self._encode(event["params"])
            distributions = {name: self._distributions[name] for name in params}
            self._discard(event.get("drawn_before", 0), params)
            frozen = create_trial(
                state=TrialState.RUNNING,
                params=params,
                distributions=distributions,
                system_attrs=notes.get("trial", {}),
            )
            for key, value in notes.get("study", {}).items():
                self._storage.set_study_system_attr(self._study_id, key, value)
            number = self._storage.create_new_trial(self._study_id, frozen)
            trial = Trial(self.optuna_study, number)
        return _Running(trial)

    def _discard(self, draws: int, params: Mapping[str, Any]) -> None:
        """Take in draws that came to nothing, so that trials have their numbers again."""
        names = {name: self._distributions[name] for name in params}
        discarded = create_trial(state=TrialState.FAIL, params=dict(params), distributions=names)
        for _ in range(draws):
            self._storage.create_new_trial(self._study_id, discarded)

    def _import(self, event: Event) -> None:
        """Let an earlier study's trial pass as one of this, from its proposal to its end."""
        if self.study.sampler.type == "nsga2":  # which knows parents by their generation
            notes = {NSGAIISampler._get_generation_key(): 0}
            event = event | {"optuna": {"trial": notes}}
        running = self._enter(event)
        for epoch, *values in event["values"]:
            self._report(running, epoch, values)
        self._tell(running, event["ending"])

    def _report(self, running: _Running, epoch: int, values: list[float]) -> None:
        running.reports.append(values)
        if len(self._objectives) > 1:  # Optuna takes no reports of several
            return
        running.trial.report(self._smoothed(running)[0], epoch)

    def _tell(self, running: _Running, ending: str) -> None:
        trial, values = running.trial, self._smoothed(running)
        match ending:
            case "completed" | "stalled" if values and all(map(math.isfinite, values)):
                self._complete(trial, values)
            case "completed" | "stalled" | "stopped":
                self.optuna_study.tell(trial, state=TrialState.PRUNED)
            case "diverged" | "infeasible":
                # As failures no sampler would see them, and propose their like again and again.
                trial.set_constraint(UNTRAINABLE, 1.0)
                if self._complete_only:
                    self._untrainable.append(trial)
                    self._tell_untrainable()
                else:
                    self.optuna_study.tell(trial, state=TrialState.PRUNED)
            case "failed":
                self.optuna_study.tell(trial, state=TrialState.FAIL)

    def _complete(self, trial: Trial, values: list[float]) -> None:
        if self._complete_only:
            trial.set_constraint(UNTRAINABLE, -1.0)  # gp wants each constraint of all or of none
        self.optuna_study.tell(trial, values)
        worse = [min if objective.mode == "max" else max for objective in self._objectives]
        before = self._worst or values
        self._worst = [f(*pair) for f, *pair in zip(worse, before, values, strict=True)]
        self._tell_untrainable()

    def _tell_untrainable(self) -> None:
        if self._worst is not None:
            for trial in self._untrainable:
                self.optuna_study.tell(trial, self._worst)
            self._untrainable.clear()

    def _smoothed(self, running: _Running) -> list[float]:
        """Return each objective's mean over the last reports; of a further one, where finite."""
        recent = running.reports[-self.study.scheduler.smoothing :]
        means = []
        for index, column in enumerate(zip(*recent, strict=True)):
            values = column if index == 0 else [v for v in column if math.isfinite(v)]
            means.append(sum(values) / len(values) if values else math.nan)
        return means

    def _purpose(self, what: str, ordinal: int, ask: int) -> str:
        """Return what a draw is for, which seeds it."""
        again = f"/{self._refused}/{ask}" if self._refused or ask else ""
        return f"{what}/{self.study.seed}/{ordinal}{again}"

    def _seeded(self, ordinal: int, ask: int) -> BaseSampler:
        """Return a new sampler, so that what it draws depends on no earlier draw."""
        settings = self.study.sampler
        seed = _seed(self._purpose("propose", ordinal, ask))
        if ask >= ASKS:
            return RandomSampler(seed)
        startup = settings.num_startup_trials
        prior = self._guidance.prior
        power = self._guidance.power() if prior else 0.0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            match settings.type:
                case "tpe":
                    tpe = {"n_startup_trials": startup, "seed": seed}
                    if prior is None:
                        return QuickTPE(self._encoded, **tpe)
                    return GuidedTPE(self._encoded, self.study.space, prior, power, **tpe)
                case "curve_gp":
                    assert self._curves is not None
                    return CurveGP(
                        self._curves, self.study, self._distributions, seed, prior, power
                    )
                case "random":
                    return RandomSampler(seed)
                case "qmc":
                    return _WholeSobol(self._distributions, _seed(f"qmc/{self.study.seed}"))
                case "gp":
                    return GPSampler(
                        n_startup_trials=startup, seed=seed, warn_independent_sampling=False
                    )
                case "grid":  # Optuna's GridSampler knows no conditions
                    return BruteForceSampler(seed)
                case "nsga2":
                    return NSGAIISampler(population_size=settings.population_size, seed=seed)

    def _encode(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return parameters as Optuna has them, in the order in which they are drawn."""
        return {
            name: encode(self.study.space[name], params[name])
            for name in self._distributions
            if name in params
        }


class _WholeSobol(QMCSampler):
    """Scrambled Sobol points of the whole space, whose inactive coordinates go unused.

    Optuna's own would take the first finished trial's dimensions for the space, and so change
    the sequence with the conditions that happened to hold in it.
    """

    def __init__(self, space: Mapping[str, BaseDistribution], seed: int):
        super().__init__(scramble=True, seed=seed)
        self._space = dict(sorted(space.items()))

    def infer_relative_search_space(self, *_: Any) -> dict[str, BaseDistribution]:
        return self._space


def _seed(purpose: str) -> int:
    return random.Random(purpose).getrandbits(32)
