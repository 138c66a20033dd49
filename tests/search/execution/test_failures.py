"""Why an attempt died, as the driver reads it from what Ray Tune keeps of the error."""

import errno
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray import cloudpickle
from ray.exceptions import ActorDiedError, ActorUnavailableError, NodeDiedError, RayTaskError

from search.execution.failures import fault_of


def task_error(error: Exception) -> Exception:
    """Return what the driver gets where a task raised."""
    return RayTaskError("step", "Traceback …", error).as_instanceof_cause()


def died(text: str) -> ActorDiedError:
    error = ActorDiedError()
    error.error_msg = text
    return error


@pytest.mark.parametrize(
    ("error", "cause", "reason"),
    [
        (task_error(ValueError("no\nsuch thing")), "error", "ValueError: no"),
        (task_error(OSError(errno.ENOSPC, "full", "/x")), "storage", "OSError: [Errno 28] full"),
        (task_error(FileNotFoundError(errno.ENOENT, "gone", "/x")), "error", "FileNotFoundError"),
        (died("The actor died because its node has died."), "node", "ActorDiedError: The actor"),
        (died("its node was terminated expectedly: drained"), "node", "ActorDiedError: its node"),
        (died("Worker unexpectedly exits: killed by SIGKILL"), "process", "ActorDiedError: Worker"),
        (NodeDiedError("gone"), "node", "NodeDiedError"),
        (ActorUnavailableError("Socket closed", None), "node", "ActorUnavailableError"),
    ],
)
def test_the_cause_is_read_from_the_error_that_tune_keeps(
    tmp_path: Path, error: Exception, cause: str, reason: str
) -> None:
    path = tmp_path / "error.pkl"
    path.write_bytes(cloudpickle.dumps(error))  # as Tune does
    fault = fault_of(SimpleNamespace(pickled_error_file=str(path)), hung=False)
    assert fault.cause == cause and fault.reason.startswith(reason), fault


def test_hung_and_unknown() -> None:
    attempt = SimpleNamespace(pickled_error_file=None)
    assert fault_of(attempt, hung=True).cause == "hung"
    assert fault_of(attempt, hung=False).cause == "process"
