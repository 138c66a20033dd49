"""Study files: one line for each that is wrong, status 2."""

import re
from pathlib import Path

import pytest

from tests.badinput import study_files as bad
from tests.badinput.judge import Answer, judge, run

pytestmark = pytest.mark.timeout(240, func_only=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "study.yaml"


def dry_run(path: Path, content: str | bytes, store: Path, *overrides: str) -> Answer:
    if isinstance(content, str):
        content = content.encode().replace(b"STORE", str(store).encode())
    path.write_bytes(content)
    return run("launch", path, "--dry-run", "--", *overrides)


CASES = [
    pytest.param(*case, id=f"{table}: {name}")
    for table, cases in bad.TABLES.items()
    for name, case in cases.items()
]


@pytest.mark.parametrize("content, says", CASES)
def test_a_wrong_study_file(path, phantom_store, content, says):
    answer = dry_run(path, content, phantom_store)
    assert judge("study files", answer, f"{path}: ")
    # Not in the path, which holds the test's name and digits.
    lines = [line.removeprefix(f"{path}: ") for line in answer.lines]
    assert any(re.search(says, line) for line in lines), lines[:5]


@pytest.mark.parametrize("content", bad.SOUND.values(), ids=bad.SOUND)
def test_a_sound_study_file(path, phantom_store, content):
    assert not judge("study files", dry_run(path, content, phantom_store), may_work=True)


@pytest.mark.parametrize("make, says", bad.PATHS.values(), ids=bad.PATHS)
def test_a_study_file_that_is_none(path, make, says):
    make(path)
    answer = run("launch", path, "--dry-run")
    assert judge("study files", answer, f"{path}: ")
    assert re.search(says, answer.lines[0].removeprefix(f"{path}: ")), answer.lines


@pytest.mark.parametrize("word", bad.OVERRIDES, ids=lambda word: f"{word:.40}")
def test_a_wrong_override(path, phantom_store, word):
    answer = dry_run(path, bad.BASE, phantom_store, word)
    assert judge("study files", answer, "command line: ", f"{path}: ")
    lines = [line.removeprefix(f"{path}: ") for line in answer.lines]
    assert any(bad.OVERRIDES[word] in line for line in lines), lines[:5]
