"""Ray's token: who creates it, who can read it, and what an attaching driver is told."""

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import search.execution.auth
from search.execution.auth import (
    ensure_token,
    find_token,
    token_path,
    use_token,
)
from tests.search.conftest import ROOT, Driver, Guarded, write_study
from trainer.configfile import ConfigError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without a token."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_created_for_its_owner_alone(home: Path) -> None:
    """Whatever the umask; in the place and format of Ray, and only once."""
    before = os.umask(0)
    try:
        assert ensure_token() == f"{home}/.ray/auth_token: created the token of your Ray clusters"
    finally:
        os.umask(before)
    path = home / ".ray" / "auth_token"
    token = path.read_text()
    assert re.fullmatch("[0-9a-f]{64}", token) and find_token() == token
    assert (mode_of(path), mode_of(path.parent)) == (0o600, 0o700)
    assert ensure_token() == "" and path.read_text() == token
    assert os.listdir(path.parent) == ["auth_token"]


def test_of_several_processes_one_creates_it(home: Path) -> None:
    start, tokens = threading.Barrier(8), set()

    def create() -> None:
        start.wait()
        ensure_token()
        tokens.add(find_token())

    threads = [threading.Thread(target=create) for _ in range(8)]
    numbers = iter(range(8))
    with pytest.MonkeyPatch.context() as patch:  # as if they were processes
        patch.setattr(
            search.execution.auth, "os", SimpleNamespace(**vars(os) | {"getpid": numbers.__next__})
        )
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(tokens) == 1 and tokens == {token_path().read_text()}


def test_one_that_others_can_read_is_mended(home: Path) -> None:
    """As Ray leaves it."""
    path = home / ".ray" / "auth_token"
    path.parent.mkdir()
    path.write_text("a" * 64)
    path.chmod(0o644)
    assert ensure_token() == f"{path}: others could read Ray's token (mode 644); now only you can"
    assert mode_of(path) == 0o600 and path.read_text() == "a" * 64
    assert ensure_token() == ""


def test_an_empty_one_is_none(home: Path) -> None:
    """Ray says so, too."""
    path = home / ".ray" / "auth_token"
    path.parent.mkdir()
    path.touch()
    assert find_token() is None
    assert "created" in ensure_token() and find_token()


def test_where_ray_looks(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In its order; nothing is created where the environment holds the token itself."""
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(home / "secret" / "ray"))
    assert find_token() is None and "secret/ray: created" in ensure_token()
    monkeypatch.setenv("RAY_AUTH_TOKEN", " given\n")
    assert find_token() == "given"
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH")
    assert ensure_token() == "" and not (home / ".ray").exists()


def test_the_module_writes_a_token_for_shell_scripts(home: Path) -> None:
    """`python -m search.execution.auth` says what it did, and never the token."""
    command = [sys.executable, "-m", "search.execution.auth"]
    first = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "created" in first.stderr and (again.stderr, first.stdout + again.stdout) == ("", "")
    assert find_token() not in first.stderr
    (home / ".ray" / "auth_token").unlink()
    (home / ".ray").rmdir()
    (home / ".ray").write_text("in the way")
    blocked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert blocked.returncode and blocked.stderr.count("\n") == 1, blocked.stderr


@pytest.mark.parametrize(
    ("before", "after", "created"),
    [(None, "token", True), ("token", "token", True), ("disabled", "disabled", False)],
)
def test_a_ray_of_this_machine(
    home: Path, monkeypatch: pytest.MonkeyPatch, before: str | None, after: str, created: bool
) -> None:
    if before:
        monkeypatch.setenv("RAY_AUTH_MODE", before)
    use_token("local")
    assert os.environ["RAY_AUTH_MODE"] == after
    assert (home / ".ray" / "auth_token").exists() == created


def test_a_cluster_that_asks_for_none_is_shown_none(cluster: str, home: Path) -> None:
    os.environ.pop("RAY_AUTH_MODE", None)
    ensure_token()
    use_token(cluster)
    assert "RAY_AUTH_MODE" not in os.environ


@pytest.mark.parametrize(
    ("environment", "line"),
    [
        ({}, "but there is none here; copy the head's to {home}/.ray/auth_token"),
        ({"RAY_AUTH_MODE": "token"}, "but there is none here; copy"),
        ({"RAY_AUTH_TOKEN": "wrong"}, "but RAY_AUTH_TOKEN is another one; copy the head's"),
        ({"RAY_AUTH_TOKEN_PATH": "{home}/x"}, "but {home}/x is another one; copy the head's"),
        ({"RAY_AUTH_MODE": "disabled"}, "but RAY_AUTH_MODE is disabled here; unset it"),
    ],
)
@pytest.mark.slow
def test_refused_at_once(
    guarded: Guarded,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    line: str,
) -> None:
    """Ray itself would try for 20 seconds and then find no cluster."""
    (home / "x").write_text("another")
    for name, value in environment.items():
        monkeypatch.setenv(name, value.format(home=home))
    begun = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        use_token(guarded.address)
    assert time.monotonic() - begun < 5
    [said] = caught.value.lines
    where = f"--address {guarded.address}: the cluster asks for Ray's token, "
    assert said.startswith(where + line.format(home=home))


@pytest.mark.slow
def test_admitted_with_the_token(guarded: Guarded, home: Path, store: Path, tmp_path: Path) -> None:
    """A driver and its trials; and one without it is told in a line, with status 2."""
    study = write_study(tmp_path / "runs", store, trials={"num_trials": 1}, enqueue=[])
    sent = {"RAY_AUTH_MODE": "", "RAY_AUTH_TOKEN_PATH": str(guarded.token)}
    # Not forked: Ray reads its token settings when it is imported.
    driver = Driver(study, study.parent, guarded.address, env=sent, imports=True)
    driver.finish()
    assert len(driver.events("ended")) == 2
    assert guarded.token.read_text() not in driver.log.read_text()

    study.write_text(study.read_text().replace("study: toy", "study: other"))
    unknown = {"RAY_AUTH_MODE": ""}
    stranger = Driver(study, study.parent, guarded.address, env=unknown, imports=True)
    assert stranger.wait() == 2
    assert "there is none here" in stranger.log.read_text().splitlines()[-1]
    assert not stranger.events("proposed")


def test_an_address_without_a_cluster_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search.execution.auth, "PATIENCE_S", 0.5)
    with pytest.raises(ConfigError, match=r"^--address 127.0.0.1:9: no Ray cluster answers there$"):
        use_token("127.0.0.1:9")
