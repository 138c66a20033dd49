"""What a person sees while a study runs: a line for every event that matters.

On a terminal they scroll above the live screen (monitor/live_screen.py), which has the validations.
"""

import os
import socket
import time
from contextlib import ExitStack
from typing import Any, Self

from search.analysis.ranking import Leader, standing
from search.ledger.hand import what_of
from search.ledger.journal import Event
from search.ledger.session import StudySession
from search.ledger.state import StudyState, threshold_rule
from search.monitor.live_screen import Screen, live_display, terminal
from search.monitor.snapshot import StudySnapshot
from search.report.verdicts import confirmation_text
from search.study.config import StudyConfig
from trainer.terminal import one_line


class ProgressDisplay:
    """Prints a study's events, with the screen below them while entered; a listener of a
    StudySession.

    The screen has a state of its own, fed with the same events: the driver changes its state in
    one thread, and the screen is drawn in another.
    """

    def __init__(self, session: StudySession):
        self._session = session
        self._leader = Leader(session.state)
        self._screen: Screen | None = None
        self._display = ExitStack()

    def __enter__(self) -> Self:
        console = terminal()
        snapshot = StudySnapshot.of(self._session.ledger) if console else None
        if console and snapshot:
            driver = f"pid {os.getpid()} on {socket.gethostname()}"
            self._screen = Screen(snapshot, driver, self._session.folder)
            self._display.enter_context(live_display(self._screen, console))
        return self

    def __exit__(self, *_: object) -> None:
        self._display.close()
        self._screen = None

    def observe(self, event: Event) -> None:
        """Print the line of an event, if it has one, and bring the screen up to date."""
        self._leader.observe(event)
        if self._screen:
            self._screen.apply([event])
        if self._screen is None or event["event"] != "reported":
            print_event(event, self._session.study, self._session.state, self._leader)

    def print_line(self, text: str) -> None:
        """Print a line that belongs to no event."""
        print(f"{time.strftime('%H:%M:%S')}  {'':10s}  {text}", flush=True)


def print_event(
    event: Event, study: StudyConfig, state: StudyState, leader: Leader | None = None
) -> None:
    """Print the line of an event that has been applied to the state, if it has one."""
    if line := event_line(event, study, state, leader):
        print(line, flush=True)


def event_line(
    event: Event, study: StudyConfig, state: StudyState, leader: Leader | None = None
) -> str:
    """Return the line of an event that has been applied to the state; empty if it has none.

    Args:
        event: Of the study.
        study: The study.
        state: What its ledger says.
        leader: Knows the best trial; None for those who ask seldom.
    """
    text = _text(event, study, state, leader or Leader(state)).replace("\n", " ")
    clock = time.strftime("%H:%M:%S", time.localtime(event["time"]))
    who = "" if event.get("trial") is None else f"trial {event['trial']:4d}"
    return f"{clock}  {who:10s}  {text}" if text else ""


def _text(event: Event, study: StudyConfig, state: StudyState, leader: Leader) -> str:
    match event["event"]:
        case "enqueued":
            by = f", as {one_line(event['like'])}" if "like" in event else ""
            return f"asked for{_by(event, state)}: {what_of({'kind': 'enqueue'} | event)}{by}"
        case "stop_asked":
            return f"asked to stop at its checkpoint{_by(event, state)}"
        case "note":
            return f"note{_by(event, state)}: {one_line(event['text'])}"
        case "declined":
            return f"declined: {one_line(event['what'])}: {one_line(event['reason'])}"
        case "study" if "request" in event:
            return f"other settings: {one_line('; '.join(map(str, event['changed'])))}"
        case "proposed":
            params = "  ".join(f"{key}={_short(v)}" for key, v in event["params"].items())
            is_reference = event["protected"] and event["kind"] == "enqueued"
            kind = "reference" if is_reference else event["kind"]
            same = f"  note: as trial {event['same_as']}" if "same_as" in event else ""
            prior = "  note: from the prior" if event.get("from_prior") else ""
            return f"{'proposed':11s} {kind:9s} {params}{same}{prior}"
        case "refused":
            params = "  ".join(f"{key}={_short(v)}" for key, v in event["params"].items())
            return f"{'refused':11s} {params}: {event['reason']}"
        case "exhausted":
            return f"note: {event['reason']}"
        case "waits":
            return f"waits: {one_line(event['reason'])}" if event["reason"] else "waits no longer"
        case "started" if event["attempt"] > 1:
            epoch = state.trials[event["trial"]].epoch
            return f"{'continued':11s} after epoch {epoch}, attempt {event['attempt']}"
        case "reported":
            progress = f"epoch {event['epoch']}/{state.trials[event['trial']].goal(study)}"
            return f"{progress:11s} {study.objective.metric} {event['value']:.4f}"
        case "interrupted":
            again = f"; again in {event['again_s']:.0f} s" if event.get("again_s") else ""
            return f"{'interrupted':11s} at epoch {event['epoch']}: {event['reason']}{again}"
        case "confirmed":
            return f"confirmed: {one_line(confirmation_text(event))}"
        case "ended":
            said = f"{event['ending']:11s} at epoch {event['epoch']}: {event['reason']}"
            best = leader.best(study)
            if best and (mean := standing(study, best)):
                said += f"; best is {study.study}:{best.number}, {mean.value:.4f} ({mean.where})"
            return said
        case "resumed":
            return f"{'resumed':11s} after epoch {event['epoch']}, to epoch {event['epochs']}"
        case "noise":
            return (
                f"epoch {event['epoch']} validated with {event['draws']} other noise seeds: "
                f"{event['metric']} {event['mean']:.4f}, standard deviation {event['std']:.4f}"
            )
        case "deleted":
            return f"{'deleted':11s} its {' and '.join(event['parts'])}{_by(event, state)}"
        case "retried":
            return f"{'retried':11s} after epoch {event['epoch']}"
        case "masks":
            return masks_line(event)
        case "threshold":
            rule = threshold_rule(event)
            return f"the best single threshold, {rule}, has Dice {event['dice']:.4f}"
        case "data" if ceiling := event["ceiling"]:
            size = event["image_size"]
            return f"a perfect model of {size} pixels would have Dice {ceiling['dice']:.4f}"
    return ""


def _by(event: Event, state: StudyState) -> str:
    """Return whose hand it was, where it was not the driver's user."""
    by = event.get("by")
    return f" by {one_line(by)}" if by and by != state.driven_by else ""


def masks_line(event: Event) -> str:
    """Return a line about masks that were scored."""
    scored, of = event["covered"].get(str(event["fold"]), [0, 0])
    dice = event["metrics"].get("val/dice")
    found = f"have Dice {dice:.4f}" if dice is not None else "have no Dice"
    again = "; scored again: they have changed" if event.get("again") else ""
    parts = [f"the masks {event['name']} {found}, {scored} of {of} cases{again}"]
    return "; ".join(filter(None, [*parts, event["unseen"], *event["said"]]))


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
