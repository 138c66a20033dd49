"""What studies take on disk, or in S3, by kind of file; and files of trials that go."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from search.storage.run_folders import WEIGHTS_FILES
from search.storage.s3 import remote_of
from search.storage.s3_run import newest_manifest
from trainer.files.documents import to_json

KINDS = ("checkpoints", "weights", "pictures", "ledger", "other")
"""What a study's folder is made of; MLflow's copies lie beside it."""
PARTS = ("weights", "checkpoints")
"""What may go of a trial that has ended."""


def study_sizes(folder: Path) -> dict[str, int]:
    """Return the bytes of a study by kind, those of MLflow's files of it as `mlflow`.

    MLflow's database is one for all studies, and counted in none.

    Raises:
        OSError: S3 does not answer.
    """
    found = Counter(dict.fromkeys((*KINDS, "mlflow"), 0))
    if remote := remote_of(folder):
        for entry in remote.entries():
            found[_kind(_plain_name(entry.key))] += entry.size
        return dict(found)
    for name, size in _files(folder):
        found[_kind(name)] += size
    beside = folder.absolute().parent / "mlflow-artifacts" / folder.absolute().name
    found["mlflow"] = sum(size for _, size in _files(beside))
    return dict(found)


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files below a folder on this disk, 0 where there is none."""
    return sum(size for _, size in _files(folder))


def _plain_name(key: str) -> str:
    """Return the path that an object of a trial's run folder has there."""
    first, _, rest = key.partition("/")
    if first != "trials":
        return key
    trial, _, name = rest.partition("/")
    return f"trials/{trial}/{name.rpartition('/')[2].partition('-')[2].replace('~', '/') or name}"


def _files(folder: Path) -> Iterator[tuple[str, int]]:
    """Yield each file's name below a folder and its bytes, links not followed."""
    for at, _, names in os.walk(folder):
        for name in names:
            path = Path(at, name)
            try:
                yield path.relative_to(folder).as_posix(), path.lstat().st_size
            except OSError:  # gone meanwhile
                continue


def _kind(name: str) -> str:
    """Return the kind of a study's file."""
    parts = PurePosixPath(name).parts
    if parts[:1] == ("pictures",) or (parts[:1] == ("trials",) and "samples" in parts):
        return "pictures"
    if parts[:1] == ("trials",) and (part := part_of("/".join(parts[2:]))):
        return part
    return "ledger" if parts[:1] == ("ledger.jsonl",) or parts[:1] == ("ledger",) else "other"


def part_of(name: str) -> str:
    """Return which of PARTS a file of a run folder belongs to; empty for none.

    Args:
        name: Relative to the run folder.
    """
    if name in WEIGHTS_FILES:
        return "weights"
    return "checkpoints" if name.startswith("checkpoints/") and name.endswith(".pt") else ""


def parts_there(run_dir: Path, parts: Iterable[str]) -> dict[str, int]:
    """Return the bytes of those parts that a trial has, in the order of PARTS.

    Raises:
        OSError: S3 does not answer.
    """
    found: Counter[str] = Counter()
    if study := remote_of(run_dir.parents[1]):
        trial = study / f"trials/{run_dir.name}"
        entries = trial.entries()
        sizes = {entry.key: entry.size for entry in entries}
        for name, key in newest_manifest(trial, entries)["files"].items():
            found[part_of(name)] += sizes.get(key, 0)
    else:
        for name, size in _run_files(run_dir):
            found[part_of(name)] += size
    return {part: found[part] for part in PARTS if part in parts and part in found}


def _run_files(run_dir: Path) -> Iterator[tuple[str, int]]:
    """Yield the files of a run folder that belong to a part."""
    for name in (*WEIGHTS_FILES, "checkpoints"):
        path = run_dir / name
        for each in sorted(path.glob("*.pt"), reverse=True) if path.is_dir() else (path,):
            try:
                yield each.relative_to(run_dir).as_posix(), each.lstat().st_size
            except OSError:
                continue


def remove_parts(run_dir: Path, parts: Iterable[str]) -> int:
    """Remove parts of a trial that has ended; what is gone already is none the less.

    Returns:
        Bytes that are free now.

    Raises:
        OSError: A file cannot be removed, or S3 does not answer.
    """
    parts = set(parts)
    if remote_of(run_dir.parents[1]):
        return _remove_objects(run_dir, parts)
    freed = 0
    for name, size in [*_run_files(run_dir)]:
        if part_of(name) in parts:
            (run_dir / name).unlink(missing_ok=True)
            freed += size
    return freed


def _remove_objects(run_dir: Path, parts: set[str]) -> int:
    """Take parts out of a trial's manifest in S3, then away."""
    study = remote_of(run_dir.parents[1])
    assert study is not None
    trial = study / f"trials/{run_dir.name}"
    entries = trial.entries()
    manifest = newest_manifest(trial, entries)
    gone = {name: key for name, key in manifest["files"].items() if part_of(name) in parts}
    if not gone:
        return 0
    newest = max(entry.key for entry in entries if entry.key.endswith("/manifest.json"))
    kept = {name: key for name, key in manifest["files"].items() if name not in gone}
    trial.put(newest, to_json({**manifest, "files": kept}, indent=None).encode())
    trial.delete(gone.values())
    return sum(entry.size for entry in entries if entry.key in {*gone.values()})
