"""`segtune list`: the studies below a folder, a line each."""

import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from search.analysis.first_weights import warning
from search.analysis.ranking import best_of
from search.ledger.budget import HEADS, UNITS, cost_key, overspent
from search.ledger.journal import Ledger
from search.ledger.state import no_settings
from search.monitor.snapshot import StudySnapshot, counted, score_of
from search.report.text import age, align, in_bytes
from search.storage.disk import KINDS, study_sizes
from search.storage.studies import (
    display_path,
    refresh,
    shared_place,
    study_folders,
    writer_of,
)

UNREADABLE = "unreadable"


def list_studies(
    runs: Path, folders: Sequence[Path] = (), *, sizes: bool = False
) -> dict[str, Any]:
    """Return what a folder of studies holds, as JSON values.

    Args:
        runs: The folder of all studies.
        folders: Those of them, or archives; none for all.
        sizes: Whether to measure what each takes on the disk, which reads all of its folders.

    Returns:
        `runs`; `studies` by name, each with its `state`: `running` or `waiting` (for room on the
        cluster) while it has a `driver`, else `finished`, `ended, N failed`, `not confirmed yet`
        (its section `confirm` is due), `enqueued by hand`, `out of budget`, `interrupted`, or
        `unreadable`, with the `problem`; `trials`, the searched ones by ending, `running`
        and `waiting`, and `references` and `confirming` likewise; `best`, its trial, value and the
        epochs of which that is the mean;
        `first_weights`, what is to be known of those that its trials begin with; `gpu_hours` where
        its trials have GPUs, else `cpu_hours`; `idle_s`, seconds since its ledger's last line. With
        sizes, `bytes` of each by kind of file, and of all as `bytes` beside `studies`, with the
        `free` ones of the disk.

    Raises:
        ConfigError: There is no such bucket.
        OSError: S3 does not answer, or refuses.
    """
    found = [*_studies(folders or study_folders(runs), sizes)]
    result: dict[str, Any] = {"runs": display_path(runs), "studies": found}
    if sizes:
        total: Counter[str] = Counter()
        for study in found:
            total.update(study["bytes"])
        free = None if shared_place(runs) or not runs.exists() else shutil.disk_usage(runs).free
        result["bytes"] = {**total, "free": free}
    return result


def _studies(folders: Iterable[Path], sizes: bool) -> Iterator[dict[str, Any]]:
    for folder in folders:
        about: dict[str, Any] = {"study": folder.name, "folder": display_path(folder)}
        try:
            if sizes:
                about["bytes"] = study_sizes(folder)
            refresh(folder)
            if (folder / "ledger.jsonl").is_file():  # in S3 anything may lie beside studies
                yield about | _summary(folder)
        except (ValueError, OSError) as error:
            yield {"bytes": {}} | about | {"state": UNREADABLE, "problem": str(error)}


def _summary(folder: Path) -> dict[str, Any]:
    path = folder / "ledger.jsonl"
    snapshot = StudySnapshot.of(Ledger.open(path, writer=False))
    if snapshot is None:
        raise no_settings(path)
    study, state, now, driver = snapshot.study, snapshot.state, time.time(), writer_of(path)
    best = score_of(study, best_of(study, state))
    return {
        "state": _state(snapshot, driver),
        "driver": driver,
        **snapshot.counts(driver is not None),
        "objective": study.objective.metric,
        "best": best,
        "first_weights": warning(study, state),
        **_cost(snapshot, now if driver else None),
        "idle_s": round(now - state.last_time, 1) if state.last_time else None,
    }


def _state(snapshot: StudySnapshot, driver: str | None) -> str:
    if driver:
        return "running" if snapshot.running() else "waiting"
    if snapshot.state.finished(snapshot.study):
        failed = len(snapshot.state.failed())
        return f"ended, {failed} failed" if failed else "finished"
    if snapshot.state.searched_out(snapshot.study) and snapshot.study.confirm:
        return "not confirmed yet"
    if snapshot.state.enqueued and not snapshot.state.live():
        return "enqueued by hand"
    return "out of budget" if overspent(snapshot.study, snapshot.state.meter) else "interrupted"


def _cost(snapshot: StudySnapshot, until: float | None) -> dict[str, float]:
    trials = snapshot.study.trials
    key = cost_key(trials)
    return {key: snapshot.state.meter.spent(trials, until)[key]}


def render(result: dict[str, Any]) -> str:
    """Return the list as lines for people."""
    if not result["studies"]:
        return f"{result['runs']}: no study; `segtune launch` begins one"
    readable = [study for study in result["studies"] if study["state"] != UNREADABLE]
    rows = [
        ("study", "state", "trials", "best", "trial", "cost", "last event"),
        *map(_row, readable),
    ]
    lines = [align(rows)] if readable else []
    lines += [f"{s['study']}: {s['first_weights']}" for s in readable if s["first_weights"]]
    lines += [f"{s['study']}: {s['problem']}" for s in result["studies"] if "problem" in s]
    if "bytes" in result:
        lines += ["", _sizes(result)]
    return "\n".join(lines)


def _sizes(result: dict[str, Any]) -> str:
    """Return what each study takes on the disk, and all of them."""
    kinds = [*KINDS, "mlflow"]
    sizes = [(study["study"], study["bytes"]) for study in result["studies"]]
    sizes.append(("all", {kind: result["bytes"].get(kind, 0) for kind in kinds}))
    rows = [("study", *kinds, "together")]
    rows += [
        (name, *(in_bytes(size.get(kind, 0)) for kind in kinds), in_bytes(sum(size.values())))
        for name, size in sizes
    ]
    free = result["bytes"]["free"]
    return align(rows) + ("" if free is None else f"\nfree on the disk: {in_bytes(free)}")


def _row(study: dict[str, Any]) -> tuple[str, ...]:
    best = study["best"]
    return (
        study["study"],
        f"{study['state']} by {study['driver']}" if study["driver"] else study["state"],
        counted(study),
        f"{study['objective']} {best['value']:.4f}" if best else "none",
        str(best["trial"]) if best else "",
        _hours(study),
        "" if study["idle_s"] is None else f"{age(study['idle_s'])} ago",
    )


def _hours(study: dict[str, Any]) -> str:
    [key] = [key for key in HEADS if key in study]
    return f"{study[key]:.3g} {UNITS[key]}"
