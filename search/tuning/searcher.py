"""Ray Tune's Searcher: of which trial the next attempt is, and all that it must know.

A Ray trial is only an attempt at one of the study's trials. When it dies, a new attempt continues
the same trial and is told the epoch after which validations are still wanted.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from ray.tune.search import Searcher

from search.execution.faults.recovery import Recovery
from search.ledger.hand import what_of
from search.ledger.journal import Event
from search.ledger.session import StudySession
from search.sampler.sampler import Sampler
from search.storage.dataset_cache import address_for_all_nodes
from search.storage.studies import shared_place
from trainer.configfile import ConfigError
from trainer.files.damaged import clear

REFUSALS = 100
"""Proposals in a row that the trainer refuses, after which no other is asked for."""


@dataclass(frozen=True)
class TrialSpec:
    """What an attempt is told: everything that a worker needs to train one trial."""

    trial: int
    attempt: int
    """1 for the first attempt of this trial."""
    train: dict[str, Any]
    """The resolved settings: a TrainConfig's, or another trainer's."""
    run_dir: str
    """Absolute."""
    received: int
    """Last epoch that the ledger has, -1 for none."""
    fit: str
    """`module:function` with the contract of `trainer.loop.fit`."""
    cpus: float
    gpus: float
    threads: int = 1
    """Of torch."""
    objective: str = ""
    """The metric that a validation must have."""
    trainer: dict[str, Any] | None = None
    """The OwnTrainer that trains instead of `fit`."""
    has_data: bool = True
    """Whether there is a store in `train`."""
    workers: int = 1
    """Processes that share the CPUs and GPUs equally."""
    storage: str = ""
    """Where nodes share no path: the study's address, where run folders are fetched and sent."""
    store_hash: str = ""
    """Of the data that the study was begun with; empty for whatever the store holds."""
    fence: int = 0
    """Number of the driver's lease: with `attempt`, it tells this attempt from all others."""
    avoid: tuple[str, ...] = ()
    """Ray's ids of the nodes on which it is not to start."""


def trial_spec(session: StudySession, number: int, fit: str) -> TrialSpec:
    """Return what the next attempt of a trial is told."""
    study, trial = session.study, session.state.trials[number]
    train, trials, own = trial.settings(study), study.trials, study.trainer
    if study.has_data:
        train["data"]["store"] = address_for_all_nodes(train["data"]["store"])
    return TrialSpec(
        trial=number,
        attempt=len(trial.attempts) + 1,
        train=train,
        run_dir=str(session.trial_dir(number)),
        received=trial.received,
        fit=fit,
        cpus=trials.cpus_per_trial,
        gpus=trials.gpus,
        threads=trials.cpus_per_trial if own else train["num_threads"],
        objective=study.objective.metric,
        trainer=own.model_dump(mode="json") if own else None,
        has_data=study.has_data,
        workers=1 if own else trials.workers_per_trial,
        storage=shared_place(session.folder),
        store_hash=(session.state.study or {}).get("store_hash", ""),
        fence=session.ledger.fence,
    )


