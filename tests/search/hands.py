"""What may happen to the process that paints: in the place of `search.painter.Hand`."""

import os
import time
from pathlib import Path
from typing import Any

from search.pictures import Painted

Answer = tuple[Painted, float]


class Crashing:
    """Dies at once."""

    def paint(self, *_: Any) -> Answer:
        os._exit(1)


class Hanging:
    """Never answers."""

    def paint(self, *_: Any) -> Answer:
        time.sleep(3600)
        raise AssertionError


class Failing:
    """Can paint trial 3 alone."""

    def paint(self, run_dir: Path, *_: Any) -> Answer:
        if run_dir.name == "0003":
            return Painted(1, ["samples/a.png"], 0.1), 0.2
        raise OSError("the disk is\nfull")
