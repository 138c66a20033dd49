"""Progress: bars of the steps that take long, on a terminal; and a line a validation."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from trainer.terminal import guarded_streams, unguarded

T = TypeVar("T")

SHOWN = {
    "val/dice": ("dice", ".3f", ""),
    "val/lesion_f1": ("f1", ".3f", ""),
    "val/avd_ml": ("avd", "6.1f", " mL"),
    "train/loss": ("loss", ".4f", ""),
    "time/epoch_s": ("train", ".1f", " s"),
    "time/validate_s": ("validate", ".1f", " s"),
}
"""What a line of progress shows: by metric its name there, its format and its unit."""
MAX_SHOWN = 8


def progress_line(epoch: int, epochs: int | None, metrics: Mapping[str, float]) -> str:
    """Return a validation as a line of progress; of metrics that are not SHOWN the first few.

    Args:
        epoch: Of the validation.
        epochs: Of the whole training, None where that is not known.
        metrics: By key.
    """
    known = [key for key in SHOWN if key in metrics]
    named = {key: SHOWN.get(key, (key, ".4g", "")) for key in known or [*metrics][:MAX_SHOWN]}
    shown = [f"{name} {metrics[key]:{form}}{unit}" for key, (name, form, unit) in named.items()]
    return "  ".join([f"epoch {epoch:4d}{f'/{epochs}' if epochs is not None else ''}", *shown])


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
    console = Console(file=unguarded(sys.stderr))
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
    with Progress(*columns, console=console, transient=True) as progress, guarded_streams():
        task = progress.add_task(what, total=total)
        yield lambda done: progress.advance(task, done)


def tracked(items: Sequence[T], what: str) -> Iterator[T]:
    """Yield items under a bar."""
    with bar(what, len(items)) as advance:
        for item in items:
            yield item
            advance(1)
