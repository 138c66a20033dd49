"""Which settings mattered, as text: a sentence, and the objective by their values."""

from collections.abc import Mapping
from typing import Any

from search.report.text import align


def mattered_sentence(found: Mapping[str, Any]) -> str:
    """Return in words what `search.analysis.importance` found, without how much."""
    if found["missing"]:
        shares = "share" if found["missing"] > 1 else "shares"
        return f"what mattered: {_needed(found['missing'])} that {shares} an epoch"
    sure = [row for row in found["parameters"] if row["mattered"]]
    open_ = [row for row in found["parameters"] if not row["mattered"]]
    parts = ["what mattered: " + (", ".join(map(_named, sure)) or "of no setting it is told")]
    if open_:
        parts.append("not told from chance: " + ", ".join(map(_named, open_)))
    for row in found["left_out"]:
        lacks = _needed(row["missing"]) if row["missing"] else "it did not vary"
        parts.append(f"{row['name']} ({row['num_trials']} trials): {lacks}")
    return "; ".join(parts)


def mattered_table(found: Mapping[str, Any]) -> list[str]:
    """Return the objective by the values of each setting that mattered, as lines; none if none."""
    rows = []
    for row in found["parameters"]:
        if row["mattered"]:
            rows += [["", "", "", ""], [row["name"], found["metric"], "95 % interval", "trials"]]
            rows += [_group(group) for group in row["groups"] if group["num_trials"]]
    return align(rows).splitlines()


def mattered_method(found: Mapping[str, Any]) -> str:
    """Return in words what the sentence and the table are of."""
    diverged = found["num_diverged"]
    worst = f", {diverged} diverged as the worst" if diverged else ""
    number = len(found["parameters"])
    return (
        f"at epoch {found['epoch']} over {found['num_trials']} trials{worst}; {found['method']}, "
        f"p corrected for {number} setting{'s' * (number != 1)}; selected on, exploratory"
    )


def group_text(group: Mapping[str, Any]) -> str:
    """Return the value, or the part of the range, that a group is of."""
    if "choice" in group:
        return str(group["choice"])
    return f"{group['low']:.3g} to {group['high']:.3g}"


def _needed(number: int) -> str:
    return f"{number} more trial{'s are' if number > 1 else ' is'} needed"


def _named(row: Mapping[str, Any]) -> str:
    return f"{row['name']} (p {row['p']:.2g})"


def _group(group: Mapping[str, Any]) -> list[str]:
    ends, mean, number = group["interval"], group["mean"], str(group["num_trials"])
    if group["diverged"]:
        number += f", {group['diverged']} diverged"
    return [
        f"  {group_text(group)}",
        "" if mean is None else f"{mean:.3f}",
        f"[{ends[0]:.3f}, {ends[1]:.3f}]" if ends else "too few trials to tell",
        number,
    ]
