"""Places in S3: how they are named, and that nothing secret is."""

from pathlib import Path

import pytest

from search.storage.s3 import (
    Entry,
    Remote,
    below,
    folder_of,
    mirror_of,
    remote_of,
)
from search.storage.studies import display_path, mirror_id
from trainer.configfile import ConfigError


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SEGTUNE_CACHE", str(tmp_path / "cache"))


def test_an_address_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """The endpoint of this machine's environment is part of it, for the other machines."""
    assert Remote.parse("s3://bucket/a/b/").uri == "s3://bucket/a/b"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://minio:9000")
    uri = Remote.parse("s3://bucket/a").uri
    assert uri == "s3://bucket/a?endpoint_override=minio:9000&scheme=http"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://other")
    assert Remote.parse("s3://bucket/a").uri.endswith("=other&scheme=https")
    assert Remote.parse(uri).uri == uri


@pytest.mark.parametrize("name", ["100% #1", "who?", "a%20b", "a&b=c", "über uns", "a\\b"])
def test_a_prefix_may_have_any_name(name: str, s3: str) -> None:
    assert Remote.parse(f"s3://bucket/{name}/b").path == f"bucket/{name}/b"
    place = Remote.parse(s3) / name
    assert Remote.parse(place.uri) == place
    (place / "below").put("key", b"hello")
    assert [entry.key for entry in place.entries()] == ["below/key"]
    assert place.get("below/key") == b"hello" and place.names() == ["below"]
    place.delete(["below/key"])


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("s3://key:hidden@bucket/a", "credentials belong into the environment"),
        ("s3://bucket/a?access_key=hidden", "credentials belong into the environment"),
        ("s3://bucket/a?session_token=hidden", "credentials belong into the environment"),
        ("s3:///a", "must be s3://BUCKET/PREFIX"),
        ("s3://bucket/a?regoin=x", "regoin: must be one of endpoint_override"),
    ],
)
def test_what_is_no_address(uri: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as refused:
        Remote.parse(uri)
    assert "hidden" not in str(refused.value)


def test_an_endpoint_with_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://key:hidden@minio")
    with pytest.raises(ConfigError) as refused:
        Remote.parse("s3://bucket/a")
    assert "hidden" not in str(refused.value)


def test_a_mirror_knows_its_place(tmp_path: Path) -> None:
    remote = Remote.parse("s3://bucket/a?region=eu-west-1")
    runs = mirror_of(remote)
    assert runs == mirror_of(remote) and runs.is_relative_to(tmp_path)
    assert remote_of(runs) == remote
    assert remote_of(runs / "study") == remote / "study"
    assert display_path(runs / "study") == "s3://bucket/a/study?region=eu-west-1"
    assert remote_of(runs / "study" / "trials") is None
    assert remote_of(tmp_path) is None and display_path(tmp_path) == str(tmp_path)
    assert mirror_of(Remote.parse("s3://bucket/a")) != runs
    assert folder_of(remote, "work") != runs


def test_mirrors_of_two_machines_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the MLflow database of one is not taken for the other's."""
    here = mirror_id(mirror_of(Remote.parse("s3://bucket/a")))
    monkeypatch.setenv("SEGTUNE_CACHE", str(tmp_path / "other"))
    assert len({here, mirror_id(mirror_of(Remote.parse("s3://bucket/a"))), ""}) == 3


def test_objects_are_written_listed_and_removed(s3: str, tmp_path: Path) -> None:
    place = Remote.parse(s3) / "a"
    (tmp_path / "file").write_bytes(b"x" * 100)
    (tmp_path / "empty").touch()
    place.put("b/c", b"hello")
    assert place.upload("b/d", tmp_path / "file") == 100
    place.upload("e", tmp_path / "empty")
    assert place.get("b/c") == b"hello" and place.get("b/x") is None and place.get("e") == b""
    found = {entry.key: entry.size for entry in place.entries()}
    assert found == {"b/c": 5, "b/d": 100, "e": 0}
    assert [entry.key for entry in place.entries("b")] == ["b/c", "b/d"]
    assert place.entries("nothing") == [] and sorted(place.names()) == ["b", "e"]
    place.download("b/d", tmp_path / "new" / "file")
    assert (tmp_path / "new" / "file").read_bytes() == b"x" * 100
    place.delete(["b/c", "b/d", "not there"])
    assert [entry.key for entry in place.entries()] == ["e"]
    assert isinstance(place.entries()[0], Entry)


def test_a_bucket_that_is_not_there(s3: str) -> None:
    Remote.parse(s3).check()
    with pytest.raises(ConfigError, match="no bucket nothing at 127"):
        Remote.parse(f"s3://nothing?{s3.partition('?')[2]}").check()


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x"])
def test_no_object_lies_elsewhere(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="would lie outside"):
        below(tmp_path, name)
