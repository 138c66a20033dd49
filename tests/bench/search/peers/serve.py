"""The peer's end of the lines. Imports the standard library only."""

import json
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any, Protocol


class Search(Protocol):
    """One search of a peer's."""

    def next(self) -> tuple[int, dict[str, Any]] | None:
        """Return a trial to start or to go on with."""
        ...

    def report(self, trial: int, epoch: int, value: float) -> bool:
        """Return whether the trial goes on; a value that is not finite is a divergence."""
        ...

    def incumbent(self) -> int | None:
        """Return the trial that the peer would call its best."""
        ...


def serve(make: Callable[..., Search], rungs: Iterable[int]) -> None:
    """Answer lines of calls, each with the answer to its last, until the input ends.

    The call `begin` makes a search, and its answer is `rungs`; others are the search's methods.

    Args:
        rungs: Epochs at which `report` may stop a trial; between them it is told later.
        make: Takes `space` (by name the fields of a Dimension that are set), `mode`, `seed`,
            `max_t`, and `stated`, parameters that are to be tried first, or None.
    """
    # What libraries print must not come between the lines.
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    out.write("ready\n")
    search: Any = None
    for line in sys.stdin:
        answer: Any = None
        for name, arguments in json.loads(line):
            if name == "begin":
                search, answer = make(**arguments), list(rungs)
            else:
                answer = getattr(search, name)(**arguments)
        out.write(json.dumps(answer) + "\n")
