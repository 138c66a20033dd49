"""What a driver does while its storage is full or away: it waits, and loses nothing."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from trainer.files.passing_faults import FULL, is_passing, naming

logger = logging.getLogger(__name__)

PAUSE_S = 5.0
"""Between two attempts."""
LIMIT_S = 900.0
"""A storage that is away is waited for so long; a full one until somebody makes room."""

Result = TypeVar("Result")


def patiently(
    do: Callable[[], Result],
    place: Path,
    *,
    told_to_stop: Callable[[], object] = lambda: False,
) -> Result:
    """Return what `do` returns, called again for as long as faults that pass keep it from that.

    Args:
        do: May be called again after it failed.
        place: What it reads or writes, for messages where the fault does not name its file.
        told_to_stop: Whether to wait no longer.

    Raises:
        OSError: A fault of another kind; or one that passes, which did not in LIMIT_S, or while
            there was time.
    """
    begun_s: float | None = None
    name = ""
    while True:
        try:
            result = do()
        except OSError as fault:
            error = naming(fault, place)
            if not is_passing(error) or told_to_stop():
                raise error from None
            now_s = time.monotonic()
            if begun_s is None:
                begun_s, name = now_s, str(error.filename)
                logger.warning(
                    "%s: %s since %s; waiting", name, error.strerror, time.strftime("%H:%M:%S")
                )
            elif error.errno not in FULL and now_s - begun_s > LIMIT_S:
                raise error from None
            time.sleep(PAUSE_S)
        else:
            if begun_s is not None:
                logger.warning("%s: goes on after %.0f s", name, time.monotonic() - begun_s)
            return result
