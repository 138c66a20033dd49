"""Which code and which packages compute here."""

import importlib.metadata
import os
import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import Any


def code_commit() -> str:
    """Return the git commit of this code, with -dirty where it differs; empty outside git.

    Code that was submitted to a cluster is there without its git: SEGTUNE_COMMIT has it.
    """
    if commit := os.environ.get("SEGTUNE_COMMIT"):
        return commit
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        result = subprocess.run(
            [*command, "--abbrev=40", "--exclude=*"], capture_output=True, text=True
        )
    except OSError:
        return ""
    return result.stdout.strip()


@cache
def code_here() -> dict[str, Any]:
    """Return commit and versions of what this process runs: as they were when it was first asked.

    Returns:
        `commit` and `versions`, as `code_commit` and `package_versions`.
    """
    return {"commit": code_commit(), "versions": package_versions()}


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide what is computed."""
    packages = ("segtune", "torch", "monai", "ray", "optuna", "mlflow", "numpy", "pyarrow")
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "unknown"
    return versions
