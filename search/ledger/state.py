"""What a study's ledger says, event by event: the driver, `status` and `compare` all read it here.

The driver applies each event that it appends, so a study in progress and one rebuilt after a
crash went through the same code. `search/ledger/events.py` has the kinds of events.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from search.ledger.budget import Meter
from search.ledger.case_lists import CaseList
from search.ledger.confirming import is_due
from search.ledger.events import COUNTED, MENDABLE, OF_THE_MACHINE
from search.ledger.journal import Event, Ledger
from search.ledger.shapes import shape_problem
from search.ledger.trial_state import (
    Attempt,
    Decided,
    Deleted,
    Report,
    Segment,
    TrialState,
)
from search.study.config import StudyConfig
from trainer.configfile import ConfigError
from trainer.terminal import one_line


class StudyState:
    """A study as a pure replay of its events."""

    def __init__(self) -> None:
        self.study: Event | None = None
        """The newest `study` event."""
        self.threshold: Event | None = None
        self.data: Event | None = None
        self.masks: dict[str, Event] = {}
        """How masks that are references score, by their name."""
        self.noise: Event | None = None
        """What a validation's own noise was measured to be."""
        self.mlflow_experiment_id: str | None = None
        self.trials: dict[int, TrialState] = {}
        """By number, in the order of their proposal."""
        self.reported: list[tuple[int, Report]] = []
        """Every report and its trial's number, in order."""
        self.case_lists: list[CaseList] = []
        """In whose order reports have the scores of their cases."""
        self.imported: list[Event] = []
        """Trials of earlier studies."""
        self.refused: list[Event] = []
        """Proposals that are no trials, since the trainer does not take them."""
        self.refused_in_a_row = 0
        """Of them, those since the last proposed trial."""
        self.exhausted = ""
        """Why no further trial is sampled; empty while some may be."""
        self.enqueued: list[Event] = []
        """Trials that people asked for, and that are not proposed yet."""
        self.requests: dict[str, str] = {}
        """What people asked for and was taken up: the kind of event that it became."""
        self.declined: list[Event] = []
        """What they asked for and do not get."""
        self.resumes: list[Event] = []
        self.verdicts: list[Event] = []
        self.test_readings: list[Event] = []
        self.as_used: dict[int, Event] = {}
        self.redrawn: dict[int, Event] = {}
        """Validations of trained weights with other noise, by trial."""
        self.confirmed: Event | None = None
        """What the section `confirm` came to since a trial of the search ended last."""
        self.driven_by = ""
        """The newest driver's user."""
        self.waits = ""
        """For what it has fewer trials than it wants; empty while it has them."""
        self.meter = Meter()
        """What has been spent."""
        self.last_time: float | None = None
        """Unix seconds of the last event."""
        # Of thousands of trials few are open or protected: what is asked at every report asks them.
        self._open: dict[int, TrialState] = {}
        """Those that have not ended, oldest first."""
        self._protected: list[TrialState] = []
        """In the order of their proposal."""
        self._searched_by_hand = 0
        self._next_number = 0

    @classmethod
    def replay(cls, events: Iterable[Event]) -> Self:
        """Rebuild a study from its events."""
        state = cls()
        for event in events:
            state.apply(event)
        return state

    @classmethod
    def of(cls, ledger: Ledger) -> Self:
        """Rebuild a study from its ledger.

        Raises:
            ConfigError: Its lines contradict each other, or a newer segtune wrote one.
        """
        with contradictions(ledger.path):
            return cls.replay(ledger.events)

    def apply(self, event: Event) -> None:
        """Take in one event.

        Raises:
            ValueError: The kind is unknown, so a newer segtune wrote it.
            AssertionError: It contradicts those before it: an epoch twice, a report after the end.
        """
        if problem := shape_problem(event):
            raise ValueError(problem)
        self.last_time = event.get("time", self.last_time)
        self.meter.apply(event)
        if "request" in event:
            self._take(event)
        if event["event"] == "proposed":
            number = event["trial"]
            assert number not in self.trials, f"trial {number} is proposed twice"
            self.refused_in_a_row = 0
            proposed = TrialState(
                number,
                event["params"],
                event["kind"],
                event["protected"],
                of=event.get("of"),
                seed=event.get("seed"),
                fold=event.get("fold"),
                epochs=event.get("epochs"),
                request=event.get("request", ""),
                reference=one_line(event.get("reference", "")),
                from_prior=event.get("from_prior") is True,
            )
            self.trials[number] = self._open[number] = proposed
            self._next_number = max(self._next_number, number + 1)
            if proposed.protected:
                self._protected.append(proposed)
            else:
                self._searched_by_hand += bool(proposed.request)
            return
        trial = self.trials[event["trial"]] if event.get("trial") is not None else None
        match event["event"], trial:
            # Nearly all of a long ledger: asked first.
            case (("started" | "reported" | "decided" | "ended" | "interrupted"), TrialState()):
                assert trial.ending is None, f"trial {trial.number}: {event['event']} after its end"
                self._apply_to_live(trial, event)
            case "study", None:
                self.study = event
                if not self.trials:  # written again before it began: with its own imports, if any
                    self.imported = []
            case "driver", None:
                self.driven_by, self.waits = event.get("by", ""), ""
                for other in self._open.values():
                    other.running = False
            case "threshold", None:
                self.threshold = event
            case "data", None:
                self.data = event
            case "masks", None:
                self.masks[event["name"]] = event
            case "cases", None:
                assert event["case_list"] == len(self.case_lists), "lists of cases out of order"
                self.case_lists.append(CaseList(tuple(event["names"]), event["of"]))
            case "imported", None:
                self.imported.append(event)
            case "refused", None:
                self.refused.append(event)
                self.refused_in_a_row += 1
            case "exhausted", None:
                self.exhausted = event["reason"]
            case "resume", None:
                self.resumes.append(event)
            case "verdict", None:
                assert event["on"] in ("validation", "test"), "a verdict on what?"
                self.verdicts.append(event)
            case "test_read", _:
                self.test_readings.append(event)
            case "used", _:
                self.as_used[event["trial"]] = event
            case "confirmed", None:
                self.confirmed = event
            case "redrawn", TrialState():
                names = self.case_lists[event["case_list"]].names
                assert all(len(draw) == len(names) for draw in event["draws"]), "other cases"
                self.redrawn[trial.number] = event
            case "waits", None:
                self.waits = one_line(event["reason"])
            case (("budget" | "enqueued" | "declined"), None):
                pass
            case "stop_asked", TrialState():
                assert trial.ending is None, f"trial {trial.number}: to stop after its end"
                trial.stop_asked = True
            case "note", TrialState():
                trial.notes.append(one_line(event["text"]))
            case "resumed", TrialState():
                self._resume(trial, event)
            case "noise", TrialState():
                self.noise = event
            case "retried", TrialState():
                self._retry(trial, event)
            case "painted", TrialState():
                trial.pictures = event["files"]
            case "deleted", TrialState():
                assert trial.ending is not None, f"trial {trial.number}: deleted before its end"
                parts = event["parts"], event.get("by", ""), event.get("time")
                trial.deleted = Deleted(tuple(parts[0]), *parts[1:])
            case "mlflow", None:
                self.mlflow_experiment_id = event["experiment_id"]
            case "mlflow", TrialState():
                trial.mlflow_run_id = event["run_id"]
            case kind, _:
                raise ValueError(f"ledger: unknown event {kind!r}: a newer segtune wrote it")

    def _take(self, event: Event) -> None:
        """Keep what a person asked for until it is carried out."""
        kind, request = event["event"], event["request"]
        self.requests[request] = kind
        before = len(self.enqueued)
        match kind:
            case "enqueued":
                self.enqueued.append(event)
            case "proposed" | "declined":
                self.enqueued = [each for each in self.enqueued if each["request"] != request]
                self.declined += [event] * (kind == "declined")
        if len(self.enqueued) != before:  # what was refused was of other draws
            self.refused_in_a_row = 0

    def _resume(self, trial: TrialState, event: Event) -> None:
        assert trial.ending is not None, f"trial {trial.number}: resumed before its end"
        assert event["epoch"] == trial.epoch < event["epochs"], (
            f"trial {trial.number}: resumed after epoch {event['epoch']} to {event['epochs']}"
        )
        trial.segments.append(Segment(event["epoch"], event["epochs"]))
        self._open_again(trial)

    def _retry(self, trial: TrialState, event: Event) -> None:
        assert trial.ending in MENDABLE, f"trial {trial.number}: retried, but {trial.ending}"
        assert event["epoch"] == trial.epoch, f"trial {trial.number}: retried at another epoch"
        trial.retries += 1
        self._open_again(trial)

    def _open_again(self, trial: TrialState) -> None:
        trial.ending, trial.reason, trial.stop_asked = None, "", False
        trial.failures = trial.machine_faults = 0
        self._open = dict(sorted([*self._open.items(), (trial.number, trial)]))

    def _apply_to_live(self, trial: TrialState, event: Event) -> None:
        match event["event"]:
            case "started":
                # Version 0.1 recorded code once a study.
                code: Event = {"commit": "", "versions": {}} | (self.study or {}) | event
                trial.attempts.append(
                    Attempt(trial.received, event.get("host", ""), code["commit"], code["versions"])
                )
                trial.running = True
            case "reported":
                of_cases = self._cases(event) if event.get("case_scores") is not None else ()
                report = Report(event["epoch"], event["value"], event["metrics"], *of_cases)
                assert report.epoch > trial.received, (
                    f"trial {trial.number}: epoch {report.epoch} is reported after {trial.received}"
                )
                trial.reports.append(report)
                trial.deleted = None
                trial.failures = trial.machine_faults = 0
                self.reported.append((trial.number, report))
            case "decided":
                assert event["epoch"] == trial.epoch, (
                    f"trial {trial.number}: decided at epoch {event['epoch']}, not {trial.epoch}"
                )
                trial.decided = Decided(event["epoch"], event["action"], event["reason"])
            case "ended":
                trial.ending, trial.reason = event["ending"], event["reason"]
                trial.running = False
                del self._open[trial.number]
                if trial.kind != "confirm":
                    self.confirmed = None
            case "interrupted":
                trial.running = False
                trial.failures += event.get("cause") in COUNTED
                trial.machine_faults += event.get("cause") in OF_THE_MACHINE

    def _cases(self, event: Event) -> tuple[CaseList, list[float]]:
        cases, scores = self.case_lists[event["case_list"]], event["case_scores"]
        assert len(cases.names) == len(scores), (
            f"trial {event['trial']}: {len(scores)} scores of {len(cases.names)} cases"
        )
        return cases, scores

    def reference_name(self, study: StudyConfig, trial: TrialState) -> str | None:
        """Return the name of a trial that is a reference of the study, None of any other."""
        if trial.reference:
            return trial.reference
        numbers = [reference.number for reference in self.references() if not reference.request]
        names = {n: each.name for n, each in zip(numbers, study.trained_references, strict=False)}
        return names.get(trial.number)

    def planned(self, study: StudyConfig) -> bool:
        """Return whether every trial of the plan is proposed."""
        return not (self.num_protected_to_come(study) or self.num_searched_to_come(study))

    def num_trials(self, study: StudyConfig) -> int:
        """Return how many searched trials there are to be: the study's, and those by hand."""
        by_hand = sum(not event.get("reference") for event in self.enqueued)
        by_hand += self._searched_by_hand
        return study.trials.num_trials + by_hand

    def num_searched_to_come(self, study: StudyConfig) -> int:
        """Return how many searched trials have yet to be proposed."""
        if self.exhausted:
            return sum(not event.get("reference") for event in self.enqueued)
        return max(0, self.num_trials(study) - self.num_searched)

    def num_protected_to_come(self, study: StudyConfig) -> int:
        """Return how many of the control and the references have yet to be proposed."""
        by_hand = sum(bool(event.get("reference")) for event in self.enqueued)
        planned = sum(not reference.request for reference in self.references())
        control = study.has_control and self.control() is None
        return by_hand + max(0, len(study.trained_references) - planned) + control

    def finished(self, study: StudyConfig) -> bool:
        """Return whether no trial is left to propose or to continue, nor the best to tell apart."""
        if study.confirm is None:
            return self.planned(study) and not self.live()
        return self.searched_out(study) and not is_due(study, self.confirmed)

    def searched_out(self, study: StudyConfig) -> bool:
        """Return whether all trials but those that judge others are proposed and have ended."""
        return self.planned(study) and all(t.kind == "confirm" for t in self._open.values())

    def standing(self, study: StudyConfig) -> str:
        """Return `finished`, `ended` or `not finished`, and how to go on with what failed."""
        ended = self.finished(study)
        if not (failed := len(self.failed())):
            return "finished" if ended else "not finished"
        said = "ended" if ended else "not finished"
        return f"{said}, {failed} failed: segtune retry {study.study}"

    @property
    def next_number(self) -> int:
        """The number of the next proposal."""
        return self._next_number

    def live(self) -> list[TrialState]:
        """Return the trials that are to train, oldest first."""
        return [*self._open.values()]

    def failed(self) -> list[TrialState]:
        """Return the trials that failed, oldest first."""
        return [trial for trial in self.trials.values() if trial.ending == "failed"]

    def searched(self) -> list[TrialState]:
        """Return the trials that the sampler proposed or was given: none of the protected."""
        return [trial for trial in self.trials.values() if not trial.protected]

    @property
    def num_searched(self) -> int:
        """How many trials `searched` has."""
        return len(self.trials) - len(self._protected)

    @property
    def num_searched_by_hand(self) -> int:
        """How many of them people asked for."""
        return self._searched_by_hand

    def references(self) -> list[TrialState]:
        """Return the trials of the study's references, in their order."""
        return [trial for trial in self._protected if trial.is_reference]

    def confirming(self) -> list[TrialState]:
        """Return the trials that `confirm` trains again, with other seeds and folds."""
        return [trial for trial in self._protected if trial.kind == "confirm"]

    def control(self) -> TrialState | None:
        """Return the plain U-Net, None before its proposal."""
        return next((trial for trial in self._protected if trial.kind == "control"), None)


@contextmanager
def contradictions(path: Path) -> Iterator[None]:
    """Say in one line what is wrong with a ledger whose events are being applied."""
    try:
        yield
    except ConfigError:  # which says where
        raise
    except ValueError as error:
        raise ConfigError([f"{path}: {error}"]) from error
    except (AssertionError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        # put together by hand, say
        raise ConfigError([f"{path}: contradicts itself: {error!r}"]) from error


def no_settings(path: Path) -> ConfigError:
    """Return the error of a ledger without a study."""
    return ConfigError([f"{path}: has no settings: its first launch did not get far; launch it"])


def threshold_rule(threshold: Mapping[str, Any]) -> str:
    """Return in words what the best threshold calls lesion, for example `tmax >= 4.711`."""
    side = ">=" if threshold["above"] else "<"
    return f"{threshold['modality']} {side} {threshold['threshold']:.4g}"
