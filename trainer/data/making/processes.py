"""Jobs in processes that a terminal's signals reach only through the one that began them."""

import signal
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Any, TypeVar

Result = TypeVar("Result")

TOLD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that a terminal or a scheduler sends to all processes: the first one ends the others."""

LOOK_S = 0.2


def begun(
    pool: ProcessPoolExecutor, function: Callable[..., Result], jobs: Iterable[tuple[Any, ...]]
) -> list[Future[Result]]:
    """Submit jobs, with TOLD blocked in the processes for good, and wait for the first result.

    Args:
        pool: Without processes as yet.
        function: Called with each job's parts.
        jobs: One a call.

    Returns:
        One future a job, in their order.
    """
    earlier = signal.pthread_sigmask(signal.SIG_BLOCK, TOLD)
    try:
        futures = [pool.submit(function, *job) for job in jobs]
    finally:  # raises what came meanwhile
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier)
    # Another thread may have taken it instead, which wakes nobody who waits without a limit.
    while futures and not wait(futures, LOOK_S, FIRST_COMPLETED).done:
        pass
    return futures
