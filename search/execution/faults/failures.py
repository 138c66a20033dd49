"""Why an attempt died, and whether that counts against its trial.

A node that is preempted or lost, a storage that is full or gone and a machine without memory are
nobody's fault: a trial may meet them for ever, or often. A process that dies alone, hangs or raises
may do so because of what it trains.
"""

import errno
import os
import pickle
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ray import cloudpickle
from ray.exceptions import (
    ActorUnavailableError,
    NodeDiedError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
)
from ray.tune.experiment import Trial

from search.report.text import as_printed
from trainer.configfile import ConfigError
from trainer.exceptions import StoreChanged, StoreError
from trainer.files.passing_faults import PASSING

Cause = Literal["stop", "node", "process", "hung", "error", "storage", "data", "memory", "machine"]

STORAGE_ERRORS = PASSING | {errno.EROFS, errno.EMFILE}
"""Full, gone or failing: of a shared file system most mean that its server does not answer."""
AWAY_ERRORS = {errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM}
"""What is not where it was, or not for us: of the store, and of the study where the run folder
itself is gone, a fault of storage; of any other file, a trial's own."""
MENDLESS = (ImportError, SyntaxError, ConfigError)
"""Errors that every other attempt on the same node meets as well."""

MAX_REASON = 500
"""Characters of a reason; its trial's log has the rest."""

_RAISED = re.compile(r"(?!ray::)[A-Za-z_][\w.]*(: |$)")
"""The line of a traceback that names the exception."""
_QUOTED = re.compile("'([^']+)'")
"""A path in a message of pyarrow, whose errors have no `filename`."""
_NODE = re.compile(r"\bnode\b.*\b(died|dead|terminated|failed|removed|preempted)\b", re.I | re.S)
_KILLED = re.compile(r" ended with status -9|: rank \d+: The actor died")


class Named(RuntimeError):
    """Stands for an error that cannot leave its process; the message is that one's line."""


class Fault(NamedTuple):
    """Why an attempt died."""

    cause: Cause
    reason: str
    """One line."""
    mendless: bool = False
    """Another attempt on the same node cannot do better."""
    killed: bool = False
    """A process was perhaps killed from outside, as the kernel does where memory is short."""


def fault_of(trial: Trial, hung: bool) -> Fault:
    """Return why Ray Tune's trial has just ended in an error.

    Args:
        trial: An attempt.
        hung: Whether the driver ended it because it gave no sign of life.
    """
    if hung:
        return Fault("hung", "no sign of life: its process was ended")
    try:
        error = pickle.loads(Path(trial.pickled_error_file).read_bytes())
    except (OSError, TypeError, pickle.UnpicklingError, AttributeError, ImportError):
        return _without_its_error(trial)
    while cause := getattr(error, "cause", None):
        error = cause
    text, reason = as_printed(str(error)).strip(), reason_of(error)
    if isinstance(error, OutOfMemoryError):
        return Fault("memory", f"the node ran out of memory, and Ray ended this process: {reason}")
    if isinstance(error, StoreChanged):
        return Fault("data", reason)
    if isinstance(error, StoreError) or (
        isinstance(error, OSError) and _of_storage(error, trial.config)
    ):
        return Fault("storage", reason)
    # Unavailable: of a process that dies alone its node tells within a second; none told of this.
    if isinstance(error, NodeDiedError | ActorUnavailableError):
        return Fault("node", reason)
    if isinstance(error, RayActorError):
        lost = getattr(error, "preempted", False) or _NODE.search(text)
        return Fault("node" if lost else "process", reason, killed=not lost)
    mendless = isinstance(error, MENDLESS)
    return Fault("error", reason, mendless, killed=bool(_KILLED.search(reason)))


def as_sent(error: BaseException) -> Exception:
    """Return an error as Ray and Tune can copy it and load it elsewhere: itself, or as `Named`.

    They cannot if its `__init__` takes other arguments than it gives on, and take an interrupt for
    a task that was cancelled, an exit for the death of the process.
    """
    if isinstance(error, Exception):
        with suppress(Exception):
            pickle.loads(cloudpickle.dumps(error))
            return error
    return Named(reason_of(error))


def reason_of(error: BaseException) -> str:
    """Return an error as the last line of its traceback says it, without colours, and bounded.

    Of one that Ray has as text only, the line is looked for in that text.
    """
    if isinstance(error, Named):
        return str(error)
    text = as_printed(str(error))
    as_text = type(error) is RayError or isinstance(error, RayTaskError)
    if as_text or getattr(error, "actor_init_failed", False):
        return _raised(text) or "its process died"
    first = (text.strip().splitlines() or [""])[0].strip()
    line = f"{type(error).__name__}: {first}".removesuffix(": ")
    if isinstance(error, BaseExceptionGroup):
        line += f": {reason_of(error.exceptions[0])}"
    return line[:MAX_REASON]


def _raised(text: str) -> str:
    """Return the last line of a traceback that names the exception; empty if there is none."""
    raised = [line.strip() for line in text.splitlines() if _RAISED.match(line)]
    return raised[-1][:MAX_REASON] if raised else ""


def _without_its_error(trial: Trial) -> Fault:
    """Return the fault of an attempt whose error Tune could not keep, or nobody can load here."""
    try:
        text = as_printed(Path(trial.error_file).read_text(errors="replace"))
    except (OSError, TypeError):
        text = ""
    _, found, traceback = text.partition("Original exception:\n")
    if found and (reason := _raised(traceback)):
        return Fault("error", reason)
    return Fault("process", "its process died", killed=True)


def _of_storage(error: OSError, spec: Mapping[str, Any]) -> bool:
    """Return whether an error is one of what keeps a trial's data or its results."""
    if error.errno not in AWAY_ERRORS:
        return error.errno in STORAGE_ERRORS
    named = _QUOTED.findall(str(error)) if error.filename is None else [str(error.filename)]
    run_dir = Path(spec["run_dir"])
    places = [Path(spec["train"]["data"]["store"])] if spec["has_data"] else []
    if not os.access(run_dir, os.F_OK):
        places.append(run_dir.parents[1])
    return any(Path(name).is_relative_to(place) for name in named for place in places)