class StudySearcher(Searcher):
    """Ray Tune's Searcher: interrupted trials first, then the control, enqueued, and sampled ones.

    Those that people ask for while the study runs come before what its file enqueues.

    Args:
        session: The study.
        sampler: Draws what is not enqueued.
        slots: How many trials the cluster can run at once, at this moment, without some nodes.
        recovery: Knows when and where a trial may start again whose attempt died.
        fit: `module:function` that trains.

    Attributes:
        meanwhile: Called while no attempt lives and all trials rest, once a second.
        most: Returns how many trials may run where the cluster has so many places.
    """

    def __init__(
        self,
        session: StudySession,
        sampler: Sampler,
        slots: Callable[[set[str]], int],
        recovery: Recovery,
        fit: str,
    ):
        super().__init__(metric=None, mode=None)
        self._session = session
        self._sampler = sampler
        self._slots = slots
        self._recovery = recovery
        self._fit = fit
        self.meanwhile: Callable[[], None] = lambda: None
        self.most: Callable[[int], int] = lambda places: places
        self._attempts: dict[str, int] = {}

    # Tune's annotation leaves out its own FINISHED, a str.
    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        """Return the next attempt's spec, None while the cluster is full, FINISHED at the end.

        Tune asks several times a second. Where no attempt lives, None lets it ask once a second and
        do nothing else, which is right while all trials rest. FINISHED is final, so not while a
        trial may still need an attempt.
        """
        if not self._attempts:
            self.meanwhile()
        if self._session.stopping or self._session.broken:
            return Searcher.FINISHED
        places = max(1, self._slots(self._recovery.left_alone()))
        places = min(places, self._session.study.trials.max_concurrent or places)
        places = self.most(places)
        if len(self._attempts) >= places:
            return None
        taken = set(self._attempts.values())
        waiting = [t.number for t in self._session.live() if t.number not in taken]
        number = next((n for n in waiting if not self._recovery.pause_s(n)), None)
        # Whoever rests keeps its place: else proposals would run ahead of what is learnt.
        if number is None and len(self._attempts) + len(waiting) < places:
            number = self._propose() if self._session.only is None else None
        if number is None:
            return None if self._attempts or waiting else Searcher.FINISHED
        spec = self._spec(number)
        if not self._recovery.can_start(spec.avoid):  # the nodes that are there are leaving
            return None
        self._attempts[trial_id] = number
        return asdict(spec)

    def _propose(self) -> int | None:
        """Record and return a new trial: control, references, enqueued, then sampled; or None.

        What comes next goes by what there is, not by numbers: confirming trials take some too.
        """
        study, state = self._session.study, self._session.state
        references = sum(not trial.request for trial in state.references())
        searched = state.num_searched - state.num_searched_by_hand
        number = state.next_number
        event: Event = {"event": "proposed", "trial": number, "protected": True}
        if study.has_control and state.control() is None:
            event |= {"kind": "control", "params": study.control_params}
        elif references < len(study.trained_references):
            settings = study.trained_references[references].settings
            event |= {"kind": "enqueued", "params": settings}
        elif state.enqueued:
            asked = state.enqueued[0]
            event |= {"kind": "enqueued", "request": asked["request"]}
            if name := asked.get("reference"):
                event |= {"params": asked["params"], "reference": name}
            elif drawn := self._draw(asked["params"]):
                event |= {"protected": False} | drawn
            else:
                about = {"request": asked["request"], "what": what_of({"kind": "enqueue"} | asked)}
                self._session.record({"event": "declined", **about, "reason": self._why_refused()})
                return self._propose()
        elif searched < study.trials.num_trials and not state.exhausted:
            rest = study.enqueue[searched:]
            drawn = self._draw(rest[0] if rest else {})
            if drawn is None:
                vain = {"drawn_before": n} if (n := self._sampler.drawn_in_vain) else {}
                why = self._why_exhausted()
                self._session.record({"event": "exhausted", "reason": why} | vain)
                return None
            event |= {"kind": "enqueued" if rest else "sampled", "protected": False} | drawn
        else:
            return None
        self._session.record(event)
        return number

    def _draw(self, given: Mapping[str, Any]) -> Event | None:
        """Return the sampler's part of a proposal, None if nothing comes that can be trained.

        What the trainer refuses, each setting possible but not all of them together, is recorded,
        so that the sampler learns of it, and is no trial.
        """
        study, state = self._session.study, self._session.state
        ordinal = study.num_protected + state.num_searched
        while state.refused_in_a_row < REFUSALS:
            drawn = self._sampler.propose(ordinal, given)
            if drawn is None:
                break
            try:
                study.check_settings(drawn["params"])
            except ConfigError as error:
                reason = error.lines[0].removeprefix(f"{study.study}: ")
                self._session.record({"event": "refused", **drawn, "reason": reason})
            else:
                return drawn
        return None

    def _why_refused(self) -> str:
        """Return why a trial that a person asked for cannot be drawn."""
        said = self._session.state.refused[-1]["reason"]
        return f"{REFUSALS} combinations with it cannot be trained; of the last: {said}"

    def _why_exhausted(self) -> str:
        study, state = self._session.study, self._session.state
        searched, wanted = state.num_searched, state.num_trials(study)
        end = f"the study ends with {searched} of {wanted} searched trials"
        if refused := state.refused:
            end += f"; what the trainer says of the last: {refused[-1]['reason']}"
        if state.refused_in_a_row >= REFUSALS:
            return f"{REFUSALS} combinations in a row cannot be trained: {end}"
        left_out = f" ({len(refused)} of them cannot be trained)" if refused else ""
        return f"the space has no combination that was not tried{left_out}: {end}"

    def _spec(self, number: int) -> TrialSpec:
        stop = self._session.trial_dir(number) / "stop"
        self._session.patiently(lambda: clear(stop), stop)
        self._session.why_stopped.pop(number, None)
        spec = trial_spec(self._session, number, self._fit)
        return replace(spec, avoid=self._recovery.avoid(number, self.trials_with_attempt()))

    def trials_with_attempt(self) -> set[int]:
        """Return the trials that have a living or waiting attempt."""
        return set(self._attempts.values())

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Do nothing: the scheduler records reports."""

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Forget an attempt; unless its trial ended, another follows."""
        self._attempts.pop(trial_id, None)

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
