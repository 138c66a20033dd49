"""Ray's token and address, and where copies of stores lie, in an environment that is no good."""

import os
import tempfile
from pathlib import Path

import pytest

from search.execution import auth
from search.execution.session import ray_address
from search.storage.s3 import cache_folder
from trainer.configfile import ConfigError


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_TMPDIR", "TMPDIR", "RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)


def test_a_home_that_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", "/proc/self")
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "")
    auth.use_token("local")
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    assert "a token for this command alone" in capsys.readouterr().err
    auth.use_token("local")
    assert not capsys.readouterr().err


def test_copies_of_stores_where_there_is_no_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("SEGTUNE_CACHE", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("HOME", "/proc/self")
    folder = cache_folder()
    assert folder == tmp_path / f"segtune-{os.getuid()}" / "cache"
    assert folder.parent.stat().st_mode & 0o077 == 0
    folder.parent.chmod(0o755)  # somebody else may have been there
    assert cache_folder().parent not in (folder.parent, tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "segtune"


def test_nobodys_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    assert auth.find_token() is None
    with pytest.raises(FileNotFoundError, match="no home folder: set HOME"):
        auth.ensure_token()


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("ray://head:10001", "RAY_ADDRESS ray://head:10001: Ray Client cannot drive a study"),
        ("http://127.0.0.1:8265", "RAY_ADDRESS http://127.0.0.1:8265: is a dashboard's address"),
    ],
)
def test_an_address_in_the_environment_is_named(
    address: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ConfigError, match=f"^{says}.* or unset RAY_ADDRESS"):
        ray_address(None)
    with pytest.raises(ConfigError, match=r"^--address .*HOST:8265$"):
        ray_address(address)


def test_a_stale_address_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    monkeypatch.setattr(auth, "PATIENCE_S", 0.2)
    rule = "no Ray cluster answers there; unset RAY_ADDRESS to start Ray on this machine"
    with pytest.raises(ConfigError, match=f"^RAY_ADDRESS 127.0.0.1:9: {rule}$"):
        auth.use_token(ray_address(None))
