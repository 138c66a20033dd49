"""What to do next with a study, by rules over what `compare` has found; the first that holds.

1. Without a result there is nothing to judge: what failed is tried again, what diverged explained.
2. A best far below the control, told from it on its wrong side, or below the best single threshold
   is explained; the baseline instead where that is as far below the control, since then what was
   searched is not the reason.
3. A search that goes on goes on first.
4. A best that no reference is told from is not enough of a search with fewer than FEW trials.
5. A best that nothing confirms is confirmed; a verdict that more seeds would sharpen gets them.
6. What is confirmed is made faster, or exported where nothing samples.
"""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from search.analysis.shortfall import is_far_below

FEW = 12
"""Searched trials; with fewer even a large effect is seldom told (docs/importance.md)."""
TOP = 3
"""Trials that `confirm` judges by default."""

Row = Mapping[str, Any]


class Step(NamedTuple):
    """What to do next."""

    command: str
    """To type; empty where there is nothing to do but wait."""
    why: str


def next_step(result: Row) -> Step:
    """Return what to do next.

    Args:
        result: As `search.analysis.results.compare` returns it.
    """
    step = _step(result)
    if not step.command or result["runs"] == "runs" or " --runs " in step.command:
        return step
    return step._replace(command=f"{step.command} --runs {shlex.quote(result['runs'])}")


def _step(result: Row) -> Step:
    """Return what to do next, in the usual folder of studies."""
    best = best_row(result)
    if best is None:
        return _without_result(result)
    name = result["study"]
    if result.get("archive"):
        return Step("", "it goes on where its folder and data are: this is an archive")
    if wrong := _below(result, best):
        return wrong
    if result["over"] is None:
        return Step("", "the search is not finished")
    num_ranked = sum(row["rank"] is not None for row in result["trials"])
    told = [is_ahead(row) for row in beside(result) if lead(row) is not None]
    few = num_ranked < FEW and not result["exhausted"] and result["over"] == "plan"
    if few and told and not any(told):
        number = max(FEW, 2 * len(result["trials"]))
        why = f"the best of {num_ranked} trials is surely ahead of nothing that it is compared with"
        return Step(f"{result['launch']} trials.num_trials={number}", why)
    if verdict := verdict_on(result, best):
        return _after(verdict, result)
    if not result["confirmable"]:
        return _use(result, "nothing can confirm it")
    top = f" --top {num_ranked}" if num_ranked < TOP else ""
    return Step(f"segtune confirm {name}{top}", "one seed on one fold decides nothing")


def best_row(result: Row) -> Row | None:
    """Return the best searched trial, None without one."""
    return next((row for row in result["trials"] if row["rank"] == 1), None)


def beside(result: Row) -> list[Row]:
    """Return what the best is compared with: the control, the references, and masks."""
    return [*result["references"], *result["masks"]]


def lead(row: Row) -> tuple[float, tuple[float, float] | None] | None:
    """Return by how much Dice the best is ahead of a row, and its interval; None if not known."""
    found = row["difference_to_best"]
    if not found:
        return None
    ends = found["interval"]
    return -found["mean"], (-ends[1], -ends[0]) if ends else None


def is_ahead(row: Row) -> bool:
    """Return whether the best is told from a row, on the better side."""
    found = lead(row)
    return bool(found and found[1] and found[1][0] > 0)


def falls_short(row: Row, control: Row | None) -> bool:
    """Return whether a row is far below the control (search/analysis/shortfall.py)."""
    if control is None:
        return False
    settled = row["ending"] is not None or row["epochs"] >= control["epochs"]
    return is_far_below(row["dice"], control["dice"], settled=settled)


def control_row(result: Row) -> Row | None:
    """Return the control, None without one."""
    return next((row for row in result["references"] if row["kind"] == "control"), None)


def verdict_on(result: Row, best: Row) -> Row | None:
    """Return the newest verdict in which the best of the search was a candidate."""
    verdicts: Sequence[Row] = result["verdicts"]
    for verdict in reversed(verdicts):
        roles = {score["trial"]: score["role"] for score in verdict["scores"]}
        if roles.get(best["trial"]) == "candidate":
            return verdict
    return None


def judged(verdict: Row) -> tuple[int, list[Row]]:
    """Return a verdict's best candidate, and its comparisons."""
    trial = next(score["trial"] for score in verdict["scores"] if score["role"] == "candidate")
    return trial, [row for row in verdict["comparisons"] if row["trial"] == trial]


def _without_result(result: Row) -> Step:
    rows: Sequence[Row] = result["trials"]
    name = result["study"]
    if failed := [row for row in rows if row["ending"] == "failed"]:
        return Step(f"segtune retry {name}", f"{len(failed)} failed: {failed[-1]['reason']}")
    if ended := [row["trial"] for row in rows if row["ending"] is not None]:
        return Step(f"segtune explain {name}:{max(ended)}", "no trial has a finite result")
    return Step("", "no trial has a result yet")


def _below(result: Row, best: Row) -> Step | None:
    """Return what follows where the best is below what it must beat; None where it is not."""
    control, name = control_row(result), result["study"]
    explain = f"segtune explain {name}:"
    if falls_short(best, control):
        for row in result["references"]:
            if row is not control and falls_short(row, control):
                why = f"{row['name']} is as far below the control: what was searched is not why"
                return Step(f"{explain}{row['trial']}", why)
    behind = lead(control) if control else None
    if falls_short(best, control) or (behind and behind[1] and behind[1][1] < 0):
        dice = result["objective"]["metric"] == "val/dice"
        why = f"the plain U-Net is better{'' if dice else ' in Dice, which was not searched for'}"
        return Step(f"{explain}{best['trial']}", why)
    threshold, reached = result["threshold"], best["dice"]
    if threshold and reached is not None and best["ending"] and reached < threshold["dice"]:
        why = f"a single threshold scores more (Dice {threshold['dice']:.4f})"
        return Step(f"{explain}{best['trial']}", why)
    return None


def _after(verdict: Row, result: Row) -> Step:
    """Return what follows a verdict."""
    name, (trial, rows) = result["study"], judged(verdict)
    if any(row["verdict"] == "worse" for row in rows if row["family"] != "runner-up"):
        return Step(f"segtune explain {name}:{trial}", "a verdict says that it is worse")
    seeds = [row["more_seeds"]["seeds"] for row in rows if row.get("more_seeds")]
    if seeds and verdict["on"] == "validation":
        top = sum(score["role"] == "candidate" for score in verdict["scores"])
        words = f"--seeds {max(seeds)}" + (f" --top {top}" if top != TOP else "")
        return Step(f"segtune confirm {name} {words}", "more seeds may tell what these do not")
    sure = any(row["verdict"] == "better" for row in rows if row["family"] != "runner-up")
    return _use(result, "" if sure else "no verdict says that it is worse", f":{trial}")


def _use(result: Row, why: str, trial: str = "") -> Step:
    """Return how the best is used, or a trial that a verdict was of, given as `:7`."""
    if result["trainer"]:
        return Step("", why or "its weights are in its folder, as its own program wrote them")
    name = result["study"] + trial
    if result["respaceable"]:
        return Step(f"segtune respace {name}", why or "fewer sampling steps may do as well")
    return Step(f"segtune export {name} model", why or "it is confirmed")
