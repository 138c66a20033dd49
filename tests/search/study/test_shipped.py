"""The studies that ship: found by their name, from a checkout and from an installed wheel."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from search.study.shipped import find_space, space_file
from trainer.configfile import ConfigError

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_name_is_that_of_a_study_that_ships(here: Path) -> None:
    assert find_space("quickstart") == space_file("quickstart") == ROOT / "spaces/quickstart.yaml"


def test_a_file_of_that_name_in_the_current_folder_goes_first(here: Path) -> None:
    (here / "quickstart").mkdir()
    assert find_space("quickstart") == space_file("quickstart")
    (here / "quickstart.yaml").touch()
    assert find_space("quickstart") == Path("quickstart.yaml")
    (here / "quickstart").rmdir()
    (here / "quickstart").touch()
    assert find_space("quickstart") == Path("quickstart")


def test_a_path_is_a_path(here: Path) -> None:
    for words in ("./quickstart", "quickstart.yaml", "spaces/quickstart.yaml"):
        assert find_space(words) == Path(words)


def test_an_unknown_name_is_said_with_the_nearest(here: Path) -> None:
    with pytest.raises(ConfigError) as error:
        find_space("quikstart")
    assert error.value.lines == [
        "quikstart: no such file, and no study of this name ships; did you mean quickstart?"
    ]


def run(*command: str | Path, **settings) -> str:
    result = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, **settings
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.slow
def test_an_installed_segtune_brings_its_spaces(tmp_path: Path) -> None:
    """A wheel, unpacked where no checkout is."""
    source = tmp_path / "source"
    for name in ("search", "trainer", "spaces"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    run(*pip, "--quiet", "--wheel-dir", tmp_path, source)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path / "installed")
    script = (
        "from search.study.load import load_study\n"
        "from search.study.shipped import find_space\n"
        "print(find_space('respacing'))\n"
        "load_study(find_space('quickstart'), ['data.store=.'])"
    )
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    found = Path(run(sys.executable, "-c", script, env=env, cwd=tmp_path).strip())
    assert found.is_relative_to(tmp_path / "installed")
    assert found.read_bytes() == (ROOT / "spaces/respacing.yaml").read_bytes()
    shipped = {path.name for path in (ROOT / "spaces").glob("*.yaml")}
    assert {path.name for path in found.parent.iterdir()} == shipped
    for package in ("search", "trainer"):
        assert (tmp_path / "installed" / package / "py.typed").is_file()
    page = Path("search/report/page")
    theirs = {path.name for path in (tmp_path / "installed" / page).iterdir()}
    assert theirs == {path.name for path in (ROOT / page).iterdir()}
