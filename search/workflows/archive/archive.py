"""`segtune archive STUDY FILE`: everything that a person needs of a study but its data, as a file.

What goes in is said in search/storage/archives/layout.py. It may be done while the study runs: then
the archive is of the study as it was at that moment.
"""

import json
import os
import secrets
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from search.analysis.kept import standing_by
from search.execution.environment import code_commit, package_versions
from search.ledger.journal import Ledger
from search.ledger.state import StudyState, no_settings
from search.ledger.trial_state import TrialState
from search.report.text import in_bytes
from search.storage.archives.layout import README, RUN_FILES
from search.storage.archives.opened import is_archived
from search.storage.archives.reader import opened_zip
from search.storage.archives.writer import ArchiveWriter
from search.storage.dataset_cache import read_manifest, read_store_file
from search.storage.run_folders import WEIGHTS_FILES, fetch_cases, trial_files, weights_of
from search.storage.studies import display_path, read_study
from search.storage.trials.images import fetch_pictures
from search.study.config import StudyConfig
from search.study.frozen import study_of
from search.workflows.archive import pseudonymous_files as renamed
from search.workflows.archive.pseudonyms import Pseudonyms, alike_but_for_case
from trainer.configfile import ConfigError
from trainer.data.splits_file import FILE as SPLITS
from trainer.files.atomic import write_atomically
from trainer.files.regular_files import open_regular

BEST = 3
"""Searched trials of which the weights go along, with those of the control, of the references and
of what confirms any of these."""
KEY_BYTES = 32

_README = """An archive of the study {study}, written by segtune {version}.

  segtune compare FILE          how its trials rank; --html PAGE.html writes it as a page
  segtune status FILE           how it stood
  segtune replay FILE:7 --store PATH    train a trial again, given its prepared data
  segtune predict FILE:7 CASE MASK      use a model

In Python: segtune.study("FILE").trials(). It is read-only. archive.json has the SHA-256 of every
file; ledger.jsonl has all that happened, a line an event.
"""


@dataclass(frozen=True)
class Wanted:
    """What a person wants of an archive."""

    images: bool = False
    """Pictures of the trials whose weights go along, which show patients."""
    pseudonyms: bool = False
    """No name of a case or patient."""
    key_file: Path | None = None
    """Keeps the key of the pseudonyms, or has it from another archive."""
    store: str | None = None
    """Where the study's data are now, if not where they were."""


@dataclass(frozen=True)
class _Study:
    folder: Path
    config: StudyConfig
    state: StudyState
    ledger: bytes
    """As far as `state` goes."""
    manifest: dict[str, Any] | None
    """Of its store; None where that is not at hand."""
    splits: bytes | None


def archive(folder: Path, out: Path, wanted: Wanted) -> Iterator[str]:
    """Write an archive, whole or not at all, and yield what is in it in lines.

    Args:
        folder: The study's.
        out: The new file.
        wanted: What goes in.

    Raises:
        ConfigError: The file exists, the study is one already, a name would be left, or a choice
            excludes another.
        OSError: It cannot be written, or S3 does not answer.
    """
    _check(folder, out, wanted)
    study = _read(folder, wanted.store)
    pseudonyms, key, said = _pseudonyms(study, wanted)
    kept = sorted(standing_by(study.config, study.state, BEST))
    facts: dict[str, Any] = {}

    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as file:
            writer = ArchiveWriter(file, study.config.study)
            facts.update(_fill(writer, study, kept, wanted, pseudonyms))
            writer.finish(facts)
        path.chmod(0o600)
        _check_written(path, pseudonyms)

    new_key = wanted.key_file is not None and not wanted.key_file.exists()
    if new_key:
        assert wanted.key_file and key
        _keep_key(wanted.key_file, key)
    try:
        write_atomically(out, write)
    except BaseException:
        if new_key and wanted.key_file:
            wanted.key_file.unlink(missing_ok=True)
        raise
    yield f"archived   {study.config.study} to {out}: {in_bytes(out.stat().st_size)}"
    yield from _in_words(study, facts, wanted)
    yield from said


def _check(folder: Path, out: Path, wanted: Wanted) -> None:
    if is_archived(folder):
        raise ConfigError([f"{display_path(folder)}: is an archive already; copy the file"])
    if out.exists() or out.is_symlink():
        raise ConfigError([f"{out}: exists; name a file that does not"])
    if not out.absolute().parent.is_dir():
        raise ConfigError([f"{out}: no such folder: {out.parent}"])
    if wanted.images and wanted.pseudonyms:
        rule = "pictures show patients, and their titles the names of cases: give one of them"
        raise ConfigError([f"--with-images and --pseudonyms: {rule}"])
    if wanted.key_file and not wanted.pseudonyms:
        raise ConfigError(["--key-file: goes with --pseudonyms"])
    if wanted.key_file and wanted.key_file.resolve() == out.resolve():
        raise ConfigError([f"--key-file {wanted.key_file}: is the archive; name another file"])


