"""Why an attempt died, and whether that counts against its trial.

A node that is preempted or lost and a storage that is full or gone are nobody's fault: a trial may
meet them for ever. A process that dies alone, hangs or raises may do so because of what it trains.
"""

import errno
import pickle
import re
from pathlib import Path
from typing import Literal, NamedTuple

from ray.exceptions import ActorUnavailableError, NodeDiedError, RayActorError
from ray.tune.experiment import Trial

Cause = Literal["stop", "node", "process", "hung", "error", "storage"]

STORAGE_ERRORS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EIO,
    errno.EROFS,
    errno.ESTALE,
    errno.ENOTCONN,
    errno.ETIMEDOUT,
    errno.EREMOTEIO,
}
"""Full, gone or failing: of a shared file system most mean that its server does not answer."""

_NODE = re.compile(r"\bnode\b.*\b(died|dead|terminated|failed|removed|preempted)\b", re.I | re.S)


class Fault(NamedTuple):
    """Why an attempt died."""

    cause: Cause
    reason: str
    """One line."""


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
        return Fault("process", "its process died")
    error = getattr(error, "cause", None) or error
    text = str(error).strip()
    reason = f"{type(error).__name__}: {(text.splitlines() or [''])[0]}"
    if isinstance(error, OSError) and error.errno in STORAGE_ERRORS:
        return Fault("storage", reason)
    # Unavailable: of a process that dies alone its node tells within a second; none told of this.
    if isinstance(error, NodeDiedError | ActorUnavailableError):
        return Fault("node", reason)
    if isinstance(error, RayActorError):
        lost = getattr(error, "preempted", False) or _NODE.search(text)
        return Fault("node" if lost else "process", reason)
    return Fault("error", reason)
