"""Runs a command as its process would, within limits, and judges the answer to bad input."""

import contextlib
import io
import resource
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal

import search.cli.main
import trainer.__main__

Kind = Literal["study files", "commands", "images"]

COUNTS: dict[str, Counter[str]] = {}
"""By kind, how many inputs were refused and how many were read right; conftest.py prints it."""

CPU_S = 20
MEMORY = 3 << 30
"""Bytes that a case may take beyond what the tests had before it."""
LONGEST_LINE = 1000
MOST_LINES = 60


@dataclass(frozen=True)
class Answer:
    """What a person sees of a command."""

    status: int
    lines: list[str]
    """Of stderr."""
    out: str


class TooLong(BaseException):
    """A command computes without end; no `except Exception` may hide it."""


@contextlib.contextmanager
def limits(cpu_s: float = CPU_S, memory: int = MEMORY) -> Iterator[None]:
    """Bound the processor time and the address space of what runs inside."""

    def give_up(signum: int, frame: FrameType | None) -> None:
        raise TooLong(f"more than {cpu_s} s of processor time")

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGPROF, give_up)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + memory, hard))
    signal.setitimer(signal.ITIMER_PROF, cpu_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGPROF, before)


def run(*words: str | Path, program: str = "segtune") -> Answer:
    """Run `segtune WORDS` or `python -m trainer WORDS` here, as its process would.

    An exception that its process would show as a traceback comes out of this.
    """
    command = {"segtune": search.cli.main.main, "trainer": trainer.__main__.cli}[program]
    argv, sys.argv = sys.argv, [program, *map(str, words)]
    out, err = io.StringIO(), io.StringIO()
    status: object = 0
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            warnings.catch_warnings(record=True) as said,
            limits(),
        ):
            warnings.simplefilter("always")
            command()
    except SystemExit as ended:
        status = ended.code
    finally:
        sys.argv = argv
    numeric = [str(each.message) for each in said if issubclass(each.category, RuntimeWarning)]
    assert not numeric, f"warnings on stderr: {numeric}"
    assert isinstance(status, int | None), status
    return Answer(status or 0, err.getvalue().splitlines(), out.getvalue())


def judge(kind: Kind, answer: Answer, *begins: str | Path, may_work: bool = False) -> bool:
    """Judge an answer, and count it.

    Args:
        kind: Under which to count it.
        answer: Of the command.
        *begins: What every line of a refusal must begin with, one of these.
        may_work: Whether status 0 is right too; the caller then checks the result.

    Returns:
        Whether the input was refused.
    """
    shown = f"status {answer.status}: {answer.lines[:5]}"
    refused = answer.status != 0
    if refused:
        assert answer.status == 2, shown
        assert 1 <= len(answer.lines) <= MOST_LINES, f"{len(answer.lines)} lines: {shown}"
        for line in answer.lines:
            assert len(line) <= LONGEST_LINE, f"{len(line)} characters: {line[:200]}"
            assert line.isprintable(), repr(line)
            assert "Traceback" not in line, shown
            assert line.startswith(tuple(map(str, begins))), f"{begins}: {shown}"
            assert line.split(": ")[-1].strip(), line
    else:
        assert may_work, f"was taken as good: {answer.out[-500:]}"
        assert not answer.lines, shown
    COUNTS.setdefault(kind, Counter())["refused" if refused else "right"] += 1
    return refused
