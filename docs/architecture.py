"""Writes docs/architecture.md, the tree of the code: `python -m docs.architecture`.

What a file is for is the first line of its docstring, so that the tree never tells another story.
"""

import ast
import textwrap
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
`segtune/` is what Python imports: it reads and launches with `search/`, which knows nothing of it.
Its rooms stand in one direction: each imports only those above it in this list and `trainer/`, and
no circle of files or folders exists, imports inside functions included. Only `search/storage/`
knows that S3 exists. `make lint` checks all of this (import-linter, contracts in `pyproject.toml`).

A study is a ledger: the driver appends every proposal, report, decision and end to it before it is
acted on (`search/ledger/`), and whatever else there is (Optuna's study, ASHA's rungs, the budget,
MLflow's runs, every table and page) is rebuilt from it. `trainer.loop.fit` is the seam between the
halves: a generator of validations that Ray reports, a command prints, and a test calls `next()` on.
Why it is so: [decisions/](decisions/README.md).
"""

TOP = """\
Makefile               setup, search, test, test-slow, nightly, chaos, coverage, bench, lint
constraints.txt        exactly the versions that are tested; pyproject.toml has the ranges
segtune_start.py       what `segtune` calls: it finds these packages before others of their names
cluster/               how to get N GPUs; README.md says which file is for whom
docs/                  what README.md links to, and what draws its pictures; decisions/, one a page
examples/              own_trainer/: a trainer of your own in plain PyTorch; phantom.ipynb: Python
segtune/               what a notebook imports: studies as tables, launches, models that predict
tests/                 mirrors the tree; bench/ has the benchmarks, fixtures/ older studies
  chaos/                 faults on three hosts in network namespaces: make chaos
  badinput/              wrong studies, commands and images, hundreds of them
spaces/                one YAML a study; README.md there has every key
"""
"""The top of the tree; below it stand the shipped studies and the packages, as they say themselves.
"""


def rooms() -> list[str]:
    """Return the folders of search/, each importing only those before it: by the contract."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    [layers] = [each["layers"] for each in contracts if each.get("containers") == ["search"]]
    return [*reversed(layers)]


def page() -> str:
    """Return the page as Markdown."""
    parts = [
        HEAD,
        "## What is where\n",
        f"```\n{tree()}\n```\n",
        "## search/\n",
        *_folder(ROOT / "search", heading=""),
    ]
    for room in rooms():
        folder = ROOT / "search" / room
        for each in (folder, *sorted(path.parent for path in folder.rglob("*/__init__.py"))):
            parts += _folder(each, heading=f"### {each.relative_to(ROOT).as_posix()}/\n")
    parts += ["## segtune/\n", *_folder(ROOT / "segtune", heading="")]
    parts += ["## trainer/\n", *_folder(ROOT / "trainer", heading="")]
    for folder in sorted(path.parent for path in (ROOT / "trainer").rglob("*/__init__.py")):
        parts += _folder(folder, heading=f"### {folder.relative_to(ROOT).as_posix()}/\n")
    return "\n".join(parts)


def tree() -> str:
    """Return what is where: folders and studies, not yet files."""
    studies = [path.name for path in sorted((ROOT / "spaces").glob("*.yaml"))]
    lines = [
        *TOP.splitlines(),
        *textwrap.wrap("  ".join(studies), 90, initial_indent="  ", subsequent_indent="  "),
    ]
    packages = {"trainer": _folders(), "search": [Path("search") / room for room in rooms()]}
    for package, folders in packages.items():
        lines.append(f"{package + '/':22} {first_line(ROOT / package / '__init__.py')}")
        for folder in folders:
            name = f"{folder.relative_to(package).as_posix()}/"
            lines.append(f"  {name:22} {first_line(ROOT / folder / '__init__.py')}")
    return "\n".join(lines)


def _folders() -> list[Path]:
    """Return the folders of trainer/ below ROOT, without those inside others."""
    return sorted(path.parent.relative_to(ROOT) for path in ROOT.glob("trainer/*/__init__.py"))


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
