"""`segtune` works in a folder that has packages of the same names, or says what is in the way."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml

import segtune_start

ROOT = Path(segtune_start.__file__).parent
SITE = Path(sysconfig.get_paths()["purelib"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project of somebody's, with a package, a folder and a module of our names."""
    work = tmp_path / "work"
    for name in ("trainer", "search", "spaces", "cluster", "docs", "tests"):
        (work / name).mkdir(parents=True)
    (work / "trainer" / "__init__.py").write_text("raise RuntimeError('the wrong trainer')\n")
    (work / "search.py").write_text("raise RuntimeError('the wrong search')\n")
    return work


def run(
    *words: str | Path, cwd: Path, path: str = "", timeout: float = 480
) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {"PYTHONPATH": path} if path else {}
    return subprocess.run(
        [*map(str, words)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def test_the_packages_beside_the_start_go_first(folder: Path) -> None:
    code = (
        "import segtune_start, search.cli.main, trainer; print(search.__file__, trainer.__file__)"
    )
    done = run(sys.executable, "-c", code, cwd=folder, path=f".{os.pathsep}{ROOT}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        str(ROOT / name / "__init__.py") for name in ("search", "trainer")
    ]
    code = "import trainer"
    assert "the wrong trainer" in run(sys.executable, "-c", code, cwd=folder, path=".").stderr


def test_processes_of_our_own_go_the_same_way(folder: Path) -> None:
    code = f"import sys; sys.path.append({str(ROOT)!r}); import segtune_start as p; "
    code += "print(p.is_hidden(), *p.command('trainer.cpus'))"
    done = run(sys.executable, "-P", "-c", code, cwd=folder, path=".")
    assert done.returncode == 0, done.stderr
    hidden, *command = done.stdout.split()
    assert hidden == "True"
    assert run(*command, cwd=folder, path=".").returncode == 0
    assert run(sys.executable, "-P", "-c", code, cwd=folder.parent).stdout.startswith("False")


@pytest.mark.parametrize("what", ["is missing", "is not segtune's"])
def test_packages_that_are_not_whole_are_one_line(tmp_path: Path, what: str) -> None:
    shutil.copy(segtune_start.__file__, tmp_path)
    for name in ("search", "trainer"):
        (tmp_path / name).mkdir()
        shutil.copy(ROOT / name / "__init__.py", tmp_path / name)
    changed = tmp_path / "trainer" / "__init__.py"
    if what == "is missing":
        changed.unlink()
    else:
        changed.write_text("from trainer.trainer import *\n")
    done = run(sys.executable, tmp_path / "segtune_start.py", "--help", cwd=tmp_path)
    assert done.returncode == 2 and not done.stdout
    [line] = done.stderr.splitlines()
    assert line.startswith(f"{changed}: {what}") and "--force-reinstall" in line


@pytest.mark.timeout(2400)
@pytest.mark.parametrize(
    "how",
    [
        pytest.param("wheel", marks=pytest.mark.slow),  # 60 s: an installation and two trials
        pytest.param("editable", marks=pytest.mark.nightly),
    ],
)
def test_a_study_runs_where_the_names_are_taken(
    folder: Path, phantom_store: Path, tmp_path: Path, how: str
) -> None:
    source, venv = tmp_path / "source", tmp_path / "venv"
    source.mkdir()
    for name in ("search", "segtune", "trainer", "spaces"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "segtune_start.py"):
        shutil.copy(ROOT / name, source)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    python = venv / "bin" / "python"
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    (venv / "lib" / version / "site-packages" / "zz_here.pth").write_text(f"{SITE}\n")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps"]
    options = ["--no-build-isolation", "--ignore-installed", *(["-e"] if how == "editable" else [])]
    installed = run(*pip, *options, ".", cwd=source, timeout=1200)
    assert installed.returncode == 0, installed.stderr
    study = {
        "study": "toy",
        "data": {"store": str(phantom_store)},
        "train": {"model.width": 4, "model.depth": 2, "epoch_images": 8, "batch.effective": 4},
        "space": {"optimizer.lr": {"type": "float", "low": 1e-5, "high": 1e-3, "log": True}},
        "scheduler": {"type": "none", "max_t": 1},
        "trials": {"num_trials": 1, "cpus_per_trial": 1},
    }
    (folder / "toy.yaml").write_text(yaml.safe_dump(study))
    code = "import segtune, search, trainer; print(segtune.__file__, search.__file__)"
    imported = run(python, "-c", code, cwd=folder, path=".")
    assert imported.returncode == 0, imported.stderr
    assert all(str(source if how == "editable" else venv) in at for at in imported.stdout.split())
    done = run(venv / "bin" / "segtune", "launch", "toy.yaml", cwd=folder, path=".", timeout=1600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "trial    1  completed" in done.stdout and "trial    0  completed" in done.stdout
