"""Does the search search? This project's sampler and scheduler against others, in simulated time.

    python -m tests.bench.search [--test] [PROBLEM…] [--methods NAME…] [--stated good] [--out DIR]

prints Markdown tables of the problems for tuning, of those for the verdict with `--test`. `--out`
keeps the outcomes by problem and method, and searches only what it does not have: to search with a
changed method again, delete its files.
"""

import argparse
import json
import time
from pathlib import Path

from search.execution.session import quiet_ray
from tests.bench.search.competitors import BUDGET, METHODS, WITH_PRIOR
from tests.bench.search.measure import Outcome, measure
from tests.bench.search.peers.client import NotInstalled
from tests.bench.search.problems.catalogue import PROBLEMS, TEST, TRAIN
from tests.bench.search.simulate import simulate
from tests.bench.search.stated import STATED, stated
from tests.bench.search.tables import report
from trainer.files.atomic import write_atomically

WORKERS = 4


def main() -> None:
    """Search every problem with every method, and print who was best."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("problems", nargs="*", metavar="PROBLEM", help=f"of: {', '.join(PROBLEMS)}")
    parser.add_argument("--test", action="store_true", help="the problems for the verdict")
    names = ", ".join(METHODS | WITH_PRIOR)
    parser.add_argument("--methods", nargs="+", metavar="NAME", help=f"of: {names}")
    parser.add_argument("--stated", choices=STATED, help="a configuration that is tried first")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--out", type=Path, help="folder of the outcomes")
    arguments = parser.parse_args()
    chosen = arguments.problems or list(TEST if arguments.test else TRAIN)
    # All others are measured by when they reach the end of random search.
    competitors = METHODS | (WITH_PRIOR if arguments.stated else {})
    wanted = ["random", *(arguments.methods or competitors)]
    methods = [name for name in competitors if name in wanted]
    for given, known in ((chosen, PROBLEMS), (arguments.methods or [], competitors)):
        if unknown := sorted({*given} - {*known}):
            parser.error(f"{', '.join(unknown)}: must be of {', '.join(known)}")
    quiet_ray()
    begun = time.process_time()
    outcomes: dict[str, dict[str, list[Outcome]]] = {name: {} for name in chosen}
    for name in chosen:
        for label in methods:
            # Nothing is stated to random search, so that all tables have one measure.
            how = None if label == "random" else arguments.stated
            try:
                found = outcomes_of(name, label, how, arguments.seeds, arguments.out)
            except NotInstalled as error:
                if name == chosen[0]:
                    print(f"{label} is left out. {error}\n")
                continue
            outcomes[name][label] = found
    print(report(outcomes, "segtune" if "segtune" in methods else methods[-1]))
    print(
        f"\n{arguments.seeds} seeds, {WORKERS} workers; {time.process_time() - begun:.0f} s of CPU"
    )


def outcomes_of(
    name: str, label: str, how: str | None, seeds: int, folder: Path | None
) -> list[Outcome]:
    """Search one problem with one method, with the seeds that the folder does not have."""
    path = folder / (how or "nothing-stated") / name / f"{label}.json" if folder else None
    found = json.loads(path.read_text()) if path and path.exists() else []
    if len(found) < seeds:
        problem = PROBLEMS[name]()
        until_s = BUDGET * problem.seconds / WORKERS
        for seed in range(len(found), seeds):
            method = (METHODS | WITH_PRIOR)[label](
                problem, seed, stated(problem, seed, how) if how else None
            )
            run = simulate(problem, method, workers=WORKERS, until_s=until_s, seed=seed)
            found.append(measure(problem, run, smoothing=method.smoothing, until_s=until_s))
            if path:
                path.parent.mkdir(parents=True, exist_ok=True)
                text = json.dumps(found)
                write_atomically(path, lambda temporary, text=text: temporary.write_text(text))
    return [Outcome(*outcome) for outcome in found[:seeds]]


if __name__ == "__main__":
    main()
