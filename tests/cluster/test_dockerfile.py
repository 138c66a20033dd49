"""cluster/Dockerfile by hadolint, and what hadolint does not know."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from search.execution.own_ray.folder import ABOVE_BYTES

ROOT = Path(__file__).resolve().parents[2]
PATH = ROOT / "cluster" / "Dockerfile"
HADOLINT = shutil.which("hadolint", path=Path(sys.executable).parent) or "hadolint"


def instructions() -> list[tuple[str, str]]:
    """Return the instructions with their words."""
    text = re.sub(r"\\\n", " ", PATH.read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines]


def hadolint(text: str) -> subprocess.CompletedProcess[str]:
    """Check a Dockerfile; anything that is said is an error."""
    command = [HADOLINT, "--failure-threshold", "style", "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True)


def test_hadolint_has_nothing_to_say() -> None:
    result = hadolint(PATH.read_text())
    assert result.returncode == 0, result.stdout + result.stderr
    assert hadolint(PATH.read_text().replace("--no-cache-dir", "")).returncode == 1


def test_what_it_copies_is_there_and_in_the_context() -> None:
    allowed = (ROOT / "cluster" / "Dockerfile.dockerignore").read_text().split("\n")
    copied = {
        source for name, words in instructions() if name == "COPY" for source in words.split()[:-1]
    }
    assert copied == {line[1:] for line in allowed if line.startswith("!")}
    for source in copied:
        assert (ROOT / source).exists(), source
    assert "*" in allowed[:2], "all else stays out"


def test_base_is_pinned_files_have_hashes_and_nobody_is_root() -> None:
    steps = instructions()
    assert re.fullmatch(r"python:3\.11\.\d+-slim-\w+", dict(steps)["FROM"])
    first, own = [words for name, words in steps if name == "RUN" and "pip install" in words]
    known, torch = first.split(" && ")
    assert "--no-deps --require-hashes --requirement requirements.txt" in known
    assert torch.endswith(" torch") and "--constraint constraints.txt --index-url" in torch
    assert "--no-deps --no-build-isolation ." in own
    assert [words for name, words in steps if name == "USER"] == ["1000"]
    assert not re.search(r"(?i)auth_token|password|secret_key", PATH.read_text())


def test_what_has_hashes_is_what_is_tested() -> None:
    """All that segtune needs but torch, which has an index of its own."""
    lines = (ROOT / "cluster" / "requirements.txt").read_text().replace("\\\n", " ").splitlines()
    known = dict(line.split()[0].split("==") for line in lines if "==" in line)
    tested = (ROOT / "constraints.txt").read_text().splitlines()
    versions = dict(line.split("==") for line in tested if "==" in line)
    assert {name: versions.get(name, version) for name, version in known.items()} == known
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", line) for line in lines if "==" in line)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = project["dependencies"] + project["optional-dependencies"]["search"]
    names = {re.split(r"[^\w.-]", words)[0].lower().replace("_", "-") for words in needed}
    assert (names | {"setuptools"}) - {"torch"} <= {*known}


def test_ray_gets_a_folder_that_its_user_alone_enters() -> None:
    env = " ".join(words for name, words in instructions() if name == "ENV")
    [folder] = re.findall(r"RAY_TMPDIR=(\S+)", env)
    made = "install --directory --mode=700 --owner=segtune --group=segtune"
    assert f"{made} {folder}" in " ".join(words for _, words in instructions())
    assert len(folder) <= ABOVE_BYTES