def _read(folder: Path, store: str | None) -> _Study:
    path = folder / "ledger.jsonl"
    ledger = Ledger.open(path, writer=False)
    state = StudyState.of(ledger)
    if state.study is None:
        raise no_settings(path)
    with open_regular(path) as file:
        content = file.read(ledger.size)
    config = study_of(state.study, path)
    fetch_cases(folder)
    manifest, splits = _of_store(config, state, store)
    return _Study(folder, config, state, content, manifest, splits)


def _of_store(
    config: StudyConfig, state: StudyState, given: str | None
) -> tuple[dict[str, Any] | None, bytes | None]:
    """Return a store's manifest and splits; none where it is not at hand, or has other data."""
    place = given or config.data.store
    if not place:
        return None, None
    try:
        manifest = json.loads(read_manifest(place))
    except (OSError, ValueError) as error:
        if given:
            raise ConfigError([f"--store {given}: not a prepared store ({error})"]) from error
        return None, None
    assert state.study is not None
    if manifest.get("content_hash") != state.study["store_hash"]:
        if given:
            raise ConfigError([f"--store {given}: has other data than the study was begun with"])
        return None, None
    try:
        return manifest, read_store_file(place, SPLITS)
    except FileNotFoundError:  # a store of version 0.1
        return manifest, None


def _pseudonyms(study: _Study, wanted: Wanted) -> tuple[Pseudonyms | None, bytes, list[str]]:
    """Return the pseudonyms of all names that the study's files have, their key, what to say."""
    if not wanted.pseudonyms:
        return None, b"", []
    names: set[str] = set()
    if study.manifest:
        names |= renamed.names_in_manifest(study.manifest)
        if twins := alike_but_for_case(case["case_id"] for case in study.manifest["cases"]):
            rule = "cases that differ in capitals alone would be one under pseudonyms"
            raise ConfigError([f"--pseudonyms: {twins[0]!r}, {twins[1]!r}: {rule}"])
    elif study.config.has_data:
        place = study.config.data.store
        rule = "names of cases are known from it: --store PATH says where it is now"
        raise ConfigError([f"--pseudonyms: {place}: the study's store is not there: {rule}"])
    for line in study.ledger.splitlines():
        names |= {*renamed.names_in_events(json.loads(line))}
    for number in study.state.trials:
        names |= renamed.names_in_cases(_run_dir(study.folder, number) / "cases.parquet")
    names -= {"", "all"}
    key, said = _key(wanted.key_file)
    pseudonyms = Pseudonyms(names, key)
    lines = [f"pseudonyms {len(names)} names of cases and patients; {said}"]
    if common := pseudonyms.common:
        shown = ", ".join(common[:3]) + ", …" * (len(common) > 3)
        lines.append(
            f"note       {len(common)} names may be any number or word ({shown}): they are "
            "replaced where a case is named, and in notes, and cannot be told apart elsewhere"
        )
    return pseudonyms, key, lines


def _key(path: Path | None) -> tuple[bytes, str]:
    """Return the key of the pseudonyms, new or from a file, and what to say of it."""
    if path is None:
        return secrets.token_bytes(KEY_BYTES), "their key is forgotten, so that nobody can go back"
    if path.exists():
        try:
            key = bytes.fromhex(path.read_text().strip())
        except (ValueError, OSError) as error:
            raise ConfigError([f"--key-file {path}: is none: {error}"]) from error
        if len(key) < KEY_BYTES:
            raise ConfigError([f"--key-file {path}: is none: has fewer than {KEY_BYTES} bytes"])
        return key, f"the same as in other archives with {path}"
    key = secrets.token_bytes(KEY_BYTES)
    return key, f"their key is in {path}: whoever has it can try names"


def _keep_key(path: Path, key: bytes) -> None:
    """Write a new key where only this user can read it.

    Raises:
        OSError: It cannot be written.
    """
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{key.hex()}\n")


