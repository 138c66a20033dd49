"""The house: names of modules and folders that say what is inside, and files that can be read."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAX_FILES = 20
"""Python files in a folder."""
MAX_LINES = 420
"""Of a Python file."""

FOLDERS = sorted(
    {
        path.parent
        for name in ("search", "segtune", "trainer")
        for path in ROOT.glob(f"{name}/**/*.py")
    }
)
FILES = sorted(path for folder in FOLDERS for path in folder.glob("*.py"))


def test_no_module_has_the_name_of_a_standard_one() -> None:
    """Else `import token` means another file wherever a script of that folder is run."""
    named = [path for path in FILES if path.stem in sys.stdlib_module_names]
    assert not named


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_folder_is_small_and_says_what_it_is(folder: Path) -> None:
    assert len([*folder.glob("*.py")]) <= MAX_FILES
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    first = text.partition("\n")[0]
    assert first[:1].isupper() and first.endswith(".") and " " in first, first


def test_every_file_can_be_read_in_one_sitting() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert not {path: length for path, length in lengths.items() if length > MAX_LINES}
