"""A program as a trainer, written for one test each, and what an attempt is told that runs it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HEAD = """
import json, os, signal, sys, time
from pathlib import Path
def say(epoch, value, **more): print(json.dumps({"epoch": epoch, "val/dice": value, **more}))
"""


@pytest.fixture
def told(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """What an attempt is told whose program is this Python text."""

    def spec(text: str, *words: str, **more: Any) -> dict[str, Any]:
        (tmp_path / "train.py").write_text(HEAD + text)
        command = f"{{python}} train.py {' '.join(words)}"
        return {
            "trainer": {"command": command, "folder": str(tmp_path)},
            "train": {"epochs": 3, "seed": 7, "optimizer": {"lr": 1e-3, "name": "adam w"}},
            "run_dir": str(tmp_path / "study" / "trials" / "0004"),
            "received": -1,
            "objective": "val/dice",
            "trial": 4,
            "cpus": 2,
            "gpus": 0.0,
            "has_data": False,
            **more,
        }

    return spec