def _fill(
    writer: ArchiveWriter,
    study: _Study,
    kept: list[int],
    wanted: Wanted,
    pseudonyms: Pseudonyms | None,
) -> dict[str, Any]:
    """Add all members but the manifest, and return what that says of them."""
    versions, state = package_versions(), study.state
    assert state.study is not None
    about = {"study": study.config.study, "version": versions["segtune"]}
    writer.add(README, _README.format(**about).encode())
    if pseudonyms:
        ledger = b"".join(renamed.ledger_lines(study.ledger, pseudonyms))
    else:
        ledger = study.ledger
    writer.add("ledger.jsonl", ledger)
    _add(writer, "study.yaml", study.folder / "study.yaml", pseudonyms)
    if study.manifest is not None:
        manifest = study.manifest
        writer.add(
            "store/manifest.json",
            renamed.manifest_file(manifest, pseudonyms)
            if pseudonyms
            else json.dumps(manifest, indent=2).encode(),
        )
    if study.splits is not None:
        splits = study.splits
        splits = renamed.json_file(splits, pseudonyms) if pseudonyms else splits
        writer.add(f"store/{SPLITS}", splits)
    if wanted.images:
        fetch_pictures(study.folder)
    weights, pictures = [], 0
    for trial in state.trials.values():
        wants = trial.number in kept and trial.ending is not None and not study.config.trainer
        if _add_run(writer, study.folder, trial, wants, pseudonyms):
            weights.append(trial.number)
        for name in trial.pictures if wanted.images and trial.number in kept else ():
            run_dir = _run_dir(study.folder, trial.number)
            safe = Path(name).parent == Path("samples")
            if safe and writer.add_file(f"trials/{trial.number:04d}/{name}", run_dir / name):
                pictures += 1
    return {
        "uid": state.study["uid"],
        "store_hash": state.study["store_hash"],
        "archived": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": code_commit(),
        "versions": versions,
        "trials": len(state.trials),
        "weights": weights,
        "pictures": pictures,
        "pseudonyms": pseudonyms is not None,
    }


def _add_run(
    writer: ArchiveWriter,
    folder: Path,
    trial: TrialState,
    weights: bool,
    pseudonyms: Pseudonyms | None,
) -> bool:
    """Add a trial's files, and return whether its weights are among them."""
    run_dir, place = _run_dir(folder, trial.number), f"trials/{trial.number:04d}"
    wanted = [*RUN_FILES, *WEIGHTS_FILES] if weights else [*RUN_FILES]
    with trial_files(run_dir, wanted) as here:
        for name in RUN_FILES:
            _add(writer, f"{place}/{name}", here / name, pseudonyms)
        found = weights_of(here) if weights and not trial.deleted else None
        if found is None:
            return False
        if pseudonyms is None:
            return writer.add_file(f"{place}/{found.name}", found)
        with tempfile.TemporaryDirectory(prefix="segtune-") as temporary:
            plain = Path(temporary, found.name)
            try:
                renamed.weights_file(found, pseudonyms, plain)
            except OSError:
                raise
            except Exception as error:  # whatever torch raises of a damaged file
                rule = "is damaged, so that it cannot be searched for names: nothing was written"
                raise ConfigError([f"--pseudonyms: {found}: {rule}"]) from error
            return writer.add_file(f"{place}/{found.name}", plain)


def _add(writer: ArchiveWriter, name: str, path: Path, pseudonyms: Pseudonyms | None) -> None:
    """Add a file where there is one; one that is damaged does not go under pseudonyms."""
    if pseudonyms is None:
        writer.add_file(name, path)
        return
    try:
        with open_regular(path) as file:
            content = file.read()
        if path.suffix == ".parquet":
            content = renamed.cases_file(path, pseudonyms)
        elif path.suffix == ".yaml":
            content = renamed.yaml_file(content, pseudonyms)
        else:
            content = renamed.json_file(content, pseudonyms)
    except (FileNotFoundError, NotADirectoryError):
        return
    except (ValueError, yaml.YAMLError, RecursionError):
        content = b""
    if content:
        writer.add(name, content)


def _check_written(path: Path, pseudonyms: Pseudonyms | None) -> None:
    """Read the finished file as whoever gets it does, and search it for names.

    Raises:
        ConfigError: It cannot be opened, or a name is left.
    """
    with opened_zip(path) as archive, tempfile.TemporaryDirectory(prefix="segtune-") as temporary:
        if pseudonyms is None:
            archive.verify()
            return
        renamed.check_none_is_left(archive, pseudonyms)
        ledger = Path(temporary, "ledger.jsonl")
        ledger.write_bytes(b"".join(archive.pieces("ledger.jsonl")))
        try:
            read_study(Path(temporary))
        except ValueError as error:
            rule = "names of cases are words of its settings, so that no archive could be read"
            raise ConfigError([f"--pseudonyms: {rule}: {error}"]) from error


def _in_words(study: _Study, facts: dict[str, Any], wanted: Wanted) -> Iterator[str]:
    """Yield what is in an archive and what is not."""
    weights = ", ".join(map(str, facts["weights"])) or "no trial"
    yield f"weights    of {weights}"
    if study.config.trainer:
        yield "note       only its own program knows the files of its trials: no weights go along"
    painted = sum(bool(trial.pictures) for trial in study.state.trials.values())
    if wanted.images:
        yield f"images     {facts['pictures']} pictures, which show patients"
    elif painted:
        yield f"images     none: pictures of {painted} trials show patients (--with-images)"
    else:
        yield "images     none"
    if study.manifest is None and study.config.has_data:
        yield f"note       {study.config.data.store}: not there, so neither manifest nor splits"


def _run_dir(folder: Path, number: int) -> Path:
    return folder / "trials" / f"{number:04d}"
