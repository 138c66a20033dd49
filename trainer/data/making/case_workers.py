"""Preparing cases in parallel processes, which end with the one that began them, at once."""

import multiprocessing
import os
import threading
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from trainer.configfile import ConfigError
from trainer.data.case_file import CaseSettings, prepare_case
from trainer.data.files import BadFile
from trainer.data.formats.case import RawCase
from trainer.data.making.processes import begun


def prepared(
    todo: list[RawCase],
    folder: Path,
    settings: CaseSettings,
    prints: dict[str, str],
    workers: int,
) -> Generator[tuple[str, dict[str, Any] | str], None, None]:
    """Prepare cases, in processes if that pays, and yield each as it is finished.

    Closing the generator kills the processes: close it where an interrupt may come.

    Args:
        todo: The cases.
        folder: Where their files go.
        settings: What they depend on, beside their files.
        prints: Fingerprints by case.
        workers: Processes at most.

    Yields:
        A case, and its record or the line that says why it cannot be used.

    Raises:
        ConfigError: A process was killed.
        OSError: A disk is full, or away.
    """
    jobs = [(case, folder, settings, prints[case.case_id]) for case in todo]
    workers = min(workers, len(jobs))
    if workers < 2:
        yield from ((job[0].case_id, _attempt(*job)) for job in jobs)
        return
    others = {*multiprocessing.active_children()}
    # Spawned, not forked: the caller may have threads (Ray, torch), and forks of those hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_end_with_parent) as pool:
        try:
            futures = begun(pool, _attempt, jobs)
            case_ids = {future: job[0].case_id for future, job in zip(futures, jobs, strict=True)}
            for future in as_completed(futures):
                yield case_ids[future], future.result()
        except BrokenProcessPool as error:
            raise ConfigError(
                [f"{folder.parent}: a worker process was killed, probably for lack of memory: "
                 f"finished cases are kept; run it again with fewer --workers than {workers}"]
            ) from error  # fmt: skip
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in {*multiprocessing.active_children()} - others:
                child.kill()  # a case may take minutes yet
            raise


def _end_with_parent() -> None:
    """Let a worker end when its parent is killed: otherwise it would wait for work for ever."""

    def watch() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _attempt(
    case: RawCase, folder: Path, settings: CaseSettings, fingerprint: str
) -> dict[str, Any] | str:
    """Return the case's record, or the line that says why its files cannot be used."""
    try:
        return prepare_case(case, folder, settings, fingerprint)
    except BadFile as error:
        return str(error)
