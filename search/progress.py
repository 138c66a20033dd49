"""What a person sees while a study runs: one plain line for every event that matters."""

import time
from typing import Any

from search.ledger import Event
from search.live import LiveStudy
from search.state import threshold_rule


class Progress:
    """Prints events, aligned; a listener of a LiveStudy."""

    def __init__(self, live: LiveStudy):
        self._live = live

    def hear(self, event: Event) -> None:
        """Print the line of an event, if it has one."""
        if text := self._text(event):
            clock = time.strftime("%H:%M:%S", time.localtime(event["time"]))
            who = "" if event.get("trial") is None else f"trial {event['trial']:4d}"
            print(f"{clock}  {who:10s}  {text}", flush=True)

    def say(self, text: str) -> None:
        """Print a line that belongs to no event."""
        print(f"{time.strftime('%H:%M:%S')}  {'':10s}  {text}", flush=True)

    def _text(self, event: Event) -> str:
        match event["event"]:
            case "proposed":
                params = "  ".join(f"{key}={_short(v)}" for key, v in event["params"].items())
                kind = "protected" if event["protected"] and event["kind"] != "control" else ""
                return f"{'proposed':11s} {kind or event['kind']:9s} {params}"
            case "started" if event["attempt"] > 1:
                epoch = self._live.state.trials[event["trial"]].epoch
                return f"{'continued':11s} after epoch {epoch}, attempt {event['attempt']}"
            case "reported":
                study = self._live.study
                goal = self._live.state.trials[event["trial"]].goal(study)
                progress = f"epoch {event['epoch']}/{goal}"
                return f"{progress:11s} {study.objective.metric} {event['value']:.4f}"
            case "interrupted":
                return f"{'interrupted':11s} at epoch {event['epoch']}: {event['reason']}"
            case "ended":
                said = f"{event['ending']:11s} at epoch {event['epoch']}: {event['reason']}"
                return said + self._best()
            case "resumed":
                return f"{'resumed':11s} after epoch {event['epoch']}, to epoch {event['epochs']}"
            case "threshold":
                rule = threshold_rule(event)
                return f"the best single threshold, {rule}, has Dice {event['dice']:.4f}"
        return ""

    def _best(self) -> str:
        best = self._live.state.best(self._live.study.objective.mode)
        return f"; best is {best.value:.4f} (trial {best.number})" if best else ""


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
