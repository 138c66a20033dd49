"""cluster/Dockerfile by hadolint, and what hadolint does not know."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

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


def test_base_is_pinned_torch_comes_first_and_nobody_is_root() -> None:
    steps = instructions()
    assert re.fullmatch(r"python:3\.11\.\d+-slim-\w+", dict(steps)["FROM"])
    installs = [words for name, words in steps if name == "RUN" and "pip install" in words]
    assert installs[0].endswith(" torch") and "--index-url" in installs[0]
    assert all("--constraint constraints.txt" in words for words in installs)
    assert [words for name, words in steps if name == "USER"] == ["1000"]
    assert not re.search(r"(?i)auth_token|password|secret_key", PATH.read_text())
