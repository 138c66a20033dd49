"""What `confirm` found, in words."""

from collections.abc import Mapping
from typing import Any

from search.analysis.intervals import TOO_FEW
from search.ledger.budget import UNITS
from search.report.leaderboard_columns import interval
from search.report.text import align


def verdict_text(event: Mapping[str, Any]) -> str:
    """Return a `verdict` event as a table of the confirmed trials and a sentence each verdict."""
    name = metric_name(event)
    beside = ["Dice", "95 % interval"] if name != "Dice" else []
    seeds = [f"seed {seed}" for seed in event["seeds"]]
    rows = [["trial", "", name, "95 % interval", *beside, *seeds]]
    for score in event["scores"]:
        by_seed = dict(zip(score["seeds"], score["by_seed"], strict=True))
        rows.append(
            [
                str(score["trial"]) if score["role"] != "masks" else "",
                score["role"] if score["role"] != "masks" else masks_text(score),
                f"{score['mean']:.4f}",
                interval(score["interval"], ".3f"),
                *(_dice(score) if beside else ()),
                *(f"{by_seed[s]:.4f}" if s in by_seed else "-" for s in event["seeds"]),
            ]
        )
    sentences = [sentence(comparison, name) for comparison in event["comparisons"]]
    for number, other in event.get("equals", {}).items():
        sentences.append(f"trial {number} has the configuration of trial {other}")
    if used := event.get("as_used"):
        sentences.append(as_used_text(used))
    return "\n".join([f"confirmed {event['where']}:", "", align(rows), "", *sentences])


def confirmation_text(event: Mapping[str, Any]) -> str:
    """Return in a line what the section `confirm` of a study came to, and why it ended."""
    unit = UNITS[event["unit"]]
    paid = f"{event['spent']:.3g} of {event['limit']:.3g} {unit}"
    if event.get("best") is None:
        return f"not told apart: {event['why']} ({paid})"
    ends, name = event["interval"], metric_name(event)
    reaches = "excludes" if event["told"] else "does not exclude"
    by = {
        "noise": f"{event.get('draws')} validations each with other noise",
        "seeds": f"{event.get('seeds')} seeds on other folds",
    }[event["by"]]
    found = (
        f"{100 * event['level']:.4g} % interval {interval(ends, '+.4f')}, which {reaches} "
        f"a loss of {event['loss']:g}"
        if ends
        else TOO_FEW
    )
    others = len(event["candidates"]) - 1
    closest = f"trial {event['other']}" + (f", the closest of {others}" if others > 1 else "")
    word = "told from" if event["told"] else "not told from"
    return (
        f"trial {event['best']} is {word} {closest}: {name} {event['mean']:+.4f}, {found} "
        f"({by}); {event['why']}; {paid}"
    )


def as_used_text(used: Mapping[str, Any]) -> str:
    """Return in words what a verdict's best trial has as a finished model is used."""
    found = f"Dice {used['mean']:.4f}, 95 % interval {interval(used['interval'], '.3f')}"
    return f"trial {used['trial']} as it is used, {sampling_text(used['sampling'])}: {found}"


def sampling_text(sampling: Mapping[str, Any]) -> str:
    """Return in words how masks are sampled."""
    steps, members = sampling["timestep_respacing"], sampling["num_ensemble"]
    masks = "a mask" if members == 1 else f"the {sampling['fuse']} of {members} masks"
    return f"{masks} of {sampling['method']} in {steps} steps"


def metric_name(event: Mapping[str, Any]) -> str:
    """Return what a verdict is about; before version 0.2 that was Dice."""
    metric: str = event.get("metric", "val/dice")
    return "Dice" if metric == "val/dice" else metric


def _dice(row: Mapping[str, Any]) -> list[str]:
    """Return the Dice that stands beside an objective."""
    dice = row.get("dice")
    return [f"{dice['mean']:.4f}", interval(dice["interval"], ".3f")] if dice else ["", ""]


def masks_text(score: Mapping[str, Any]) -> str:
    """Return what masks among confirmed trials are called, and how many of the cases they have."""
    part = score.get("part")
    return f"masks {score['trial']}" + (f" ({part[0]} of {part[1]} cases)" if part else "")


def num_cases(comparison: Mapping[str, Any]) -> int:
    """Return over how many cases a comparison is, each counted once."""
    counted: int | None = comparison.get("num_different")  # not in ledgers of version 0.1
    return sum(comparison["num_cases"]) if counted is None else counted


def opponent(comparison: Mapping[str, Any]) -> str:
    """Return whom a verdict's trial is compared with."""
    if comparison["family"] == "masks":
        return f"masks {comparison['other']}"
    return f"{comparison['family']} (trial {comparison['other']})"


def sentence(comparison: Mapping[str, Any], name: str = "Dice") -> str:
    """Return one verdict in words, with what it rests on.

    Args:
        comparison: Of a `verdict` event, or between studies.
        name: Of the metric that it is about.
    """
    word = comparison["verdict"]
    if comparison["family"] == "study":
        trial, other = comparison["trial"], comparison["other"]
    else:
        trial, other = f"trial {comparison['trial']}", f"the {opponent(comparison)}"
    if word == "none":
        return f"{trial} against {other}: no verdict {comparison['reason']}"
    if not comparison["interval"]:
        text = f"{trial} against {other}: {TOO_FEW}: {name} {comparison['mean']:+.4f}"
        return f"{text}; {comparison['reason']}" if comparison["reason"] else text
    said = {
        "better": f"{trial} is better than {other}",
        "worse": f"{trial} is worse than {other}",
        "equivalent": f"{trial} and {other} are equivalent",
        "not distinguishable": f"{trial} and {other} are not distinguishable",
    }[word]
    text = (
        f"{said}: {name} {comparison['mean']:+.4f}, {100 * comparison['level']:.4g} % interval "
        f"{interval(comparison['interval'], '+.4f')}, p {comparison['p_holm']:.2g} (Holm), "
        f"{len(comparison['seeds'])} seeds, {num_cases(comparison)} cases"
    )
    if dice := comparison.get("dice"):
        text += f"; Dice {dice['mean']:+.4f}, 95 % interval {interval(dice['interval'], '+.4f')}"
    if hours := comparison.get("hours"):
        one, other = (UNITS[unit] for unit in comparison["units"])
        unit = "" if one == other else f" {one}"
        text += f"; a training took {hours[0]:.2g}{unit} and {hours[1]:.2g} {other}"
    if measured := comparison.get("measured"):
        text += f"; measured by {' and by '.join(map(sampling_text, measured))}"
    if more := comparison.get("more_seeds"):
        text += (
            f"; {more['seeds']} seeds would bring the 95 % interval from about "
            f"{more['half_width_now']:.2g} to {more['half_width']:.2g} on either side"
        )
    return f"{text}; {comparison['reason']}" if comparison["reason"] else text
