"""Which code and which packages compute here."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path


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
