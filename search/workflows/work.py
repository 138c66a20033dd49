"""`segtune work`: give what a job was granted to a study, for as long as both are there.

Every job is called with the same words. One of them takes the lease in the study's folder `head`:
it starts Ray's head and the driver. The others join its Ray. When the head's job ends, whichever
job is quicker takes the lease, and the driver goes on there; when another one ends, the driver lets
its trials write checkpoints first, and they go on elsewhere.
"""

import errno
import fcntl
import math
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from search.execution.auth import say_token
from search.execution.own_ray.head import (
    ask_to_leave,
    head_folder,
    let_go,
    said,
    say,
    waits_to_leave,
)
from search.execution.own_ray.node import Node, end_with_parent
from search.ledger.lease import BeingRun, Lease, holder
from search.ledger.waiting import Wait
from search.storage.modes import use_modes_of
from search.storage.studies import display_path, writer_of
from trainer.configfile import ConfigError
from trainer.exit_status import Exit

LOOK_S = 1.0
GONE_S = 10.0
"""Without a head for so long, a node looks for another one."""
CRASHES = 8
"""So many in a row, within LASTED_S each, of a driver or a Ray, and a job gives up."""
LASTED_S = 60.0


def work(folder: Path, drive: Sequence[str], *, leave_s: float = 480) -> int:
    """Serve a study until it has ended, or until a signal says that this job has to go.

    Args:
        folder: The study's, which all jobs share; it need not exist.
        drive: The driver's command, to which `--address HOST:PORT` is added.
        leave_s: How long trials may take to write their checkpoints once a signal came.

    Returns:
        Exit status: the driver's when it ended by itself, AWAY when this job left before.

    Raises:
        ValueError: A driver runs the study on a Ray that nobody can join, or no Ray can start here.
        OSError: The folder cannot be written, or Ray does not start, time and again.
    """
    head = head_folder(folder)
    use_modes_of(folder)
    head.mkdir(parents=True, exist_ok=True)
    if not os.access(head, os.W_OK | os.X_OK):  # else it would wait for a head that it cannot join
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(head))
    say_token()
    crashes, problem, waits = 0, "", Wait()
    with _told() as told:
        while not told:
            begun_s = time.monotonic()
            try:
                status = _serve(folder, drive, told, leave_s, waits)
            except OSError as error:
                status, problem = Exit.WRONG, str(error)
                print(f"{problem}; again", flush=True)
            if status is not None and status in (Exit.DONE, Exit.REFUSED, Exit.BROKEN, Exit.AWAY):
                return status
            if status is not None:
                crashes = 1 if time.monotonic() - begun_s > LASTED_S else crashes + 1
                if crashes >= CRASHES:
                    raise OSError(problem or f"the driver crashed {crashes} times in a row")
                pause_s = 2.0**crashes / 2
                print(f"status {status}: again in {pause_s:g} s", flush=True)
                _pause(pause_s, told)
    return Exit.AWAY


def _serve(
    folder: Path, drive: Sequence[str], told: list[int], leave_s: float, waits: Wait
) -> int | None:
    """Be the head or a node of it once; return an exit status, None to look again."""
    try:
        # Who may live on another host is asked for a sign of life only where none was seen lately.
        who = holder(head_folder(folder))
        lease = None if who else Lease.take(head_folder(folder))
    except BeingRun as error:
        who, lease = error.who, None
    if lease is None:
        now = said(folder)
        if "address" in now and not now.get("leaves"):
            waits.on("")
            return _join(folder, now["address"], told, leave_s)
        waits.on(_why(now, str(who)))
        _pause(LOOK_S, told)
        return None
    try:
        now = said(folder)
        if waits.why and (status := _status(now)) is not None:  # it ended for good meanwhile
            print(f"the driver ended with status {status}", flush=True)
            return status
        if who := writer_of(folder / "ledger.jsonl"):
            if "address" in now or "member" in now:  # the driver of a head that has gone ends soon
                waits.on(f"for the end of the driver whose head has gone, {who}")
                _pause(LOOK_S, told)
                return None
            rule = "on a Ray that jobs cannot join; segtune stop, and the same line again"
            raise ConfigError([f"{display_path(folder)}: is being run by {who}, {rule}"])
        waits.on("")
        say(folder, {})
        return _lead(folder, drive, told, leave_s)
    finally:
        lease.release()


