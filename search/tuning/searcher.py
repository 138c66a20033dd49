"""Ray Tune's Searcher: which trial a carrier is given, and everything that it must know of it.

A Ray trial is only a carrier of one of the study's trials. When it dies, the same study trial is
given to a new carrier, with the epoch after which its validations are still wanted.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from ray.tune.search import Searcher

from search.ledger.journal import Event
from search.ledger.session import LiveStudy
from search.sampler.sampler import Sampler
from search.storage.dataset_cache import seen_from_all
from search.storage.studies import shared_place
from trainer.configfile import ConfigError


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
    """Last epoch that the ledger has, -1 for none."""
    fit: str
    """`module:function` with the contract of `trainer.loop.fit`."""
    cpus: float
    gpus: float
    workers: int = 1
    """Processes that share the CPUs and GPUs equally."""
    storage: str = ""
    """Where nodes share no path: the study's address, where run folders are fetched and sent."""
    fence: int = 0
    """Number of the driver's lease: with the attempt, it tells a carrier from all others."""


def cargo_of(live: LiveStudy, number: int, fit: str) -> Cargo:
    """Return what the next carrier of a trial is told."""
    study, trial = live.study, live.state.trials[number]
    train = trial.config(study).model_dump(mode="json")
    train["data"]["store"] = seen_from_all(train["data"]["store"])
    return Cargo(
        trial=number,
        attempt=trial.attempts + 1,
        train=train,
        run_dir=str(live.trial_dir(number)),
        received=trial.received,
        fit=fit,
        cpus=study.trials.cpus_per_trial,
        gpus=study.trials.gpus_per_trial,
        workers=study.trials.workers_per_trial,
        storage=shared_place(live.folder),
        fence=live.ledger.fence,
    )


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
        for trial in self._live.live():
            if trial.number not in carried:
                return trial.number
        return self._propose() if self._live.only is None else None

    def _propose(self) -> int | None:
        """Record and return a new trial: control, references, enqueued, then sampled; or None.

        What comes next goes by what there is, not by numbers: confirming trials take some too.
        """
        study, state = self._live.study, self._live.state
        references, searched = len(state.references()), len(state.searched())
        number = state.next_number
        event: Event = {"event": "proposed", "trial": number, "protected": True}
        if study.has_control and state.control() is None:
            event |= {"kind": "control", "params": study.control_params}
        elif references < len(study.references):
            event |= {"kind": "enqueued", "params": study.references[references]}
        elif searched < study.trials.num_trials:
            rest = study.enqueued[searched:]
            event |= {"kind": "enqueued" if rest else "sampled", "protected": False}
            given = rest[0] if rest else {}
            event |= self._sampler.propose(study.num_protected + searched, given)
        else:
            return None
        try:
            study.train_config(event["params"])
        except ConfigError as error:  # each setting is possible, but not all of them together
            ended = {"event": "ended", "trial": number, "epoch": 0, "ending": "infeasible"}
            self._live.record(event, ended | {"reason": error.lines[0]})
            return self._propose()
        self._live.record(event)
        return number

    def _cargo(self, number: int) -> Cargo:
        (self._live.trial_dir(number) / "stop").unlink(missing_ok=True)
        return cargo_of(self._live, number, self._fit)

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
