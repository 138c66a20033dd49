"""Power and false alarms of what says that a setting mattered, on planted functions.

    python -m tests.bench.importance [--methods permutation,ranks] [--trials 12,18] [--repeats 300]

prints a row a scenario and a line a method: how many of the planted settings are found, and in how
many studies a setting is named that does nothing, in percent with twice the Monte-Carlo error. One
that decides whether another is searched counts as neither. Forest, PED-ANOVA and fANOVA take a
second a study, the others some milliseconds.
"""

import argparse
import math
import time
from collections.abc import Mapping, Sequence

import numpy as np

from search.analysis.importance import positions, shared_epoch
from search.analysis.ranking import finite_at, value_of
from search.ledger.trial_state import TrialState
from search.study.config import StudyConfig
from tests.bench.importance.planted import SCENARIOS, Planted, draw
from tests.bench.importance.rivals import METHODS, Table

ENOUGH = 8
"""Trials that reached a rung."""


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.importance")
    parser.add_argument("--methods", default="permutation", help=f"of: {','.join(METHODS)}")
    parser.add_argument("--scenarios", default="all", help="separated by semicolons")
    parser.add_argument("--trials", default="12,18,60")
    parser.add_argument("--repeats", type=int, default=300)
    parser.add_argument("--epochs", default="shared", help="of: shared, last, rung")
    asked = parser.parse_args()
    print(
        "| trials | planted | method | found % | false alarms % | ms |\n|---|---|---|---|---|---|"
    )
    scenarios = SCENARIOS if asked.scenarios == "all" else asked.scenarios.split(";")
    for num_trials in map(int, asked.trials.split(",")):
        for name in scenarios:
            studies = [draw(name, num_trials, seed) for seed in range(asked.repeats)]
            for epochs in asked.epochs.split(",") if SCENARIOS[name].searched else ["shared"]:
                tables = [table_of(each, seed, epochs) for seed, each in enumerate(studies)]
                for method in asked.methods.split(","):
                    said = f"{method}, {epochs}" if SCENARIOS[name].searched else method
                    print(
                        f"| {num_trials} | {name} | {said} {judged(name, method, tables)}",
                        flush=True,
                    )


def judged(name: str, method: str, tables: Sequence[Table]) -> str:
    """Return a row's last cells."""
    planted, begun = SCENARIOS[name].planted, time.perf_counter()
    found = [METHODS[method](table) for table in tables]
    ms = 1000 * (time.perf_counter() - begun) / len(tables)
    parents = {"loss.weighting"} if "loss.warm_in_fraction" in planted else set()
    hits = [len(each & planted) / max(1, len(planted)) for each in found]
    alarms = [bool(each - planted - parents) for each in found]
    return f"| {_share(hits) if planted else ''} | {_share(alarms)} | {ms:.0f} |"


def _share(values: Sequence[float]) -> str:
    mean = float(np.mean(values))
    error = 2 * math.sqrt(max(mean * (1 - mean), 1 / len(values)) / len(values))
    return f"{100 * mean:.1f} ± {100 * error:.1f}"


def table_of(planted: Planted, seed: int, epochs: str) -> Table:
    """Return what the methods see of a study: its trials' values at one epoch, or at their last."""
    study, trials = planted
    values = values_at(study, trials, epochs)
    trials = [trial for trial in trials if trial.number in values]
    columns = {
        name: column
        for name, column in positions(study.space, trials).items()
        if np.nanmin(column, initial=1) < np.nanmax(column, initial=0)
    }
    choices = {name for name in columns if study.space[name].choices is not None}
    return Table(columns, choices, np.array([values[t.number] for t in trials]), seed)


def values_at(study: StudyConfig, trials: Sequence[TrialState], epochs: str) -> Mapping[int, float]:
    """Return each trial's value at the epoch that nearly all share, at the last rung that ENOUGH
    reached, or at its own last.
    """
    if epochs == "last":
        found = {trial.number: value_of(study, trial) for trial in trials}
    else:
        at = shared_epoch(study, trials)
        if epochs == "rung":
            reached = sorted((trial.epoch for trial in trials), reverse=True)
            at = reached[min(ENOUGH, len(reached)) - 1]
        assert at is not None
        found = {trial.number: finite_at(study, trial, at) for trial in trials}
    return {number: value for number, value in found.items() if value is not None}


if __name__ == "__main__":
    main()
