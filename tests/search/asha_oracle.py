"""What ASHA and the stall rule owe a study, computed anew from its ledger.

Written from the rule alone, in exact fractions, and shares nothing with search/pruning: whatever
was killed, repeated or overtaken meanwhile, a decision follows from the reports that the ledger
has before it.
"""

import math
import random
import re
from collections import defaultdict
from collections.abc import Iterable
from fractions import Fraction
from typing import Any, NamedTuple

Events = Iterable[dict[str, Any]]


class Decision(NamedTuple):
    """What became of a trial after a report."""

    action: str
    rung: int | None
    """The highest that the report was judged at."""
    before: int | None
    """How many results that rung had before."""


def rungs(about: dict[str, Any], every: int = 1) -> list[list[int]]:
    """Return the epochs at which each bracket judges.

    Args:
        about: A study's `scheduler`.
        every: Epochs between two validations.
    """
    if about["type"] != "asha":
        return [[]]
    brackets = []
    for bracket in range(about["brackets"]):
        powers = (
            about["grace_period"] * about["reduction_factor"] ** (bracket + k)
            for k in range(about["max_t"].bit_length() + 1)
        )
        rounded = {every * math.ceil(Fraction(power, every)) for power in powers}
        brackets.append(sorted(epoch for epoch in rounded if epoch < about["max_t"]))
    return brackets


def owed(events: Events) -> dict[tuple[int, int], Decision]:
    """Return the decision on each report of a ledger, by trial and epoch, in its order."""
    events = list(events)
    study = next(event for event in events if event["event"] == "study")
    config = study["config"]
    ladders = rungs(config["scheduler"], study.get("settings", {}).get("validation.every", 1))
    max_t = config["scheduler"]["max_t"]
    sign = 1 if config["objective"]["mode"] == "max" else -1
    smoothing, factor = config["scheduler"]["smoothing"], config["scheduler"]["reduction_factor"]
    beside: dict[int, int] = {}  # trials that are not judged, with their last epoch
    bracket_of: dict[int, int] = {}
    values: defaultdict[int, list[float]] = defaultdict(list)
    judged: defaultdict[int, int] = defaultdict(int)  # the last epoch up to which a trial was
    recorded: defaultdict[tuple[int, int], list[Fraction]] = defaultdict(list)
    smoothed: defaultdict[int, list[tuple[int, float]]] = defaultdict(list)
    decisions: dict[tuple[int, int], Decision] = {}
    for event in events:
        match event:
            case {"event": "proposed", "trial": trial, "protected": protected}:
                bracket_of[trial] = _bracket(config["seed"], trial, ladders)
                if protected:
                    beside[trial] = event.get("epochs", max_t)
            case {"event": "resumed", "trial": trial, "epochs": epochs}:
                beside[trial] = epochs
            case {"event": "reported", "trial": trial, "epoch": epoch, "value": value}:
                place = (trial, epoch)
                assert place not in decisions, f"reported twice: {place}"
                if not math.isfinite(value):
                    decisions[place] = Decision("stop", None, None)
                    continue
                if epoch >= beside.get(trial, max_t):
                    decisions[place] = Decision("complete", None, None)
                    continue
                decisions[place] = Decision("continue", None, None)
                if trial in beside:
                    continue
                values[trial].append(sign * value)
                last = values[trial][-smoothing:]
                rank = math.fsum(last) / len(last)
                for rung in ladders[bracket_of[trial]]:
                    if judged[trial] < rung <= epoch and decisions[place].action == "continue":
                        results = recorded[bracket_of[trial], rung]
                        goes_on = rank >= _percentile(sorted(results), factor)
                        action = "continue" if goes_on else "stop"
                        decisions[place] = Decision(action, rung, len(results))
                        results.append(Fraction(rank))
                judged[trial] = epoch
                smoothed[trial].append((epoch, rank))
                if decisions[place].action == "continue" and _stalled(config, smoothed[trial]):
                    decisions[place] = decisions[place]._replace(action="stall", before=None)
    return decisions


def _bracket(seed: int, trial: int, ladders: list[list[int]]) -> int:
    """Draw a trial's bracket: each has a share of exp(its rungs' number)."""
    weights = [math.exp(len(ladder)) for ladder in ladders]
    drawn = random.Random(f"bracket/{seed}/{trial}").random() * sum(weights)
    return next(b for b in range(len(ladders)) if drawn < math.fsum(weights[: b + 1]))


def _percentile(ascending: list[Fraction], factor: int) -> Fraction | float:
    """Return the (1 - 1/factor) percentile, linear between results; -inf of none."""
    if not ascending:
        return -math.inf
    place = (len(ascending) - 1) * (1 - Fraction(1, factor))
    below, above = ascending[math.floor(place)], ascending[math.ceil(place)]
    return below + (above - below) * (place - math.floor(place))


def _stalled(config: dict[str, Any], smoothed: list[tuple[int, float]]) -> bool:
    """Return whether a trial has gone `patience` epochs without an improvement of `min_delta`."""
    if not (rule := config["stall"]):
        return False
    best, best_epoch = -math.inf, 0
    for epoch, value in smoothed:
        if value > best and value >= best + rule["min_delta"]:
            best, best_epoch = value, epoch
    grace = config["scheduler"]["grace_period"] if config["scheduler"]["type"] == "asha" else 0
    return smoothed[-1][0] - max(best_epoch, grace) >= rule["patience"]


def decided(events: Events) -> dict[tuple[int, int], Decision]:
    """Return what the ledger has of decisions, by trial and epoch, in its order."""
    found: dict[tuple[int, int], Decision] = {}
    for event in events:
        if event["event"] == "decided":
            place = (event["trial"], event["epoch"])
            assert place not in found, f"decided twice: {place}"
            count = re.search(r"^rung .* (?:of (\d+)|is the first)$", event["reason"])
            before = int(count[1] or 0) if count else None
            found[place] = Decision(event["action"], event["rung"], before)
    return found


def check_decisions(events: Events) -> None:
    """Check that each report has the decision that is owed it, and each trial the end of its last.

    Raises:
        AssertionError: A decision differs, is missing or doubled; or a trial went on after one.
    """
    events = list(events)
    found = decided(events)
    assert [*found.items()] == [*owed(events).items()]
    finite = {
        (event["trial"], event["epoch"]): math.isfinite(event["value"])
        for event in events
        if event["event"] == "reported"
    }
    of_action = {"complete": "completed", "stop": "stopped", "stall": "stalled"}
    ends = {
        place: of_action[decision.action] if finite[place] else "diverged"
        for place, decision in found.items()
        if decision.action != "continue"
    }
    assert ends == {
        (event["trial"], event["epoch"]): event["ending"]
        for event in events
        if event["event"] == "ended" and event["ending"] in {*of_action.values(), "diverged"}
    }
    last = {trial: epoch for trial, epoch in found}
    assert all(last[trial] == epoch for trial, epoch in ends)
