"""Does the search search? This project's sampler and scheduler against others, in simulated time.

    python -m tests.bench.search

takes about ten minutes of CPU and prints Markdown tables. `--out` keeps each problem's numbers
and takes those that it already has.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from search.execution.session import quiet_ray
from tests.bench.search.measure import (
    SHARES,
    Outcome,
    Outcomes,
    earlier,
    mean_ranks,
    measure,
    regrets,
    wilcoxon_p,
)
from tests.bench.search.methods import OneEpoch, Segtune, Stock
from tests.bench.search.problems import EPOCHS, Problem, problems
from tests.bench.search.simulate import Method, simulate
from trainer.atomic import write_atomically

BUDGET = 40
"""GPU-seconds of a search, in complete trials of random parameters."""
WORKERS = 4
ASHA = {"type": "asha", "grace_period": 3, "max_t": EPOCHS, "reduction_factor": 3, "smoothing": 3}
METHODS: dict[str, Callable[[Problem, int], Method]] = {
    "random": lambda problem, seed: Segtune(
        problem,
        seed,
        sampler={"type": "random"},
        scheduler={"type": "none", "max_t": EPOCHS, "smoothing": 3},
    ),
    "random + ASHA": lambda problem, seed: Segtune(
        problem, seed, sampler={"type": "random"}, scheduler=ASHA
    ),
    # A third of the budget for the first epochs.
    "1-epoch": lambda problem, seed: OneEpoch(problem, seed, num_trials=BUDGET * EPOCHS // 3),
    "Ray OptunaSearch + ASHA": Stock,
    "segtune": lambda problem, seed: Segtune(problem, seed, scheduler=ASHA),
}


def main() -> None:
    """Search every problem with every method, and print who was best."""
    names = list(problems())
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("problems", nargs="*", metavar="PROBLEM", help=f"of: {', '.join(names)}")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--out", type=Path, help="folder of the outcomes, a file a problem")
    arguments = parser.parse_args()
    chosen = arguments.problems or names
    if unknown := sorted({*chosen} - {*names}):
        parser.error(f"{', '.join(unknown)}: must be of {', '.join(names)}")
    quiet_ray()
    begun = time.process_time()
    outcomes = {name: kept(name, arguments.seeds, arguments.out) for name in chosen}
    print(report(outcomes, "segtune"))
    print(
        f"\n{arguments.seeds} seeds, {WORKERS} workers; {time.process_time() - begun:.0f} s of CPU"
    )


def kept(name: str, seeds: int, folder: Path | None) -> dict[str, list[Outcome]]:
    """Search one problem with every method, unless the folder has it already."""
    if folder is None:
        return compete(name, METHODS, seeds)
    path = folder / f"{name}-{seeds}.json"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(compete(name, METHODS, seeds))
        write_atomically(path, lambda temporary: temporary.write_text(text))
    found = json.loads(path.read_text())
    return {label: [Outcome(*outcome) for outcome in found[label]] for label in METHODS}


def compete(
    name: str, methods: dict[str, Callable[[Problem, int], Method]], seeds: int
) -> dict[str, list[Outcome]]:
    """Search one problem with every method and seed."""
    problem = problems()[name]()
    until_s = BUDGET * problem.seconds / WORKERS
    found: dict[str, list[Outcome]] = {}
    for label, make in methods.items():
        for seed in range(seeds):
            method = make(problem, seed)
            run = simulate(problem, method, workers=WORKERS, until_s=until_s, seed=seed)
            outcome = measure(problem, run, smoothing=method.smoothing, until_s=until_s)
            found.setdefault(label, []).append(outcome)
    return found


def report(outcomes: Outcomes, ours: str) -> str:
    """Return the tables: regret over time, random search's end reached earlier, and a summary."""
    labels = list(next(iter(outcomes.values())))
    rule = "|---" * (len(labels) + 2) + "|"
    lines = ["| regret | after | " + " | ".join(labels) + " |", rule]
    for name, methods in outcomes.items():
        for share in (0.1, 0.2, 0.5, 1.0):
            at = int(np.argmin(abs(SHARES - share)))
            cells = [_mean(regrets(found)[:, at]) for found in methods.values()]
            lines.append(f"| {name} | {100 * share:.0f} % | {' | '.join(cells)} |")
    lines += ["", "| random search's end, earlier by | of the seeds | " + " | ".join(labels) + " |"]
    lines.append(rule)
    for name, methods in outcomes.items():
        for middle in (np.mean, np.median):
            factors = [earlier(found, methods["random"], middle) for found in methods.values()]
            cells = [f"{factor:.1f}" if factor else "not reached" for factor in factors]
            lines.append(f"| {name} | {middle.__name__} | {' | '.join(cells)} |")
    lines += ["", f"| method | mean rank | at the end | {ours} wins | trials | stopped |"]
    lines[-1] += " stopped wrongly | top tenth stopped |"
    lines.append("|---" * 8 + "|")
    ranks = mean_ranks(outcomes)
    for label in labels:
        found = [outcome for methods in outcomes.values() for outcome in methods[label]]
        wrong = [outcome.wrong_kills for outcome in found if outcome.stopped] or [0.0]
        cells = [
            *(f"{rank:.2f}" for rank in ranks[label]),
            "" if label == ours else _against(outcomes, ours, label),
            f"{np.mean([outcome.trials for outcome in found]):.0f}",
            f"{np.mean([outcome.stopped for outcome in found]):.0f}",
            f"{100 * np.mean(wrong):.1f} %",
            f"{100 * np.mean([outcome.lost for outcome in found]):.0f} %",
        ]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _mean(values: np.ndarray) -> str:
    return f"{values.mean():.3f} ± {values.std(ddof=1) / len(values) ** 0.5:.3f}"


def _against(outcomes: Outcomes, ours: str, theirs: str) -> str:
    p, wins, p_final = wilcoxon_p(outcomes, ours, theirs)
    return f"{100 * wins:.0f} %, p {p:.1g} (at the end {p_final:.1g})"


if __name__ == "__main__":
    main()
