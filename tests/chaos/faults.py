"""The faults. Each does its damage, waits until that was noticed, and undoes what must be undone.

A fault is a generator: up to its first `yield` it strikes, and yields whom; what follows, as soon
as it is asked for more, waits for what says that the study knows of it, and mends the machine.
"""

import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

from tests.chaos.hosts import Process, wait_for
from tests.chaos.lan import RayHost
from tests.chaos.study import Run

T = TypeVar("T")


@dataclass(frozen=True)
class Strike:
    """Whom a fault struck.

    Attributes:
        what: In words.
        trials: The trials that it keeps from training.
        cause: What the ledger must say of their attempts if they die; empty if those live on, or
            if the driver dies as well and can say nothing.
        told: The event that tells of the fault, after which the trials train again; empty for a
            fault that leaves no trace.
    """

    what: str
    trials: frozenset[int] = frozenset()
    cause: str = ""
    told: str = ""


class NoVictim(Exception):
    """The study ended before there was anything to strike."""


Fault = Callable[[Run, random.Random], Iterator[Strike]]


def kill_process(run: Run, draw: random.Random) -> Iterator[Strike]:
    """SIGKILL a trial's process."""
    trial, host, process = victim(run, draw)
    process.signal(signal.SIGKILL)
    yield Strike(f"trial {trial} on {host.name}", frozenset({trial}), "process", "interrupted")


