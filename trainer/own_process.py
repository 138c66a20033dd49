"""Processes that run our own modules, whatever else has their names where they start."""

import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path

ROOT = Path(__file__).absolute().parents[1]
START = ROOT / "segtune_start.py"
HOOK = "segtune_start.ours_first"
"""What a process of Ray's calls as it begins, where `is_hidden`."""


def command(module: str, *words: str) -> list[str]:
    """Return the command that runs a module of ours as `python -m` would."""
    return [sys.executable, "-P", str(START), "-m", module, *words]


def environment() -> dict[str, str]:
    """Return what lets such a process import all that this one can."""
    return {"PYTHONPATH": os.pathsep.join(sys.path)}


def is_hidden() -> bool:
    """Say whether the current folder, or PYTHONPATH, has something else of our packages' names."""
    folders = [os.getcwd(), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    for name in ("search", "trainer"):
        spec = PathFinder.find_spec(name, [folder or "." for folder in folders])
        found = [*(spec.submodule_search_locations or [spec.origin or ""])] if spec else []
        if any(Path(each).resolve() != (ROOT / name).resolve() for each in found):
            return True
    return False
