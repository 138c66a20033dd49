"""What it costs to look at a large study: `status`, `compare` and the page, in CPU and memory.

    python -m tests.bench.bench_reading --trials 2000
    python -m tests.bench.bench_reading --trials 20000 --repeat 1

writes a study whose trials are copies of those of spaces/results/diffusion.jsonl.gz, with other
settings and scores, and runs the commands on it and on one of a single trial, which is what
starting and importing take; each in a process of its own, the best of `--repeat`. `--parquet` is as
ledgers were before they had the scores of cases: these are read from each trial's cases.parquet.
"""

import argparse
import copy
import dataclasses
import gzip
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from search.ledger.case_lists import DIGITS

ROOT = Path(__file__).parents[2]
LEDGER = ROOT / "spaces" / "results" / "diffusion.jsonl.gz"
CASES = [f"case{number:02d}" for number in range(24)]
"""As many as a validation fold of ISLES 2024 has."""
COMMANDS = {
    "status": ["status"],
    "compare": ["compare"],
    "page": ["compare", "--html", "page.html"],
}


def write_study(folder: Path, num_trials: int, *, parquet: bool) -> None:
    """Write a study of a control and so many searched trials.

    Args:
        folder: The study's, new.
        num_trials: Searched ones.
        parquet: Whether the ledger has no scores of cases.
    """
    from search.ledger.line import encode, seal

    with gzip.open(LEDGER, "rt") as file:
        events = [json.loads(line) for line in file if line.strip()]
    for event in events:
        del event["crc"]
    models: dict[int, list[dict[str, Any]]] = {}
    for event in events:
        if event.get("trial") is not None and event["event"] != "mlflow":
            models.setdefault(event["trial"], []).append(event)
    control = next(n for n, own in models.items() if own[0]["kind"] == "control")
    searched = [n for n, own in models.items() if own[0]["kind"] == "sampled"]
    lines = [event for event in events if event["event"] in ("study", "threshold")]
    if not parquet:
        about = {"case_list": 0, "names": CASES, "of": len(CASES)}
        lines.append({**lines[-1], "event": "cases", **about})
    draw = random.Random(0)
    for number in range(num_trials + 1):
        rows: list[dict[str, Any]] = []
        for event in _copied(models[draw.choice(searched) if number else control], number, draw):
            if event["event"] == "reported":
                level = event["value"]
                scores = [min(1.0, max(0.0, draw.gauss(level, 0.1))) for _ in CASES]
                event["value"] = event["metrics"]["val/dice"] = sum(scores) / len(CASES)
                rows += _rows(event["epoch"], scores, draw)
                if not parquet:
                    scored = [float(f"{score:.{DIGITS}g}") for score in scores]
                    event |= {"case_list": 0, "case_scores": scored}
            lines.append(event)
        _write_cases(folder / "trials" / f"{number:04d}", rows)
    sealed = [seal(encode({**line, "fence": 1})) for line in lines]
    (folder / "ledger.jsonl").write_bytes(b"".join(sealed))


def _copied(
    events: list[dict[str, Any]], number: int, draw: random.Random
) -> Iterator[dict[str, Any]]:
    """Yield a trial's events as another one's, of other settings and other values."""
    factor = draw.uniform(0.8, 1.0)
    for event in copy.deepcopy(events):
        event["trial"] = number
        if event["event"] == "proposed" and number:
            numbers = {k: v for k, v in event["params"].items() if isinstance(v, float)}
            event["params"] |= {k: v * draw.uniform(0.7, 1.0) for k, v in numbers.items()}
        if event["event"] == "reported":
            event["value"] *= factor
        yield event


def _rows(epoch: int, scores: list[float], draw: random.Random) -> Iterator[dict[str, Any]]:
    from trainer.evaluation.metrics import CaseScore

    for case, dice in zip(CASES, scores, strict=True):
        measured = {each.name: draw.random() for each in dataclasses.fields(CaseScore)}
        known = {"case_id": case, "dice": dice, "lesion_ml": 1.0 + len(CASES) - CASES.index(case)}
        yield {"epoch": epoch, **measured, **known, "lesion_count_diff": 1, "has_lesion": True}


def _write_cases(folder: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "cases.parquet")


class Cost(NamedTuple):
    """Of a command."""

    cpu_s: float
    peak_mib: float


def cost(words: list[str], runs: Path, repeat: int) -> Cost:
    """Return what a command costs, the best of so many."""
    command = [sys.executable, str(ROOT / "segtune_start.py"), *words, "--runs", str(runs)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = []
    for _ in range(repeat):
        process = subprocess.Popen(command, env=env, cwd=runs, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, words
        found.append(Cost(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024))
    return min(found)


def main() -> None:
    """Measure each command on a large study and on one of a single trial."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--parquet", action="store_true", help="no scores in the ledger")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        runs = Path(name)
        write_study(runs / "large", a.trials, parquet=a.parquet)
        write_study(runs / "single", 1, parquet=a.parquet)
        for what, words in COMMANDS.items():
            single, large = (cost([*words, study], runs, a.repeat) for study in ("single", "large"))
            print(
                f"{what}: {large.cpu_s:.2f} s, of which {single.cpu_s:.2f} s for a study of one "
                f"trial; {large.peak_mib:.0f} MiB, {single.peak_mib:.0f} MiB for that"
            )
        print(f"page: {(runs / 'page.html').stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
