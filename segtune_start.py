"""`segtune` starts here: its packages are found before whatever else is called as they are.

A folder that one works in may have its own `trainer/` or `search/`, and Python or Ray may look
there first. This module has a name of its own. Imported, it sees to it that `search` and `trainer`
are those beside it, and nothing else changes: what is called otherwise is found as ever.
"""

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during imports has nothing to say

import os
import runpy
import sys
import threading
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

ROOT = Path(__file__).absolute().parent
START = ROOT / "segtune_start.py"
LEAVE_S = 60.0
"""That a process has to end in, once the last line after a signal is said."""
HOOK = "segtune_start.ours_first"
"""What a process of Ray's calls as it begins, where `is_hidden`."""
BEGINS = {
    "search": '"""Everything that knows Ray, Optuna or MLflow."""',
    "trainer": '"""Trains, validates and applies one configuration. Knows nothing of searches."""',
}
"""Our packages, and the first line of each, which another distribution's has not."""


class _OursFirst:
    """A finder of modules, of our packages alone."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: object = None
    ) -> ModuleSpec | None:
        return PathFinder.find_spec(name, [str(ROOT)]) if name in BEGINS else None


def ours_first() -> None:
    """Find our packages first, in this process; Ray's workers call it by its name."""
    if _OursFirst not in sys.meta_path:
        sys.meta_path.insert(0, _OursFirst)


def command(module: str, *words: str) -> list[str]:
    """Return the command that runs a module of ours as `python -m` would, in any folder."""
    return [sys.executable, "-P", str(START), "-m", module, *words]


def environment() -> dict[str, str]:
    """Return what lets such a process import all that this one can."""
    return {"PYTHONPATH": os.pathsep.join(sys.path)}


def is_hidden() -> bool:
    """Say whether the current folder, or PYTHONPATH, has something else of our packages' names."""
    folders = [os.getcwd(), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    for name in BEGINS:
        spec = PathFinder.find_spec(name, [folder or "." for folder in folders])
        found = [*(spec.submodule_search_locations or [spec.origin or ""])] if spec else []
        if any(Path(each).resolve() != (ROOT / name).resolve() for each in found):
            return True
    return False


def in_the_way() -> str:
    """Return why our packages are not whole, in a line; empty where they are."""
    for name, begins in BEGINS.items():
        path = ROOT / name / "__init__.py"
        try:
            found = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            what = "is missing"
        else:
            if found.startswith(begins):
                continue
            what = "is not segtune's"
        from importlib.metadata import packages_distributions

        others = sorted({*packages_distributions().get(name, ())} - {"segtune"})
        who = f", as the distribution {others[0]} has a package of the same name" if others else ""
        remedy = f"pip uninstall {others[0] if others else 'it'}; "
        return f"{path}: {what}{who}: {remedy}pip install --force-reinstall --no-deps segtune"
    return ""


def main() -> None:
    """Run a command of segtune."""
    _mind_ctrl_c()
    try:
        if problem := in_the_way():
            print(problem, file=sys.stderr)
            sys.exit(2)
        from search.cli.main import main as commands
    except KeyboardInterrupt:  # Ctrl-C in the first second
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    try:
        commands()
    except SystemExit as end:
        if isinstance(end.code, int) and end.code > 128:
            _leave_in_time(end.code)
        raise


def _leave_in_time(status: int) -> None:
    """End this process after a signal even if a thread, as one that waits for MLflow, does not."""
    timer = threading.Timer(LEAVE_S, os._exit, [status])
    timer.daemon = True
    timer.start()


def _mind_ctrl_c() -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


ours_first()

if __name__ == "__main__":
    if sys.argv[1:2] == ["-m"]:  # as `python -m`, for processes of our own
        del sys.argv[:2]
        _mind_ctrl_c()
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        main()
