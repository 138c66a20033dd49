"""What the project says of itself to installers, citers and the hosting service."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from search.cli.main import main as segtune

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
FORMS = [
    path for path in sorted(ROOT.glob(".github/ISSUE_TEMPLATE/*.yml")) if path.stem != "config"
]


def test_a_citation_names_this_version_and_its_authors() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["cff-version"] == "1.2.0"
    assert cited["title"] == PROJECT["name"] and cited["abstract"] == PROJECT["description"]
    assert cited["version"] == PROJECT["version"] == version("segtune")
    assert cited["license"] == PROJECT["license"]
    assert cited["authors"] == PROJECT["authors"] == [{"name": "the segtune developers"}]
    assert cited["message"]


@pytest.mark.parametrize("package", ["search", "trainer"])
def test_a_package_says_that_it_has_types(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()
    assert "py.typed" in SETUPTOOLS["package-data"][package]


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_for_issues_is_one(path: Path) -> None:
    form = yaml.safe_load(path.read_text())
    assert form["name"] and form["description"]
    kinds = [field["type"] for field in form["body"]]
    assert {*kinds} <= {"markdown", "textarea", "input", "dropdown", "checkboxes"}
    asked = [field["id"] for field in form["body"] if field["type"] != "markdown"]
    assert asked and len(asked) == len({*asked})
    named = re.findall(r"`segtune ([a-z]+)", path.read_text())
    assert not {*named} - segtune.commands.keys()


def test_the_workflow_tests_every_python_that_is_promised() -> None:
    text = (ROOT / ".github" / "workflows" / "test.yml").read_text()
    job = yaml.safe_load(text)["jobs"]["test"]
    pythons = job["strategy"]["matrix"]["python"]
    assert pythons == ["3.11", "3.12", "3.13"]
    assert PROJECT["requires-python"] == f">={pythons[0]}"
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    made = [step["run"].split()[1] for step in job["steps"] if "run" in step]
    assert made == ["setup", "lint", "test"] and not {*made} - {*targets}