def _why(now: dict[str, Any], who: str) -> str:
    """Return for what a job waits while another one, the head, is nothing to join."""
    if now.get("leaves"):
        return f"for the head, {who}, to leave: then one of the other jobs takes over"
    if name := now.get("member"):
        return (
            f"for the head, {who}, a job of {name}'s, whose Ray only {name}'s own jobs can join: "
            "this one takes over when that leaves, and ends with the study"
        )
    return f"for the head, {who}, which starts or ends"


def _status(now: dict[str, Any]) -> int | None:
    """Return with which exit status the study's driver ended for good, None if it has not."""
    status = now.get("status")
    return status if status in (Exit.DONE, Exit.REFUSED, Exit.BROKEN) else None


def _lead(folder: Path, drive: Sequence[str], told: list[int], leave_s: float) -> int:
    """Start Ray and the driver here, and return the driver's status; AWAY where a signal came."""
    node = Node(given_up=lambda: bool(told))
    try:
        if not node.alive:
            return Exit.AWAY
        say(folder, {"address": node.address})
        print(f"head     {node.address}: the driver runs here", flush=True)
        driver = subprocess.Popen(
            [*drive, "--address", node.address], start_new_session=True, preexec_fn=end_with_parent
        )
        passed_on, end_s = False, math.inf
        while driver.poll() is None:
            if told and not passed_on:
                print("asked to make room: the study writes its checkpoints", flush=True)
                driver.send_signal(signal.SIGTERM)
                passed_on, end_s = True, time.monotonic() + leave_s
                say(folder, {"address": node.address, "leaves": True})  # nobody joins any more
            elif time.monotonic() > end_s:  # the ledger stands that, and the wall would be worse
                driver.kill()
            time.sleep(LOOK_S / 4)
        status = driver.returncode if driver.returncode >= 0 else 128 - driver.returncode
        if passed_on and status not in (Exit.REFUSED, Exit.BROKEN):
            say(folder, {})
            return Exit.AWAY
        # Of a status that another call may mend, others hear nothing, and take over.
        ended = status in (Exit.DONE, Exit.REFUSED, Exit.BROKEN)
        say(folder, {"status": status} if ended else {})
        return Exit.WRONG if status == Exit.AWAY else status
    finally:
        node.end()


def _join(folder: Path, address: str, told: list[int], leave_s: float) -> int | None:
    """Be a node of a head's Ray; return an exit status, None when the head has gone."""
    gone = _gone(folder, address)

    def given_up() -> bool:
        return bool(told) or gone()

    with _turn(folder, given_up):
        node = Node(address, given_up)
    try:
        if node.alive:
            print(f"node     of the Ray at {address}", flush=True)
        while node.alive and not told and not gone():
            _pause(LOOK_S, told)
        if (status := _status(said(folder))) is not None:
            return status
        if told and node.alive:
            _leave(folder, node.name, leave_s, gone)
    finally:
        node.end()
    return Exit.AWAY if told else None


def _gone(folder: Path, address: str) -> Callable[[], bool]:
    """Return what says whether the head at an address has gone, by its word or for GONE_S."""
    heard_s = time.monotonic()

    def gone() -> bool:
        nonlocal heard_s
        if holder(head_folder(folder)):
            heard_s = time.monotonic()
        return said(folder).get("address") != address or time.monotonic() - heard_s > GONE_S

    return gone


@contextmanager
def _turn(folder: Path, given_up: Callable[[], bool]) -> Iterator[None]:
    """Let the nodes of one host start one after the other, unless there is no need any more.

    Jobs begin together, and Ray gives a node up that has not started within 30 s.
    """
    with ExitStack() as stack:
        with suppress(PermissionError):  # another member of a group began it: it takes no turns
            place = head_folder(folder) / f"starts.{socket.gethostname()}"
            file, waits = stack.enter_context(open(place, "a")), Wait()
            while not given_up():
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    waits.on("for another job's node on this host to start")
                    time.sleep(LOOK_S / 4)
        yield


def _leave(folder: Path, name: str, leave_s: float, gone: Callable[[], bool]) -> None:
    """Wait until the driver has taken its trials from a node."""
    print("asked to make room: the trials here write their checkpoints", flush=True)
    ask_to_leave(folder, name)
    end_s = time.monotonic() + leave_s
    while waits_to_leave(folder, name) and not gone() and time.monotonic() < end_s:
        time.sleep(LOOK_S / 4)
    let_go(folder, name)


@contextmanager
def _told() -> Iterator[list[int]]:
    """Collect the signals that ask this job to go."""
    told: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        signal.signal(number, lambda number, frame: told.append(number))
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _pause(seconds: float, told: list[int]) -> None:
    end_s = time.monotonic() + seconds
    while not told and time.monotonic() < end_s:
        time.sleep(min(0.2, seconds))
