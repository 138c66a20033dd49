"""How much of a search follows its prior: more while little is known, less where it proves wrong.

A trial is drawn from the prior, or by the sampler. The prior's centres come first. After them the
prior has a share of the draws that falls with the trials that have ended, and is larger or smaller
by how many of its trials are among the best, beside those of the sampler: so a prior that misleads
is soon left, and one that is right is followed for long.
"""

import math
import random
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from search.ledger.journal import Event
from search.sampler.prior import Prior
from search.study.config import StudyConfig
from search.study.sampler_limits import USES_PRIOR
from search.study.space import stated

SHARE = 0.25
"""Of the draws that are the prior's before anything is known."""
HALF = 20
"""Ended trials after which that share is halved, a third at twice as many, and so on."""
BEST = 3
"""One in so many ended trials is among the best."""
POWER = 5.0
"""To which its density counts among a model's candidates, over the number of ended trials."""
DOUBT = 2.0
"""Trials among the best that either side is thought to have had before any ended."""


class _Ended(NamedTuple):
    """A searched trial as evidence."""

    epoch: int
    """Its last; -1 where it could not be trained."""
    value: float
    """Smoothed objective there, higher for better."""
    from_prior: bool


@dataclass
class _Running:
    from_prior: bool
    recent: deque[float]
    """Last values of the objective."""
    epoch: int = 0


class Guidance:
    """Tells which draws are the prior's, from the events so far alone.

    Args:
        study: Gives the space, the prior and the objective.
    """

    def __init__(self, study: StudyConfig):
        self._study = study
        self._stated = stated(study.space)
        self.prior = self._around([self._stated] if self._stated else [])
        self._drawn = 0
        """Proposals that were the prior's."""
        self._running: dict[int, _Running] = {}
        self._ended: dict[int, _Ended] = {}
        """Of each trial that has ended: how it stands."""

    def begin_from(self, imported: Iterable[Event]) -> None:
        """Take the best trial of each earlier study as a centre, beside what is stated."""
        best: dict[str, tuple[_Ended, dict[str, Any]]] = {}
        for event in imported:
            running = self._running_trial(from_prior=False)
            for epoch, value, *_ in event["values"]:
                running.recent.append(value)
                running.epoch = epoch
            found = self._evidence(running, event["ending"])
            if found.epoch >= 0 and (event["uid"] not in best or found > best[event["uid"]][0]):
                best[event["uid"]] = found, event["params"]
        if best:
            self.prior = self._around([params | self._stated for _, params in best.values()])

    def observe(self, event: Event) -> None:
        """Take in an event."""
        number = event.get("trial")
        match event["event"]:
            case "proposed" if not event["protected"]:
                from_prior = event.get("from_prior") is True
                self._drawn += from_prior or self._is_next_centre(event["params"])
                self._running[event["trial"]] = self._running_trial(from_prior=from_prior)
            case "refused":
                from_prior = event.get("from_prior") is True
                self._drawn += from_prior or self._is_next_centre(event["params"])
            case "reported" if number in self._running:
                self._running[number].recent.append(event["value"])
                self._running[number].epoch = event["epoch"]
            case "ended" if number in self._running:
                running = self._running.pop(number)
                if event["ending"] != "failed":
                    self._ended[event["trial"]] = self._evidence(running, event["ending"])

    def _is_next_centre(self, params: Mapping[str, Any]) -> bool:
        """Return whether a person asked for the very parameters that come next."""
        if self.prior is None or self._drawn >= len(self.prior.centres):
            return False
        centre = self.prior.centres[self._drawn]
        return all(name in centre and centre[name] == value for name, value in params.items())

    def draw(
        self, purpose: str, given: Mapping[str, Any], *, again: bool = False
    ) -> dict[str, Any] | None:
        """Return parameters from the prior; None where the sampler is to draw.

        Args:
            purpose: Seeds the draw.
            given: Parameters that are not drawn.
            again: What was drawn before for the same trial had been tried, a centre perhaps.
        """
        if self.prior is None:
            return None
        rng = random.Random(purpose)
        if self._drawn < len(self.prior.centres) and not again:
            return self.prior.centre(self._drawn, rng, given)
        return self.prior.sample(rng, given) if rng.random() < self.share() else None

    def share(self) -> float:
        """Return the part of the next draws that is the prior's."""
        return SHARE * HALF / (HALF + len(self._ended)) * self._trust()

    def power(self) -> float:
        """Return the power to which the prior's density counts among a model's candidates."""
        return POWER / max(1, len(self._ended)) * min(1.0, self._trust())

    def _trust(self) -> float:
        """Return 1 where the prior's trials are among the best as often as others, 0 to 2 else."""
        best = sorted(self._ended.values(), reverse=True)[: len(self._ended) // BEST]
        of_prior = sum(each.from_prior for each in self._ended.values())
        hits = sum(each.from_prior for each in best)
        rate = (hits + DOUBT) / (of_prior + BEST * DOUBT)
        other = (len(best) - hits + DOUBT) / (len(self._ended) - of_prior + BEST * DOUBT)
        return 2 * rate / (rate + other)

    def _around(self, centres: list[dict[str, Any]]) -> Prior | None:
        used = centres and self._study.sampler.type in USES_PRIOR
        return Prior(self._study.space, centres) if used else None

    def _running_trial(self, *, from_prior: bool) -> _Running:
        return _Running(from_prior, deque(maxlen=self._study.scheduler.smoothing))

    def _evidence(self, running: _Running, ending: str) -> _Ended:
        mean = sum(running.recent) / max(1, len(running.recent))
        trained = running.recent and ending not in ("diverged", "infeasible")
        if not trained or not math.isfinite(mean):
            return _Ended(-1, 0.0, running.from_prior)
        sign = 1 if self._study.objective.mode == "max" else -1
        return _Ended(running.epoch, sign * mean, running.from_prior)
