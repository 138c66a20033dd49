"""A trial's run folder, in a folder that all nodes share or brought here from S3 and sent back."""

import errno
import re
import socket
import tempfile
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from os.path import isfile
from pathlib import Path
from typing import Any

from search.ledger.lease import lease_path
from search.storage.s3 import (
    Entry,
    Remote,
    below,
    folder_of,
    in_parallel,
    remote_of,
)
from search.storage.s3_run import S3Run, load_index, newest_manifest, save_index
from trainer.files.regular_files import open_regular

WEIGHTS_FILES = ("ema.pt", "best.pt")
"""In a run folder, the weights that stand for it: `trainer.saved.model_io.WEIGHTS`, without its
imports; and the file of version 0.1, which kept its best validation's and no others."""

LOG = "log.txt"
"""In a run folder: what the attempts printed."""


def weights_of(folder: Path) -> Path | None:
    """Return the weights that stand for a run, None where it has none yet."""
    return next((folder / name for name in WEIGHTS_FILES if (folder / name).is_file()), None)


def on_this_node(spec: dict[str, Any]) -> dict[str, Any]:
    """Return a spec with the run folder that it has on this node."""
    if not spec["storage"]:
        return spec
    study = Remote.parse(spec["storage"])
    return spec | {"run_dir": str(folder_of(study, "work") / "trials" / f"{spec['trial']:04d}")}


@contextmanager
def hold_run_folder(spec: Mapping[str, Any]) -> Iterator[S3Run | None]:
    """Hold a trial's run folder here for as long as it takes; None where all nodes share it.

    Args:
        spec: From `on_this_node`.

    Raises:
        OSError: This node does not see the folder that the driver does, or not S3.
        Superseded: Another attempt has the trial.
    """
    run_dir = Path(spec["run_dir"])
    if not spec["storage"]:
        folder, fence = run_dir.parents[1], spec["fence"]
        if fence and not lease_path(folder, fence).exists():
            host, rule = socket.gethostname(), "all nodes must share the runs"
            raise OSError(errno.ESTALE, f"{host}: {folder}: not the driver's folder; {rule}")
        yield None
        return
    owner = spec["fence"], spec["attempt"]
    study = Remote.parse(spec["storage"])
    with S3Run(study, run_dir, spec["trial"], owner, spec["train"]) as run:
        yield run


def sent_validations(
    fit: Callable[[], Generator[Any, None, None]], spec: Mapping[str, Any]
) -> Generator[Any, None, None]:
    """Yield fit's validations, each when the run folder is in S3, if the study lies there.

    Args:
        fit: Ready to begin.
        spec: From `on_this_node`.

    Raises:
        Exception: As `hold_run_folder`, or as fit.
    """
    with hold_run_folder(spec) as run, closing(fit()) as validations:
        for validation in validations:
            if run:
                run.send()
            yield validation


def checkpoints_of(run_dir: Path) -> list[str]:
    """Return the names of a trial's checkpoints relative to its folder, oldest first.

    Args:
        run_dir: The folder of the trial, in a study's folder or the mirror of one.

    Raises:
        OSError: S3 does not answer.
    """
    study = remote_of(run_dir.parents[1])
    if study is None:
        return sorted(f"checkpoints/{path.name}" for path in run_dir.glob("checkpoints/*.pt"))
    _, files = _newest_files(study, run_dir)
    return sorted(name for name in files if name.startswith("checkpoints/"))


def log_of(folder: Path, trial: int) -> str:
    """Return how a person finds what a trial printed: a path, or a command; empty for nothing.

    Args:
        folder: The study's.
        trial: The number of one that has begun.
    """
    return logs_of(folder)(trial)


def logs_of(folder: Path) -> Callable[[int], str]:
    """Return `log_of` of any of a study's trials; where the study lies is asked once."""
    study = remote_of(folder)

    def log(trial: int) -> str:
        if study:
            return f"segtune logs {study.uri}:{trial}"
        path = f"{folder / 'trials'}/{trial:04d}/{LOG}"
        return path if isfile(path) else ""

    return log


def read_log(run_dir: Path) -> bytes | None:
    """Return what a trial printed; in S3, up to its last report; None where there is nothing.

    Args:
        run_dir: The folder of the trial, in a study's folder or the mirror of one.

    Raises:
        OSError: It cannot be read, or S3 does not answer.
    """
    study = remote_of(run_dir.parents[1])
    if study is None:
        try:
            with open_regular(run_dir / LOG) as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None
    trial, files = _newest_files(study, run_dir)
    return trial.get(files[LOG]) if LOG in files else None


def _newest_files(study: Remote, run_dir: Path) -> tuple[Remote, dict[str, str]]:
    """Return a trial's place in S3, and the object there of each file of its run folder."""
    trial = study / f"trials/{run_dir.name}"
    files: dict[str, str] = newest_manifest(trial, trial.entries())["files"]
    return trial, files


def fetch_cases(folder: Path) -> None:
    """Bring the cases of all trials here, if the study lies in S3.

    Args:
        folder: The study's.

    Raises:
        OSError: S3 does not answer.
    """
    study = remote_of(folder)
    if study is None:
        return
    newest: dict[str, tuple[tuple[str, int], Entry]] = {}
    for entry in study.entries("trials"):
        _, trial, *rest = entry.key.split("/")
        if len(rest) == 2 and (found := re.fullmatch(r"(\d+)-cases\.parquet", rest[1])):
            place = rest[0], int(found[1])
            newest[trial] = max(newest.get(trial, (place, entry)), (place, entry))
    index = load_index(folder) or {}
    new = {t: e.key for t, (_, e) in newest.items() if index.get(t) != e.key}
    in_parallel(
        lambda trial: study.download(new[trial], below(folder, f"trials/{trial}/cases.parquet")),
        new,
    )
    save_index(folder, {**index, **new})


@contextmanager
def trial_files(run_dir: Path, names: Collection[str]) -> Iterator[Path]:
    """Give a folder with files of a trial: its own, or a copy from S3 that goes when this ends.

    Args:
        run_dir: The trial's folder, in the study's or in the mirror of one in S3.
        names: Those to bring, of which the ones that there are come; relative to it.

    Raises:
        OSError: S3 does not answer, or the disk is full.
    """
    study = remote_of(run_dir.parents[1])
    if study is None:
        yield run_dir
        return
    trial, files = _newest_files(study, run_dir)
    with tempfile.TemporaryDirectory(prefix="segtune-") as temporary:
        here = Path(temporary)
        wanted = {*names} & {*files}
        in_parallel(lambda name: trial.download(files[name], below(here, name)), wanted)
        yield here
