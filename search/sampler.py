"""Optuna behind Ray Tune's Searcher: which configuration is trained next, and by which carrier.

A Ray trial is only a carrier of one of the study's trials. When it dies, the same study trial is
given to a new carrier, with the epoch after which its validations are still wanted.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import Trial, TrialState
from ray.tune.search import Searcher

from search.ledger import Event
from search.live import LiveStudy
from search.space import Dimension, active, ordered
from search.study import StudyConfig
from trainer.configfile import ConfigError

optuna.logging.set_verbosity(optuna.logging.ERROR)


class Sampler:
    """Optuna's study, in memory, fed with the ledger's events one by one.

    It has the searched trials only: neither the control nor another protected one. What it is told
    of a trial is what ASHA judges by, the mean of its last `smoothing` reports, so that a single
    lucky validation does not lead the search.

    Attributes:
        optuna_study: Optuna's study as it stands.
    """

    def __init__(self, study: StudyConfig):
        self.study = study
        direction = "maximize" if study.objective.mode == "max" else "minimize"
        self.optuna_study = optuna.create_study(direction=direction)
        self._trials: dict[int, Trial] = {}
        self._values: dict[int, list[float]] = {}

    def propose(self, number: int, given: Mapping[str, Any]) -> dict[str, Any]:
        """Draw the parameters of a new trial from (study seed, number) and the results so far.

        Args:
            number: The study's trial.
            given: Parameters that are not drawn; those of an enqueued trial.
        """
        seed = random.Random(f"propose/{self.study.seed}/{number}").getrandbits(32)
        self._trials[number] = trial = self._ask(self._seeded(seed), given)
        return dict(trial.params)

    def hear(self, event: Event) -> None:
        """Take in an event, of the study in progress or of one that is replayed."""
        number = event.get("trial")
        match event["event"]:
            case "proposed" if number not in self._trials and not event["protected"]:
                # Of a replay. All is given, so that the cheap sampler draws nothing.
                self._trials[event["trial"]] = self._ask(RandomSampler(), event["params"])
            case "reported" if number in self._trials:
                values = self._values.setdefault(number, [])
                values.append(event["value"])
                self._trials[number].report(self._smoothed(values), event["epoch"])
            case "ended" if number in self._trials:
                self._tell(self._trials.pop(number), event["ending"], self._values.pop(number, []))

    def _tell(self, trial: Trial, ending: str, values: list[float]) -> None:
        match ending:
            case "completed":
                self.optuna_study.tell(trial, self._smoothed(values))
            case "stopped":
                self.optuna_study.tell(trial, state=TrialState.PRUNED)
            case "diverged" | "infeasible":
                # As failures TPE would not see them, and propose their like again and again.
                trial.set_constraint(ending, 1.0)
                self.optuna_study.tell(trial, state=TrialState.PRUNED)
            case "failed":
                self.optuna_study.tell(trial, state=TrialState.FAIL)

    def _smoothed(self, values: list[float]) -> float:
        recent = values[-self.study.scheduler.smoothing :]
        return sum(recent) / len(recent)

    def _seeded(self, seed: int) -> BaseSampler:
        """Return a new sampler, so that what it draws depends on no earlier draw."""
        if self.study.sampler.type == "random":
            return RandomSampler(seed)
        return TPESampler(n_startup_trials=self.study.sampler.num_startup_trials, seed=seed)

    def _ask(self, sampler: BaseSampler, given: Mapping[str, Any]) -> Trial:
        self.optuna_study.sampler = sampler
        if given:
            self.optuna_study.enqueue_trial(dict(given))
        trial = self.optuna_study.ask()
        for name, dimension in ordered(self.study.space):
            if name in active(self.study.space, trial.params):
                _suggest(trial, name, dimension)
        return trial


def _suggest(trial: Trial, name: str, dimension: Dimension) -> None:
    low, high, step, log = dimension.low, dimension.high, dimension.step, dimension.log
    match dimension.type:
        case "categorical":
            trial.suggest_categorical(name, dimension.choices)
        case "int":
            trial.suggest_int(name, low, high, step=step or 1, log=log)
        case "float":
            trial.suggest_float(name, low, high, step=step, log=log)


@dataclass(frozen=True)
class Cargo:
    """What a carrier is told: everything that a worker needs to train one trial."""

    trial: int
    attempt: int
    """1 for the first carrier of this trial."""
    train: dict[str, Any]
    """The resolved TrainConfig."""
    run_dir: str
    """Absolute."""
    received: int
    """Last epoch that the ledger has."""
    fit: str
    """`module:function` with the contract of `trainer.loop.fit`."""
    cpus: float
    gpus: float
    workers: int = 1
    """Processes that share the CPUs and GPUs equally."""


class Proposer(Searcher):
    """Ray Tune's Searcher: interrupted trials first, then the control, enqueued, and sampled ones.

    Args:
        live: The study.
        sampler: Draws what is not enqueued.
        slots: How many trials the cluster can run at once, at this moment.
        fit: `module:function` that trains.
    """

    def __init__(self, live: LiveStudy, sampler: Sampler, slots: Callable[[], int], fit: str):
        super().__init__(metric=None, mode=None)
        self._live = live
        self._sampler = sampler
        self._slots = slots
        self._fit = fit
        self._carried: dict[str, int] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next carrier's cargo, None while the cluster is full, FINISHED at the end.

        Tune asks several times a second. None is allowed only while a carrier lives: otherwise
        Tune's loop would block. FINISHED is final, so not while a living carrier may still die.
        """
        if self._live.stopping or self._live.broken:
            return Searcher.FINISHED
        if self._carried and len(self._carried) >= self._slots():
            return None
        number = self._next()
        if number is None:
            return None if self._carried else Searcher.FINISHED
        self._carried[trial_id] = number
        return asdict(self._cargo(number))

    def _next(self) -> int | None:
        """Return the oldest trial without a carrier, proposing a new one if there is none."""
        carried = set(self._carried.values())
        for trial in self._live.state.live():
            if trial.number not in carried:
                return trial.number
        return self._propose()

    def _propose(self) -> int | None:
        """Record and return a new trial: control, references, enqueued, then sampled; or None."""
        study, state = self._live.study, self._live.state
        number = state.next_number
        first_searched = study.num_protected
        if number < first_searched:
            kind = "control" if number == 0 else "enqueued"
            params = study.control_params if number == 0 else study.references[number - 1]
        elif len(state.searched()) < study.trials.num_trials:
            rest = study.enqueued[number - first_searched :]
            kind = "enqueued" if rest else "sampled"
            params = self._sampler.propose(number, given=rest[0] if rest else {})
        else:
            return None
        event = {"event": "proposed", "trial": number, "params": params, "kind": kind}
        events: list[Event] = [event | {"protected": number < first_searched}]
        try:
            study.train_config(params)
        except ConfigError as error:  # each setting is possible, but not all of them together
            ended = {"event": "ended", "trial": number, "epoch": 0, "ending": "infeasible"}
            self._live.record(*events, ended | {"reason": error.lines[0]})
            return self._propose()
        self._live.record(*events)
        return number

    def _cargo(self, number: int) -> Cargo:
        study, trial = self._live.study, self._live.state.trials[number]
        run_dir = self._live.trial_dir(number)
        (run_dir / "stop").unlink(missing_ok=True)
        return Cargo(
            trial=number,
            attempt=trial.attempts + 1,
            train=study.train_config(trial.params).model_dump(mode="json"),
            run_dir=str(run_dir),
            received=trial.epoch,
            fit=self._fit,
            cpus=study.trials.cpus_per_trial,
            gpus=study.trials.gpus_per_trial,
            workers=study.trials.workers_per_trial,
        )

    def carried(self) -> set[int]:
        """Return the trials that have a living or waiting carrier."""
        return set(self._carried.values())

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Do nothing: the scheduler records reports."""

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Forget a carrier; its trial, unless it ended, gets a new one."""
        self._carried.pop(trial_id, None)

    def set_search_properties(self, *_: Any, **__: Any) -> bool:
        """Accept Tune's empty search space: ours is in the study."""
        return True

    # Tune pickles searchers. This one needs no copy: all that it knows is in the ledger.
    def __getstate__(self) -> dict[str, Any]:
        return {}

    def get_state(self) -> dict[str, Any]:
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        pass

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        pass
