"""Progress bars of the steps that take long; silent unless stderr is a terminal."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")


@contextmanager
def bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show how far a step is, and nothing of it afterwards.

    Of several processes (torchrun) the first shows it.

    Args:
        what: The step, `validating` say.
        total: Of its parts.

    Yields:
        What to call with the number of parts that were done since the last call.
    """
    console = Console(stderr=True)
    # Not the console's file, which is the terminal also while a live screen has taken stderr over.
    on_terminal = sys.stderr.isatty() and not console.is_dumb_terminal
    if not on_terminal or os.environ.get("RANK", "0") != "0":
        yield lambda done: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.advance(task, done)


def tracked(items: Sequence[T], what: str) -> Iterator[T]:
    """Yield items under a bar."""
    with bar(what, len(items)) as advance:
        for item in items:
            yield item
            advance(1)
