"""Writes docs/architecture.md, the tree of the code: `python -m docs.architecture`.

What a file is for is the first line of its docstring, so that the tree never tells another story.
"""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"

HEAD = """\
# Architecture

<!-- Written by `python -m docs.architecture`; do not edit. -->

`trainer/` trains, validates and applies one configuration and knows nothing of searches.
`search/` is everything that knows Ray, Optuna or MLflow; it imports `trainer/`, never the reverse.
Its rooms stand in one direction: each imports only those above it in this list and `trainer/`, and
no circle of files or folders exists, imports inside functions included. Only `search/storage/`
knows that S3 exists. `make lint` checks all of this (import-linter, contracts in `pyproject.toml`).

A study is a ledger: the driver appends every proposal, report, decision and end to it before it is
acted on (`search/ledger/`), and whatever else there is (Optuna's study, ASHA's rungs, the budget,
MLflow's runs, every table and page) is rebuilt from it. `trainer.loop.fit` is the seam between the
halves: a generator of validations that Ray reports, a command prints, and a test calls `next()` on.
"""


def rooms() -> list[str]:
    """Return the folders of search/, each importing only those before it: by the contract."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    [layers] = [contract["layers"] for contract in contracts if "layers" in contract]
    return [*reversed(layers)]


def page() -> str:
    """Return the page as Markdown."""
    parts = [HEAD, "## search/\n", *_folder(ROOT / "search", heading="")]
    for room in rooms():
        parts += _folder(ROOT / "search" / room, heading=f"### search/{room}/\n")
    parts += ["## trainer/\n", *_folder(ROOT / "trainer", heading="")]
    for folder in sorted(path.parent for path in (ROOT / "trainer").rglob("*/__init__.py")):
        parts += _folder(folder, heading=f"### {folder.relative_to(ROOT).as_posix()}/\n")
    return "\n".join(parts)


def _folder(folder: Path, heading: str) -> Iterator[str]:
    """Yield what a folder is for, and a line for each of its files."""
    if heading:
        yield heading
    yield f"{first_line(folder / '__init__.py')}\n"
    for path in sorted(folder.glob("*.py")):
        if path.name != "__init__.py":
            yield f"- `{path.name}`: {first_line(path)}"
    yield ""


def first_line(path: Path) -> str:
    """Return the first line of a file's docstring.

    Raises:
        ValueError: It has none.
    """
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    if not text:
        raise ValueError(f"{path.relative_to(ROOT)}: has no docstring")
    return text.splitlines()[0]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
