"""Copies of a store on a node's own disk. The store is on another file system, as it were."""

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from search.execution.worker import ending_of
from search.ledger.waiting import Wait
from search.storage import dataset_cache
from search.storage.dataset_cache import (
    address_for_all_nodes,
    on_this_node,
    open_store,
    read_manifest,
    with_store_here,
)
from search.storage.s3 import Remote
from search.workflows.confirming.models import _read
from tests.search.conftest import ROOT
from tests.search.execution.test_trainable import spec
from trainer.configfile import ConfigError
from trainer.data.content_hash import problem
from trainer.data.store import Store
from trainer.exceptions import StoreChanged, StoreError


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let every path be on another file system than the cache."""
    monkeypatch.setenv("SEGTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(dataset_cache, "_same_disk", lambda path, folder: False)


def flip(path: Path) -> None:
    """Change one byte in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["manifest.json", "slices.arrow", "case03.arrow", "case03.npz"])
@pytest.mark.parametrize("how", ["gone", "cut", "empty"])
def test_a_store_is_verified_by_its_content(
    store: Path, tmp_path: Path, name: str, how: str
) -> None:
    copy = tmp_path / "store"
    shutil.copytree(store, copy)
    assert problem(copy) == ""
    [path] = copy.rglob(name)
    match how:
        case "gone":
            path.unlink()
        case "cut":
            path.write_bytes(path.read_bytes()[:-200])
        case "empty":
            path.write_bytes(b"")
    assert problem(copy)


def test_one_other_pixel(store: Path, tmp_path: Path) -> None:
    copy = tmp_path / "store"
    shutil.copytree(store, copy)
    pixels = Store.open(store).columns(3)["mask"].tobytes()
    path = copy / "cases" / "case03.arrow"
    content = path.read_bytes()
    at = content.index(pixels) + len(pixels) // 2
    path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    assert problem(copy) == "case case03: not what its content hash says"


