"""Why an attempt died, as the driver reads it from what Ray Tune keeps of the error."""

import copy
import errno
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray import cloudpickle
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    NodeDiedError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    UnserializableException,
)
from ray.tune.experiment import Trial

from search.execution.faults.failures import MAX_REASON, as_sent, fault_of, reason_of
from search.execution.faults.memory import oom_kills
from search.execution.session import RAY_SWITCHES
from trainer.exceptions import StoreChanged, StoreError


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
        (
            task_error(FileNotFoundError(errno.ENOENT, "gone", "/data/store/cases/a.npz")),
            "storage",
            "FileNotFoundError",
        ),
        (
            task_error(PermissionError(errno.EACCES, "refused", "/runs/toy/trials/0003/owner")),
            "storage",
            "PermissionError",
        ),
        (
            task_error(FileNotFoundError(errno.ENOENT, "gone", "/data/store2/cases/a.npz")),
            "error",
            "FileNotFoundError",
        ),
        (
            task_error(PermissionError(errno.EACCES, "Failed to open '/data/store/a.arrow'")),
            "storage",
            "PermissionError: [Errno 13] Failed to open",
        ),
        *(
            (task_error(OSError(code, "so")), "storage", "")
            for code in (errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENOMEM, errno.ETIMEDOUT)
        ),
        (task_error(StoreError(["/data/store: not a prepared store"])), "storage", "StoreError"),
        (task_error(StoreChanged(["/data/store: damaged store"])), "data", "StoreChanged"),
        (
            OutOfMemoryError("1 worker(s) were killed\nMemory on the node"),
            "memory",
            "the node ran out of memory, and Ray ended this process: OutOfMemoryError: 1 worker",
        ),
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
    told = {"train": {"data": {"store": "/data/store"}}, "has_data": True}
    config = told | {"run_dir": "/runs/toy/trials/0003"}
    attempt = SimpleNamespace(pickled_error_file=str(path), config=config)
    fault = fault_of(attempt, hung=False)
    assert fault.cause == cause and fault.reason.startswith(reason), fault


@pytest.mark.parametrize(("there", "cause"), [(True, "error"), (False, "storage")])
def test_a_missing_file_of_a_run_folder_that_is_there_is_the_trials_own(
    tmp_path: Path, there: bool, cause: str
) -> None:
    path, run_dir = tmp_path / "error.pkl", tmp_path / "toy" / "trials" / "0003"
    if there:
        run_dir.mkdir(parents=True)
    error = FileNotFoundError(errno.ENOENT, "gone", str(run_dir / "weights.pt"))
    path.write_bytes(cloudpickle.dumps(task_error(error)))
    told = {"train": {"data": {"store": "/data/store"}}, "has_data": True}
    config = told | {"run_dir": str(run_dir)}
    attempt = SimpleNamespace(pickled_error_file=str(path), config=config)
    assert fault_of(attempt, hung=False).cause == cause


TRACEBACK = """\
\x1b[36mray::Trainable.train()\x1b[39m (pid=7, ip=10.0.0.1, actor_id=0f)
  File "train.py", line 7, in fit
    import no_such
\x1b[1;35mModuleNotFoundError\x1b[0m: No module named 'no_such'
"""
"""As Ray has one, in colours."""


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            task_error(RuntimeError("\x1b[31mred\x1b[0m and \abell\nmore")),
            "RuntimeError: red and bell",
        ),
        (task_error(task_error(ImportError("no such"))), "ImportError: no such"),
        (task_error(KeyError()), "KeyError"),
        (task_error(ValueError("x" * 9999)), f"ValueError: {'x' * (MAX_REASON - 12)}"),
        (RayTaskError("step", TRACEBACK, None), "ModuleNotFoundError: No module named 'no_such'"),
        (
            ActorDiedError(RayTaskError("__init__", TRACEBACK, ImportError())),
            "ModuleNotFoundError: No module named 'no_such'",
        ),
        (
            task_error(RayError(f"isn't serializable\nOriginal exception details:\n{TRACEBACK}")),
            "ModuleNotFoundError: No module named 'no_such'",
        ),
        (died("\x1b[1mThe actor died\x1b[0m\n\tclass_name: X"), "ActorDiedError: The actor died"),
    ],
)
def test_a_reason_is_the_line_of_the_real_exception_without_colours(
    error: Exception, reason: str
) -> None:
    while isinstance(cause := getattr(error, "cause", None), Exception):
        error = cause
    assert reason_of(error) == reason


class Two(OSError):
    """As many people write one: it cannot be copied or loaded."""

    def __init__(self, one: str, other: str):
        super().__init__(f"{one} and {other}")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Two("left", "right"), "Two: left and right"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (SystemExit("no data"), "SystemExit: no data"),
        (ExceptionGroup("no", [KeyError(1)]), "ExceptionGroup: no (1 sub-exception): KeyError: 1"),
        (
            ExceptionGroup("bad", [Two("left", "right"), KeyError(1)]),
            "ExceptionGroup: bad (2 sub-exceptions): Two: left and right",
        ),
    ],
)
def test_an_exception_that_cannot_leave_its_process_is_known_by_its_line(
    tmp_path: Path, error: BaseException, reason: str
) -> None:
    path = tmp_path / "error.pkl"
    sent = copy.copy(as_sent(error))  # as Tune does in the worker
    path.write_bytes(cloudpickle.dumps(task_error(sent)))
    attempt = SimpleNamespace(pickled_error_file=str(path), config={})
    fault = fault_of(attempt, hung=False)
    assert (fault.cause, fault.reason) == ("error", reason)
    assert as_sent(known := ImportError("no such")) is known


def test_an_exception_that_cannot_be_loaded_here_is_known_by_its_line(tmp_path: Path) -> None:
    """Tune keeps Ray's text of it alone."""
    path = tmp_path / "error.txt"
    attempt = SimpleNamespace(pickled_error_file=None, error_file=str(path))
    path.write_text(f"Failure # 1\n{UnserializableException(TRACEBACK)}\n")
    fault = fault_of(attempt, hung=False)
    assert (fault.cause, fault.reason) == (
        "error",
        "ModuleNotFoundError: No module named 'no_such'",
    )
    path.write_text("Failure # 1\nwhatever: it is\n")
    assert fault_of(attempt, hung=False).cause == "process"


def test_hung_and_unknown() -> None:
    attempt = SimpleNamespace(pickled_error_file=None, error_file=None)
    assert fault_of(attempt, hung=True).cause == "hung"
    assert fault_of(attempt, hung=False).cause == "process"


def test_what_the_kernel_ended_for_want_of_memory(tmp_path: Path) -> None:
    """By the process's own cgroup where that counts, else by the machine."""
    assert oom_kills(tmp_path) == -1
    (tmp_path / "vmstat").write_text("pgfault 12\noom_kill 7\n")
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "cgroup").write_text("0::/no/such/group\n")
    assert oom_kills(tmp_path) == 7
    assert oom_kills() >= 0


def test_an_attempt_whose_node_is_taken_away_is_not_begun_again_by_tune(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Tune would train it again as it was begun, and report what the ledger has already."""
    monkeypatch.setattr(Trial, "local_path", None)

    def recovers() -> bool:
        attempt = Trial("any", stub=True, max_failures=0)
        attempt.handle_error(RayActorError(preempted=True))
        return attempt.should_recover()

    switch = "RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE"
    monkeypatch.delenv(switch, raising=False)
    assert recovers(), "else the switch is not needed any more"
    monkeypatch.setenv(switch, RAY_SWITCHES[switch])
    assert not recovers()
