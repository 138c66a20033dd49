"""One trial as far as a study's ledger goes: what it is, what it reported, and how it ended."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from search.ledger.case_lists import CaseList
from search.ledger.events import Ending
from search.pruning.asha import Action
from search.study.config import StudyConfig
from trainer.config import TrainConfig
from trainer.terminal import one_line

BY_HAND = "by hand"
"""Why a trial ended that a person stopped."""
MAX_TEXT = 500
"""Characters of a note."""


class Report(NamedTuple):
    """One validation of a trial."""

    epoch: int
    value: float
    """Of the objective."""
    metrics: dict[str, float]
    cases: CaseList | None = None
    scores: Sequence[float] | None = None
    """Of the objective, one a case of `cases`; None where the ledger has none."""

    @property
    def is_finite(self) -> bool:
        return math.isfinite(self.value)

    @property
    def by_case(self) -> dict[str, float] | None:
        """The objective of each case, to five digits; None where the ledger has not all of them."""
        if self.scores and self.cases and self.cases.is_whole:
            return dict(zip(self.cases.names, self.scores, strict=True))
        return None


class Segment(NamedTuple):
    """A stretch of a resumed trial."""

    after: int
    """The epoch after which it begins."""
    epochs: int
    """The epoch at which it ends."""


class Decided(NamedTuple):
    """What was decided after a report."""

    epoch: int
    action: Action
    reason: str


class Attempt(NamedTuple):
    """One start of a trial in a Ray actor."""

    after: int
    """The last epoch reported before it, -1 for none."""
    host: str
    """Empty where it is not known."""
    commit: str
    """Of the code that trained, empty where it is not known. In a ledger of version 0.1 it is that
    of the `study` event before it."""
    versions: dict[str, str]
    """Of the packages, likewise."""


class Deleted(NamedTuple):
    """What of a trial's folder a person wanted to go."""

    parts: tuple[str, ...]
    """weights, checkpoints."""
    by: str
    """Whose hand it was; empty where that is not known."""
    time: float | None
    """Unix seconds."""

    def in_words(self) -> str:
        """Return it as a person reads it."""
        day = time.strftime(", %Y-%m-%d", time.localtime(self.time)) if self.time else ""
        by = f" by {one_line(self.by)}" if self.by else ""
        parts = " and ".join(map(one_line, self.parts))
        return f"its {parts} were deleted (segtune delete{by}{day})"


@dataclass
class TrialState:
    """One trial, as far as the ledger goes."""

    number: int
    params: dict[str, Any]
    """Dotted trainer paths."""
    kind: Literal["control", "enqueued", "sampled", "confirm"]
    protected: bool
    """Runs to its goal, outside the rungs and the sampler."""
    of: int | None = None
    """The trial that a confirming one trains again, with `seed` on `fold`."""
    seed: int | None = None
    fold: int | None = None
    epochs: int | None = None
    """Of a confirming trial; others train to scheduler.max_t first."""
    segments: list[Segment] = field(default_factory=list)
    """How it was resumed, in order."""
    reports: list[Report] = field(default_factory=list)
    decided: Decided | None = None
    """The last decision."""
    attempts: list[Attempt] = field(default_factory=list)
    """Every start of it."""
    failures: int = 0
    """How many of its attempts died by their own fault since it last reported."""
    machine_faults: int = 0
    """How many died by a fault of the machine since then."""
    retries: int = 0
    """How often its end was taken back."""
    running: bool = False
    """Started, and neither ended nor interrupted since; also true when its driver was
    killed."""
    ending: Ending | None = None
    reason: str = ""
    """Why it ended."""
    pictures: list[str] = field(default_factory=list)
    """The newest ones: paths of PNG files below its folder."""
    mlflow_run_id: str | None = None
    request: str = ""
    """By which a person asked for it; empty for a trial of the plan."""
    reference: str = ""
    """Its name, where a person asked for a reference."""
    from_prior: bool = False
    """Drawn around what the study states, not by its sampler."""
    stop_asked: bool = False
    """A person wants it to end at its checkpoint."""
    notes: list[str] = field(default_factory=list)
    """What people say of it."""
    deleted: Deleted | None = None
    """What is gone of its folder; a later report takes it back."""

    @property
    def epoch(self) -> int:
        """The last epoch reported, 0 before the first."""
        return self.reports[-1].epoch if self.reports else 0

    @property
    def received(self) -> int:
        """The last epoch reported, -1 before the first: zero-epoch trials report epoch 0."""
        return self.reports[-1].epoch if self.reports else -1

    @property
    def is_reference(self) -> bool:
        """Whether it is one of the study's references: those are enqueued and protected."""
        return self.protected and self.kind == "enqueued"

    @property
    def stopped_by_hand(self) -> bool:
        """Whether a person ended it, and no rung."""
        return self.ending == "stopped" and self.reason == BY_HAND

    @property
    def hosts(self) -> list[str]:
        """Where it ran, in order, each once."""
        return list(dict.fromkeys(attempt.host for attempt in self.attempts if attempt.host))

    def attempt_at(self, epoch: int | None = None) -> Attempt | None:
        """Return the attempt that trained an epoch, by default the last; None before the first."""
        begun = [a for a in self.attempts if epoch is None or a.after < epoch]
        return begun[-1] if begun else None

    def status(self, *, driven: bool = True) -> str:
        """Return `waiting`, `running`, or how it ended.

        Args:
            driven: Whether a driver lives; else none of its trials runs.
        """
        if self.ending:
            return self.ending
        return "running" if self.running and driven else "waiting"

    def resumed_before(self, epoch: int) -> bool:
        """Return whether the epoch belongs to a resumed segment."""
        return any(segment.after < epoch for segment in self.segments)

    def goal_at(self, study: StudyConfig, epoch: int) -> int:
        """Return the number of epochs it was to reach when it trained an epoch."""
        goal = study.scheduler.max_t if self.epochs is None else self.epochs
        for segment in self.segments:
            if segment.after < epoch:
                goal = segment.epochs
        return goal

    def goal(self, study: StudyConfig) -> int:
        """Return the number of epochs it is to reach."""
        return self.segments[-1].epochs if self.segments else self.goal_at(study, 0)

    def config(self, study: StudyConfig) -> TrainConfig:
        """Return the configuration that it trains to its goal, of segtune's trainer."""
        return study.train_config(
            self.params, epochs=self.goal(study), seed=self.seed, fold=self.fold
        )

    def settings(self, study: StudyConfig) -> dict[str, Any]:
        """Return the settings that it trains to its goal, whoever trains it."""
        return study.settings(self.params, epochs=self.goal(study), seed=self.seed, fold=self.fold)