def test_another_split_is_another_store(store: Path, tmp_path: Path) -> None:
    copy = tmp_path / "store"
    shutil.copytree(store, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["cases"][0]["fold"] = 4 if manifest["cases"][0]["fold"] != 4 else 3
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert problem(copy) == "manifest.json: not what its content hash says"


@pytest.mark.usefixtures("far")
def test_a_store_is_copied_once_a_node(store: Path, tmp_path: Path) -> None:
    copy = Path(on_this_node(str(store)))
    content_hash = Store.open(store).content_hash
    assert copy == tmp_path / "cache" / "stores" / content_hash
    assert Store.open(copy).content_hash == content_hash and problem(copy) == ""
    before = copy.stat().st_ino
    assert on_this_node(str(store)) == str(copy) and copy.stat().st_ino == before


@pytest.mark.usefixtures("far")
def test_a_damaged_copy_is_replaced(store: Path) -> None:
    """Also one whose reader has it mapped, who goes on."""
    copy = Path(on_this_node(str(store)))
    reader = Store.open(copy)
    images = reader.images(range(12)).copy()
    path = copy / "cases" / "case03.npz"
    flip(path)
    assert on_this_node(str(store)) == str(copy)
    assert problem(copy) == ""
    assert (reader.images(range(12)) == images).all()
    assert sorted(path.name for path in copy.parent.iterdir()) == [
        copy.name,
        f"{copy.name}.lock",
    ]


@pytest.mark.usefixtures("far")
def test_an_unfinished_copy_is_none(store: Path) -> None:
    copy = Path(on_this_node(str(store)))
    copy.rename(copy.with_suffix(".unfinished"))
    assert problem(Path(on_this_node(str(store)))) == ""
    assert not copy.with_suffix(".unfinished").exists()


@pytest.mark.usefixtures("far")
def test_a_damaged_store_is_no_good(store: Path, tmp_path: Path) -> None:
    shutil.copytree(store, tmp_path / "store")
    flip(tmp_path / "store" / "cases" / "case03.npz")
    with pytest.raises(ConfigError, match=r"damaged store: .*case03"):
        on_this_node(str(tmp_path / "store"))
    assert not [*(tmp_path / "cache" / "stores").glob("*.unfinished")]
    with pytest.raises(ConfigError, match="not a prepared store"):
        on_this_node(str(tmp_path))


@pytest.mark.usefixtures("far")
def test_without_space_the_store_itself_is_used(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(dataset_cache, "RESERVE_BYTES", 1 << 60)
    assert on_this_node(str(store), lines.append) == str(store)
    [line] = lines
    assert "no space for a copy" in line and str(store) in line


@pytest.mark.usefixtures("far")
def test_the_disk_fills_meanwhile(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def copytree(source: str, target: Path, **_: Any) -> None:
        target.mkdir()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copytree", copytree)
    assert on_this_node(str(store), lambda line: None) == str(store)


def test_on_the_same_disk(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGTUNE_CACHE", str(tmp_path / "cache"))
    assert on_this_node(str(store)) == str(store)
    assert on_this_node(str(tmp_path / "not there")) == str(tmp_path / "not there")


SCRIPT = """
import os, shutil, sys, time
from search.storage import dataset_cache
dataset_cache._same_disk = lambda path, folder: False
copytree = shutil.copytree
def slowly(*args, **named):
    if not os.path.exists(sys.argv[2] + str(os.getpid())):
        open(sys.argv[2] + str(os.getpid()), "w").close()
        time.sleep(1)
    return copytree(*args, **named)
shutil.copytree = slowly
print(dataset_cache.on_this_node(sys.argv[1]))
"""


def test_two_processes_at_once(store: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    env = {**os.environ, "SEGTUNE_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SCRIPT, str(store), str(log)]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) for _ in range(3)
    ]
    assert len({process.communicate()[0] for process in running}) == 1
    assert len([*tmp_path.glob("log*")]) == 1, "one has copied"


def test_whoever_dies_while_copying_leaves_the_lock(store: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    env = {**os.environ, "SEGTUNE_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SCRIPT, str(store), str(log)]
    with subprocess.Popen(command, env=env) as first:
        while not [*tmp_path.glob("log*")]:
            time.sleep(0.01)
        first.kill()
    result = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert problem(Path(result.stdout.strip())) == ""


def upload(store: Path, uri: str) -> None:
    for path in store.rglob("*"):
        if path.is_file():
            Remote.parse(uri).upload(path.relative_to(store).as_posix(), path)


def test_a_store_in_s3(store: Path, s3: str, tmp_path: Path) -> None:
    uri = s3.replace("?", "/stores/pictures?")
    with pytest.raises(ConfigError, match="not a prepared store"):
        open_store(uri)
    upload(store, uri)
    assert json.loads(read_manifest(uri)) == json.loads((store / "manifest.json").read_text())
    assert open_store(uri).content_hash == Store.open(store).content_hash
    told = spec(tmp_path / "0003")
    told["train"]["data"]["store"] = uri
    here = Path(with_store_here(told)["train"]["data"]["store"])
    assert here.is_relative_to(tmp_path / "cache") and problem(here) == ""


def test_the_test_set_is_read_from_the_copy_on_this_node(
    far: None, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = spec(tmp_path / "trials" / "0003")
    told["train"]["data"]["store"] = str(store)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("search.workflows.confirming.models.read_one", lambda *about: about)
    _, here, device = _read._function(told)
    assert Path(here).is_relative_to(tmp_path / "cache") and device == "cpu"


@pytest.mark.parametrize("place", ["near", "far"])
def test_a_store_that_takes_long_is_no_hanging(
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
    place: str,
) -> None:
    """Whoever reads the whole of it, or waits for another who does, gives signs of life."""
    monkeypatch.setattr(dataset_cache, "Wait", partial(Wait, after_s=0))
    monkeypatch.setenv("SEGTUNE_CACHE", str(tmp_path / "cache"))
    if place == "far":
        request.getfixturevalue("far")
    told = spec(tmp_path / "study" / "trials" / "0003")
    told["train"]["data"]["store"] = str(store)
    touch, signs = Path.touch, list[str]()
    monkeypatch.setattr(Path, "touch", lambda path: (signs.append(path.name), touch(path)))
    with_store_here(told)
    assert signs.count("alive") >= len(Store.open(store).cases)
    assert (tmp_path / "study" / "trials" / "0003" / "alive").exists()
    signs.clear()
    [lock] = (tmp_path / "cache" / "stores").glob("*.lock")
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        # The other is done at the first sign of whoever waits.
        monkeypatch.setattr(Path, "touch", lambda path: (signs.append(path.name), file.close()))
        with_store_here(told)
    assert signs == ["alive"]
    said = "waits    for another process on this machine, which copies or verifies the store\n"
    assert capsys.readouterr().err == said


def test_an_address_for_all_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://minio:9000")
    assert address_for_all_nodes("s3://a/b") == "s3://a/b?endpoint_override=minio:9000&scheme=http"
    assert address_for_all_nodes("/a/b") == "/a/b"


def test_a_store_that_is_not_there_is_no_measurement(s3: str, tmp_path: Path) -> None:
    told = spec(tmp_path / "0003")
    told["train"]["data"]["store"] = s3
    with pytest.raises(StoreError, match="not a prepared store") as raised:
        with_store_here(told)
    assert ending_of(raised.value) is None


@pytest.fixture
def near(
    store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> tuple[Path, dict[str, Any]]:
    """A store that is read where it is, and what an attempt of a first launch is told."""
    monkeypatch.setenv("SEGTUNE_CACHE", str(tmp_path / "cache"))
    place = tmp_path / "near"
    shutil.copytree(store, place)
    told = spec(tmp_path / "study" / "trials" / "0003", fence=1)
    told["train"]["data"]["store"] = str(place)
    assert with_store_here(told) == told
    return place, told


@pytest.mark.parametrize("dated", [True, False])
def test_data_that_changed_in_place_are_not_trained_on(
    near: tuple[Path, dict[str, Any]], dated: bool
) -> None:
    """Where a date or size tells at once; else each launch finds it once, on each node."""
    place, told = near
    path = place / "cases" / "case03.npz"
    before = path.stat()
    flip(path)
    if not dated:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert with_store_here(told) == told  # read once a launch
        told["fence"] = 2
    with pytest.raises(StoreChanged, match=r"near: damaged store: .*case03.*prepare it again"):
        with_store_here(told)
    flip(path)
    assert with_store_here(told) == told


def test_a_sound_store_with_other_data_than_the_studys_is_not_trained_on(
    near: tuple[Path, dict[str, Any]],
) -> None:
    """As where it was prepared anew in its place while the study runs."""
    place, told = near
    begun = Store.open(place).content_hash
    assert with_store_here(told | {"store_hash": begun})["train"]["data"]["store"] == str(place)
    other = told | {"store_hash": "f" * 64}
    with pytest.raises(StoreChanged, match=rf"has the content {begun[:12]}, but .* f{{12}}: "):
        with_store_here(other)


def test_a_store_in_place_is_read_once_a_launch(
    near: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where several studies take turns."""
    _, told = near
    monkeypatch.setattr(
        "trainer.data.content_hash.problem", lambda path, _: read.append(path) or ""
    )
    read: list[Path] = []
    for fence in (1, 1, 2, 1, 2, 3):
        with_store_here(told | {"fence": fence})
    assert len(read) == 2


@pytest.mark.parametrize("what", ["", "manifest.json", "cases/case03.arrow", "cases/case03.npz"])
def test_a_store_that_is_away_has_not_changed(near: tuple[Path, dict[str, Any]], what: str) -> None:
    place, told = near
    away = (place / what).rename(place.with_name("away"))
    with pytest.raises((StoreError, FileNotFoundError)) as raised:
        with_store_here(told)
    assert not isinstance(raised.value, StoreChanged)
    away.rename(place / what)
    assert with_store_here(told) == told