def corrupt_checkpoint(run: Run, draw: random.Random) -> Iterator[Strike]:
    """Damage a trial's newest checkpoint and SIGKILL its process: the one before it is used."""
    trial, host, process = victim(run, draw, epoch=2)
    process.signal(signal.SIGSTOP)  # else a newer one may come between
    newest = checkpoints(run, trial)[-1]
    content = bytearray(newest.read_bytes())
    how = draw.choice(["cut short", "empty", "with a wrong byte"])
    if how == "with a wrong byte":
        content[draw.randrange(len(content) // 4, 3 * len(content) // 4)] ^= 0x10
    else:
        del content[len(content) // 2 if how == "cut short" else 0 :]
    newest.write_bytes(content)
    process.signal(signal.SIGKILL)
    what = f"trial {trial} on {host.name}: {newest.stem.lstrip('0')}.pt {how}"
    yield Strike(what, frozenset({trial}), "process", "interrupted")
    wait_for(lambda: content_of(newest) != content, f"a new {newest.name}")


def stop_process(run: Run, draw: random.Random) -> Iterator[Strike]:
    """SIGSTOP a trial's process: it hangs without dying, and answers nobody."""
    trial, host, process = victim(run, draw)
    process.signal(signal.SIGSTOP)
    yield Strike(f"trial {trial} on {host.name}", frozenset({trial}), "hung", "interrupted")


def hang(run: Run, draw: random.Random) -> Iterator[Strike]:
    """Let a toy's training wait for ever, while its process answers."""
    trial, host, _ = victim(run, draw)
    order = run.folder / "toy" / "hang"
    order.write_text(f"{trial:04d}")
    yield Strike(f"trial {trial} on {host.name}", frozenset({trial}), "hung", "interrupted")


def kill_raylet(run: Run, draw: random.Random) -> Iterator[Strike]:
    """SIGKILL a node's raylet; the node is started again when its loss was noticed, or at once."""
    host, trials = busy_host(run, draw)
    raylet = host.raylet()
    assert raylet
    raylet.signal(signal.SIGKILL)
    at_once = draw.random() < 0.5
    strike = Strike(
        f"{host.name}{', back at once' if at_once else ''}", trials, "node", "interrupted"
    )
    yield strike
    if not at_once:
        noticed(run, strike)
    run.lan.start_ray(host)


def flicker(run: Run, draw: random.Random) -> Iterator[Strike]:
    """Cut a host's link for 5 s, which nobody has to notice."""
    host, trials = busy_host(run, draw)
    host.link(up=False)
    yield Strike(host.name, trials)
    time.sleep(5)
    host.link(up=True)


def cut(run: Run, draw: random.Random) -> Iterator[Strike]:
    """Cut a host's link until its node is given up; then it comes back, with a new node.

    What trained there sees the shared folder all the time, and must write nothing more.
    """
    host, trials = busy_host(run, draw)
    strike = Strike(host.name, trials, "node", "interrupted")
    host.link(up=False)
    yield strike
    noticed(run, strike)
    host.link(up=True)
    wait_for(lambda: not host.raylet(), f"the old raylet's end on {host.name}")
    run.lan.start_ray(host)


def power_off(run: Run, draw: random.Random) -> Iterator[Strike]:
    """Switch a host off, all at once, and after its loss was noticed a new one on."""
    host, trials = busy_host(run, draw)
    strike = Strike(host.name, trials, "node", "interrupted")
    host.power_off()
    yield strike
    noticed(run, strike)
    run.lan.start_ray(run.lan.power_on(host))


def kill_driver(run: Run, draw: random.Random) -> Iterator[Strike]:
    """SIGKILL the driver; it is launched again."""
    driver = found(run, run.driver, "a driver")
    trials = frozenset(run.attempts())
    driver.signal(signal.SIGKILL)
    yield Strike("launched again", trials, told="driver")
    wait_for(lambda: driver not in run.host.processes("driver"), "the driver's end")


def suspend_driver(run: Run, draw: random.Random) -> Iterator[Strike]:
    """SIGSTOP the driver; one on another machine, by another clock, takes over; then it wakes up.

    Boot ids and clocks differ, so that only the age of the lease tells, by the files' own dates.
    The first must then end and write nothing more.
    """
    driver, slept = found(run, run.driver, "a driver"), run.host
    trials, known = frozenset(run.attempts()), len(run.events("driver"))
    said = len(run.log())
    driver.signal(signal.SIGSTOP)
    run.move()
    yield Strike(f"of {slept.name}, {run.host.name} takes over", trials, told="driver")
    run.wait(lambda: len(run.events("driver")) > known, "another driver to take over")
    driver.signal(signal.SIGCONT)
    wait_for(lambda: driver not in slept.processes("driver"), "the end of who was asleep")
    assert "has taken this study over; this one writes nothing more" in slept.log("driver")[said:]


def restart_head(run: Run, draw: random.Random) -> Iterator[Strike]:
    """Stop the head, and with it the whole cluster; the driver dies, and is launched again."""
    trials = frozenset(run.attempts())
    run.lan.head.stop_ray()
    yield Strike("and the other nodes, which lose it", trials, told="driver")
    time.sleep(draw.uniform(0, 4))
    run.lan.start_cluster()


def kill_mlflow(down_s: float) -> Fault:
    """Return the fault that kills the MLflow server for a time, during which others may strike."""

    def fault(run: Run, draw: random.Random) -> Iterator[Strike]:
        run.mlflow.wait()
        run.mlflow.kill(down_s)
        yield Strike(f"back after {down_s:g} s, meanwhile others strike")

    fault.__name__ = "kill_mlflow"
    return fault


def fill_storage(run: Run, draw: random.Random) -> Iterator[Strike]:
    """Fill the shared folder to the last byte until somebody meets that."""
    known = len(run.events("interrupted")), run.log().count("waiting for space")
    filler = run.lan.share / "filler"
    trials = frozenset(run.attempts())
    fill(filler)
    yield Strike("the shared folder", trials, "storage")
    try:
        run.wait(
            lambda: known != (len(run.events("interrupted")), run.log().count("waiting for space")),
            "someone to meet the full storage",
        )
        time.sleep(draw.uniform(0, 5))
    finally:
        filler.unlink()


def fill(path: Path) -> None:
    """Write a file until there is no space left, while others write as well."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 16))


def victim(run: Run, draw: random.Random, epoch: int = 0) -> tuple[int, RayHost, Process]:
    """Choose a trial that trains, has reported so many epochs and has some before its end."""

    def choices() -> list[tuple[int, RayHost, Process]]:
        trials = run.state().trials
        return [
            (trial, *where)
            for trial, where in run.attempts().items()
            if trials[trial].epoch >= epoch and run.plan.goes_on(trials[trial].epoch)
        ]

    return draw.choice(found(run, choices, "a trial that trains"))


def busy_host(run: Run, draw: random.Random) -> tuple[RayHost, frozenset[int]]:
    """Choose a host without head and driver on which trials train, and return these."""

    def choices() -> list[tuple[RayHost, frozenset[int]]]:
        where = {trial: host for trial, (host, _) in run.attempts().items()}
        return [
            (host, frozenset(trial for trial, its in where.items() if its is host))
            for host in run.lan.hosts[1:]
            if host in where.values() and host is not run.host
        ]

    return draw.choice(found(run, choices, "a host that trains"))


def found(run: Run, look: Callable[[], T | None], what: str) -> T:
    """Wait until there is something to strike.

    Raises:
        NoVictim: The study ended before.
    """
    if not (it := run.wait(look, what)):
        raise NoVictim(what)
    return cast(T, it)


def noticed(run: Run, strike: Strike) -> None:
    """Wait until the ledger says of every trial that was struck that its attempt died."""
    # A trial's next attempt may have begun meanwhile.
    before = {trial: len(run.state().trials[trial].attempts) for trial in strike.trials}

    def all_noticed() -> bool:
        trials = run.state().trials
        return all(
            not trials[t].running or len(trials[t].attempts) > before[t] for t in strike.trials
        )

    run.wait(all_noticed, "the loss of a node to be noticed")


def checkpoints(run: Run, trial: int) -> list[Path]:
    """Return a trial's checkpoints, the newest last."""
    return sorted((run.folder / "trials" / f"{trial:04d}" / "checkpoints").glob("*.pt"))


def content_of(path: Path) -> bytes | None:
    """Return what is in a file, None if it is gone."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
