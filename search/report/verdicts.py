"""What `confirm` found, in words."""

from collections.abc import Mapping
from typing import Any

from search.report.text import align


def verdict_text(event: Mapping[str, Any]) -> str:
    """Return a `verdict` event as a table of the confirmed trials and a sentence each verdict."""
    rows = [["trial", "", "Dice", "95 % interval", *(f"seed {s}" for s in event["seeds"])]]
    for score in event["scores"]:
        low, high = score["interval"]
        by_seed = dict(zip(score["seeds"], score["by_seed"], strict=True))
        rows.append(
            [
                str(score["trial"]),
                score["role"],
                f"{score['mean']:.4f}",
                f"[{low:.3f}, {high:.3f}]",
                *(f"{by_seed[s]:.4f}" if s in by_seed else "-" for s in event["seeds"]),
            ]
        )
    sentences = [sentence(comparison) for comparison in event["comparisons"]]
    return "\n".join([f"confirmed {event['where']}:", "", align(rows), "", *sentences])


def sentence(comparison: Mapping[str, Any]) -> str:
    """Return one verdict in words, with what it rests on."""
    trial, word = f"trial {comparison['trial']}", comparison["verdict"]
    other = f"{comparison['family']} (trial {comparison['other']})"
    if word == "none":
        return f"{trial} against the {other}: no verdict {comparison['reason']}"
    low, high = comparison["interval"]
    said = {
        "better": f"{trial} is better than the {other}",
        "worse": f"{trial} is worse than the {other}",
        "equivalent": f"{trial} and the {other} are equivalent",
        "not distinguishable": f"{trial} and the {other} are not distinguishable",
    }[word]
    text = (
        f"{said}: Dice {comparison['mean']:+.4f}, {100 * comparison['level']:.4g} % interval "
        f"[{low:+.4f}, {high:+.4f}], p {comparison['p_holm']:.2g} (Holm), "
        f"{len(comparison['seeds'])} seeds, {sum(comparison['num_cases'])} cases"
    )
    return f"{text}; {comparison['reason']}" if comparison["reason"] else text
