"""Studies where they lie, in a folder that all nodes share or in S3: find, read, open, stop.

Only `search/storage/` knows that S3 exists. A study there has a mirror folder on this machine, and
everything else handles folders alone.
"""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from search.ledger import lease
from search.ledger.journal import Ledger
from search.ledger.patience import patiently
from search.ledger.state import StudyState, no_settings
from search.storage import s3_lease, s3_ledger
from search.storage.archives.opened import archive_file, check_not_archived, open_archive
from search.storage.archives.reader import may_be_archive
from search.storage.modes import modes_of
from search.storage.s3 import Remote, is_remote, mirror_of, place_mark, remote_of
from search.study.config import StudyConfig
from search.study.frozen import frozen_of, study_of
from search.study.semantics import Frozen
from trainer.configfile import ConfigError, did_you_mean
from trainer.files.damaged import clear


def runs_folder(address: str) -> Path:
    """Return the folder of all studies: a path as it is, or the mirror folder of a place in S3.

    Raises:
        ConfigError: It is no address in S3 although it begins like one.
        OSError: The mirror folder cannot be written.
    """
    return mirror_of(Remote.parse(address)) if is_remote(address) else Path(address)


def display_path(folder: Path) -> str:
    """Return a folder as its user knows it: the path, or the address or archive it stands for."""
    return shared_place(folder) or str(archive_file(folder) or folder)


def launch_command(folder: Path) -> str:
    """Return the command that continues a study; its file is this machine's, of one in S3 too."""
    runs = shlex.quote(display_path(folder.parent))
    return f"segtune launch {shlex.quote(str(folder / 'study.yaml'))} --runs {runs}"


def shared_place(folder: Path) -> str:
    """Return the address at which every node reaches a study; empty where its path is shared."""
    remote = remote_of(folder)
    return remote.uri if remote else ""


class NoSuchStudy(ConfigError):
    """There is no study of that name."""


def study_folders(runs: Path) -> list[Path]:
    """Return the folders of all studies by name; `refresh` brings the ledgers of those in S3.

    Raises:
        ConfigError: There is no such bucket.
        OSError: S3 does not answer, or refuses.
    """
    if remote := remote_of(runs):
        remote.check()
        return [runs / name for name in sorted(remote.names())]
    return sorted(path.parent for path in runs.glob("*/ledger.jsonl"))


def find_study(study: str, runs: Path) -> Path:
    """Return a study's folder from its name or its path, with its newest ledger.

    That of an archive is its copy on this machine, which is verified.

    Raises:
        NoSuchStudy: There is none.
        ConfigError: A file of that name is no archive, is damaged or refused.
        OSError: S3 does not answer, or refuses.
    """
    if is_remote(study):
        place = Remote.parse(study)
        runs, study = mirror_of(place.parent), place.name
    names = [folder.name for folder in study_folders(runs)]
    if study in names:
        refresh(runs / study)
    for folder in (runs / study, Path(study)):
        if (folder / "ledger.jsonl").is_file():
            return folder
    if may_be_archive(Path(study)):
        return open_archive(Path(study))
    hint = did_you_mean(study, names)
    raise NoSuchStudy([f"{display_path(runs)}: {study}: no such study{hint}"])


def read_study(folder: Path) -> tuple[StudyConfig, StudyState]:
    """Read a study as its ledger has it, also while it runs.

    Raises:
        ValueError: The ledger is damaged, or has no settings.
        OSError: There is no ledger.
    """
    path = folder / "ledger.jsonl"
    state = StudyState.of(Ledger.open(path, writer=False))
    if state.study is None:
        raise no_settings(path)
    return study_of(state.study, path), state


def begun_under(folder: Path) -> Frozen | None:
    """Return what a study goes on under; None for one without a trial, which has not begun.

    Raises:
        ValueError: The ledger is damaged.
        OSError: It cannot be read.
    """
    path = folder / "ledger.jsonl"
    if not path.is_file():
        return None
    state = StudyState.of(Ledger.open(path, writer=False))
    return frozen_of(state.study) if state.study and state.trials else None


def refresh(folder: Path) -> None:
    """Bring what a study's driver wrote since, where it is not in the folder by itself.

    Raises:
        OSError: S3 does not answer, or refuses.
    """
    s3_ledger.fetch_ledger(folder)


def writer_of(ledger: Path) -> str | None:
    """Return who writes a ledger at this moment, as `pid 123 on host`; None if nobody does."""
    folder = ledger.parent
    if (who := lease.holder(folder)) or not (remote := remote_of(folder)):
        return who
    return s3_lease.holder(remote)


def is_driven(folder: Path) -> bool:
    """Return whether a study has a driver now; False where it lies in S3, which is away."""
    try:
        return writer_of(folder / "ledger.jsonl") is not None
    except OSError:
        return False


@contextmanager
def open_as_driver(folder: Path) -> Iterator[Ledger]:
    """Open a study's ledger as its only driver, and where it lies in S3, keep it there as well.

    Raises:
        ValueError: Another driver has the study, its ledger is damaged, or it is an archive.
        OSError: The folder or S3 cannot be reached.
    """
    check_not_archived(folder)
    of_an_earlier_one = _stop_sign(folder)
    remote, path, stop = remote_of(folder), folder / "ledger.jsonl", folder / "stop"
    with (
        nullcontext() if remote else modes_of(folder),
        s3_ledger.opened(remote, folder)
        if remote
        else patiently(lambda: Ledger.open(path, writer=True), path) as ledger,
    ):
        # What was asked since then is asked of this driver, which people see from here on.
        if of_an_earlier_one and _stop_sign(folder) == of_an_earlier_one:
            patiently(lambda: clear(stop), stop)
        yield ledger


def remove_from_s3(folder: Path) -> None:
    """Delete what S3 has of a study that lies there; its mirror stays.

    Raises:
        ValueError: A driver has the study.
        OSError: S3 cannot be reached.
    """
    remote = remote_of(folder)
    assert remote is not None, f"{folder}: lies here"
    s3_ledger.remove(remote, folder)


def _stop_sign(folder: Path) -> tuple[int, int] | None:
    try:
        found = (folder / "stop").stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def ask_to_stop(folder: Path) -> None:
    """Ask a study's driver to stop, wherever it is.

    Raises:
        OSError: The folder or S3 cannot be reached.
    """
    if remote := remote_of(folder):
        remote.put("signs/stop", b"")
    else:
        (folder / "stop").touch()


def publish(path: Path) -> None:
    """Keep a file of a study's folder where the study lies.

    Raises:
        OSError: S3 does not answer, or refuses.
    """
    if remote := remote_of(path.parent):
        remote.upload(path.name, path)


def mirror_id(runs: Path) -> str:
    """Return what tells this machine's mirror from others' of the same place; empty for none."""
    mark = place_mark(runs)
    return mark["mirror"] if mark else ""
