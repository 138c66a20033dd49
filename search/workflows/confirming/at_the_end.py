"""The section `confirm` of a study: at a launch's end its best are told apart, within a share.

First the weights that the search trained are validated again, with other noise: nothing is trained,
and what is left to explain a difference are the cases. Those candidates from which the best is not
told then are trained again with other seeds on other folds, as `confirm` does, a round of folds at
a time. It ends as soon as the best is told from all (looks.py), or when the share or the seeds are
spent, with the event `confirmed`. All that it goes by is in the ledger: a launch after a kill goes
on where that was, and trains and pays nothing twice.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from search.analysis.case_scores import case_metric
from search.analysis.validation_noise import samples
from search.analysis.verdicts.contrasts import MIN_UNITS, Evidence, Plan
from search.analysis.verdicts.significance import Difference, difference
from search.execution.session import before_ray
from search.ledger.budget import SHARE_SPENT, UNITS, cost_key
from search.ledger.confirming import share_of
from search.ledger.journal import Event
from search.ledger.session import StudySession
from search.storage.run_folders import fetch_cases
from search.storage.trials.images import to_paint
from search.study.search_sections import Confirm
from search.workflows.confirming.confirm import (
    record_verdict,
    validation_evidence,
    validation_verdict,
)
from search.workflows.confirming.looks import Look, look_at, rounds
from search.workflows.confirming.plan import (
    cost,
    make_plan,
    num_configurations,
    pairs_within,
    proposals,
)
from search.workflows.run_study import Train
from trainer.configfile import ConfigError

DRAWS = 10
"""Validations of each candidate's weights with other noise, of which a mean has a tenth of the
noise's variance."""


def confirm_best(address: str, session: StudySession, train: Train) -> None:
    """Tell a study's best apart, as its section `confirm` says, and record what came of it.

    Nothing is recorded where the session is to stop before that.

    Args:
        address: From `search.execution.session.ray_address`.
        session: The study, all of whose search has ended.
        train: Trains what it is asked for, until the session is to stop.

    Raises:
        OSError: The ledger cannot be written.
    """
    _Confirmation(session, train, address).run()


class _Confirmation:
    def __init__(self, session: StudySession, train: Train, address: str):
        self._session = session
        self._train = train
        self._address = address
        confirm = session.study.confirm
        assert confirm is not None
        self._confirm: Confirm = confirm
        self._unit = UNITS[cost_key(session.study.trials)]
        self._found: Event = {"by": None, "told": False}
        share = share_of(session.study, session.state.meter)
        session.most_hours = share.search + share.limit
        session.shares = True
        print(
            f"confirm    the best {confirm.top}, for at most {share.limit:.3g} {self._unit} "
            f"({confirm.budget_share:g} of the search's); {share.spent:.3g} spent before",
            flush=True,
        )

    def run(self) -> None:
        session, confirm = self._session, self._confirm
        study, state = session.study, session.state
        num_others = num_configurations(study, state) - 1
        if num_others < 1:
            self._conclude("the search has no two configurations with a result")
            return
        top = min(confirm.top, num_others + 1)
        try:
            plan = make_plan(study, state, top=top, num_seeds=confirm.seeds)
        except ConfigError as error:
            self._conclude("; ".join(error.lines))
            return
        plan = replace(plan, control=None, references=[], runner_up=None)
        if look := self._by_noise(plan.candidates, num_others):
            plan = replace(plan, candidates=[look.best, *look.open])
        if session.stopping or session.broken:
            return
        if look and not look.open:
            self._conclude("the best is told from the others")
        elif why := self._by_seeds(plan):
            self._conclude(why)

    @property
    def _left(self) -> float:
        """Hours of the share that are left, and of the study's budget if that is less."""
        study, meter = self._session.study, self._session.state.meter
        left, limit = share_of(study, meter).left, study.budget.gpu_hours
        if limit is not None:
            left = min(left, limit - meter.spent(study.trials)["gpu_hours"])
        return left

    @property
    def _num_looks(self) -> int:
        return 1 + len(rounds(self._confirm.seeds))

    def _look(
        self,
        candidates: Sequence[int],
        compare: Callable[[int, int], Difference],
        num_others: int,
        **about: Any,
    ) -> Look:
        """Look once, and keep what was found for the conclusion."""
        study = self._session.study
        look = look_at(
            candidates,
            compare,
            study.objective.mode,
            loss=self._confirm.tolerated,
            num_looks=self._num_looks,
            num_others=num_others,
        )
        self._found |= {"told": not look.open, "candidates": look.ranking, **look.values, **about}
        return look

    def _by_noise(self, candidates: Sequence[int], num_others: int) -> Look | None:
        """Compare trained weights by validations with other noise; None where there are none."""
        session = self._session
        study, state = session.study, session.state
        trials = [state.trials[number] for number in candidates]
        if study.trainer or not study.trains or not any(samples(study, each) for each in trials):
            return None  # nothing is drawn, or other seeds draw it
        known = {n: event["epoch"] for n, event in state.redrawn.items()}
        new = [each for each in trials if known.get(each.number) != each.epoch]
        without = [each.number for each in new if not to_paint(session.trial_dir(each.number))]
        needs = study.trials.gpus or study.trials.cpus_per_trial
        try:
            if without:
                raise ValueError(f"the weights of trial {without[0]} are not at hand")
            if new and self._left <= 0:
                raise ValueError("the share is spent")
            if new:
                before_ray(self._address)
                from search.workflows.confirming.models import redraw

                limit_s = 3600 * self._left / needs / len(new)
                redraw(session, new, self._address, DRAWS, limit_s)
        except ValueError as error:
            print(f"noise      of validations not drawn again: {error}", flush=True)
            return None
        if session.stopping:
            return None
        events = [state.redrawn[number] for number in candidates]
        draws = min(len(event["draws"]) for event in events)
        if len({event["case_list"] for event in events}) > 1:
            print("noise      of validations says nothing: they are of other cases", flush=True)
            return None
        scores = {
            number: np.array(event["draws"][:draws], dtype=float)
            for number, event in zip(candidates, events, strict=True)
        }
        scale = case_metric(study.objective.metric).scale

        def compare(one: int, other: int) -> Difference:
            return difference([scores[one]], [scores[other]], scale)

        return self._look(candidates, compare, num_others, by="noise", draws=draws)

    def _by_seeds(self, whole: Plan) -> str:
        """Train the candidates again, a round of folds at a time, until the best is told.

        Returns:
            Why it ended; empty where the session is to stop.
        """
        session, state = self._session, self._session.state
        for num_pairs in rounds(len(whole.pairs)):
            plan = self._affordable(replace(whole, pairs=whole.pairs[:num_pairs]))
            if plan is None:
                return self._why_spent(whole)
            self._say_left_out(whole, plan)
            session.record(*proposals(plan, state))
            again = plan.confirming(state)
            waiting = [trial.number for trial in again.values() if trial.ending is None]
            if waiting:
                self._train(waiting)
            spent = session.stopping == SHARE_SPENT
            if session.broken or (session.stopping and not spent):
                return ""
            if spent:  # what is not done keeps its checkpoint, for a larger share or `confirm`
                session.stopping = ""
            fetch_cases(session.folder)
            try:
                look = self._look_at_seeds(plan)
            except ConfigError as error:
                return "; ".join(error.lines)
            if look and not look.open:
                return "the best is told from the others"
            if spent or len(plan.pairs) < num_pairs:
                return self._why_spent(whole)
            whole = replace(whole, candidates=plan.candidates)
        return f"all {len(whole.pairs)} seeds are trained"

    def _affordable(self, plan: Plan) -> Plan | None:
        """Return as much of a plan as the share pays for: as many pairs, of as many of the best.

        None where it does not pay for the fewest pairs of two candidates.
        """
        session = self._session
        for number in range(len(plan.candidates), 1, -1):
            part = replace(plan, candidates=plan.candidates[:number])
            pairs = pairs_within(part, session.study, session.state, self._left)
            if pairs is not None and len(pairs) >= MIN_UNITS:
                return replace(part, pairs=pairs)
        return None

    def _say_left_out(self, whole: Plan, plan: Plan) -> None:
        if out := whole.candidates[len(plan.candidates) :]:
            names = ", ".join(map(str, out))
            print(f"left out   trial {names}: the share pays for no more", flush=True)

    def _why_spent(self, whole: Plan) -> str:
        """Return what of the share is left, and what would have been next."""
        session = self._session
        two = replace(whole, candidates=whole.candidates[:2])
        first, *rest = [two.pairs[:MIN_UNITS], *([pair] for pair in two.pairs[MIN_UNITS:])]
        costs = [cost(two, session.study, session.state, pairs) for pairs in (first, *rest)]
        if None in costs:
            return "no epoch of these trials was timed, so that nobody knows what seeds would cost"
        need = next(filter(None, costs), None)
        if need is None or self._left <= 0:
            return "the share is spent"
        return (
            f"the last {self._left:.3g} {self._unit} of the share do not pay for more seeds, of "
            f"which the next take about {need:.3g}"
        )

    def _look_at_seeds(self, plan: Plan) -> Look | None:
        """Record the verdict on what was trained again, and look; None where too little was."""
        session = self._session
        found = validation_evidence(session, plan)
        evidence: Evidence = found[0]
        done = [number for number in plan.candidates if evidence.pairs(number)]
        best = plan.candidates[0]
        if len(done) < 2 or any(evidence.num_units(best, each) < MIN_UNITS for each in done):
            return None
        verdict = validation_verdict(session, plan, found, self._confirm.tolerated)
        record_verdict(session, verdict)
        seeds = max(len(evidence.pairs(number)) for number in done)
        about = {"by": "seeds", "seeds": seeds}
        return self._look(done, evidence.difference, len(done) - 1, **about)

    def _conclude(self, why: str) -> None:
        session = self._session
        share = share_of(session.study, session.state.meter)
        session.record(
            {
                "event": "confirmed",
                "settings": self._confirm.model_dump(mode="json"),
                "metric": session.study.objective.metric,
                "loss": self._confirm.tolerated,
                **self._found,
                "why": why,
                "spent": share.spent,
                "limit": share.limit,
                "unit": cost_key(session.study.trials),
            }
        )
