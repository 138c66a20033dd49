"""Prepared stores near to those who read them: each node copies a store to its own disk, once.

A copy lies in `stores/<content hash>` of SEGTUNE_CACHE (else ~/.cache/segtune) and is made beside
its place, verified by recomputing the hash from the content, and moved there in one step, under a
lock, so that of many trials of a node one copies. Where files of it are not as they were then, it
is verified again, and replaced if it is damaged. Copies stay: `rm -r ~/.cache/segtune/stores`, when
nothing runs, frees their space.

A store that is read where it is, is verified by the first trial of a launch on each node, and again
where sizes or dates of its files changed since.
"""

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from search.ledger.waiting import Wait
from search.storage.s3 import (
    Entry,
    Remote,
    below,
    cache_folder,
    in_parallel,
    is_remote,
)
from trainer.exceptions import StoreChanged, StoreError
from trainer.files.atomic import write_atomically
from trainer.files.documents import from_json, to_json

if TYPE_CHECKING:
    from trainer.data.store import Store

RESERVE_BYTES = 1 << 30
"""Of the cache's disk, which copies leave free."""
MANIFEST = "manifest.json"
RECORD = "copied.json"
"""In a copy: size and date of each of its files when it was verified."""
LAUNCHES = 100
"""Of a store that is read where it is, so many launches are remembered that have verified it."""
ASK_S = 0.2
"""Between two questions whether another process of this node is done with a store."""

Sign = Callable[[], object]
"""A sign of life, given again and again while a store is copied, verified or waited for."""


def open_store(path: str) -> "Store":
    """Open a store, from this node's copy if it lies in S3.

    Raises:
        StoreError: It is no store, or not a complete one.
        OSError: S3 does not answer, or the disk is full.
    """
    from trainer.data.store import Store

    return Store.open(on_this_node(path) if is_remote(path) else path)


def address_for_all_nodes(path: str) -> str:
    """Return a store's address for other machines, whose environment may name no endpoint."""
    return Remote.parse(path).uri if is_remote(path) else path


def content_hash(path: str) -> str:
    """Return what names a store's content; of one in S3 only the manifest is read.

    Empty for none, as a study has whose trainer is another.

    Raises:
        StoreError: It is no store, or not a complete one.
        OSError: S3 does not answer.
    """
    if not path:
        return ""
    return _named_hash(path) if is_remote(path) else open_store(path).content_hash


def _named_hash(path: str) -> str:
    try:
        named: str = json.loads(read_manifest(path))["content_hash"]
        if not re.fullmatch("[0-9a-f]+", named):  # it becomes a folder's name
            raise ValueError(f"content_hash {named!r}")
        return named
    except FileNotFoundError as error:
        raise StoreError(
            [f"{path}: not a prepared store ({MANIFEST} is missing): segtune prepare makes one"]
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError([f"{path}: damaged store: {error}"]) from error


def read_manifest(path: str) -> bytes:
    """Return a store's manifest.

    Raises:
        FileNotFoundError: It has none.
        OSError: S3 does not answer, or it cannot be read.
    """
    return read_store_file(path, MANIFEST)


def read_store_file(path: str, name: str) -> bytes:
    """Return a file of a store, by its name there.

    Raises:
        FileNotFoundError: It has none.
        OSError: S3 does not answer, or it cannot be read.
    """
    if not is_remote(path):
        return (Path(path) / name).read_bytes()
    content = Remote.parse(path).get(name)
    if content is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), f"{path}/{name}")
    return content


def on_this_node(path: str, say: Callable[[str], None] = print, alive: Sign = lambda: None) -> str:
    """Return where to read a store on this node: its copy here, made and verified if need be.

    A store on the file system of the cache is read where it is, and so is one for which the cache
    has no space.

    Args:
        path: A folder, or s3://…
        say: Is told where there is no space.
        alive: Called while this takes long.

    Raises:
        StoreError: It is no store, or is damaged.
        OSError: S3 does not answer, or has the only copy, for which there is no space.
    """
    stores = cache_folder() / "stores"
    stores.mkdir(parents=True, exist_ok=True)
    if not is_remote(path) and _same_disk(Path(path), stores):
        return path
    copy = stores / _named_hash(path)
    with _locked(copy.with_suffix(".lock"), alive):
        if _good(copy, alive):
            return str(copy)
        try:
            _copy(path, copy, alive)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or is_remote(path):
                raise
            say(f"{stores}: no space for a copy of {path}, which is read where it is")
            return path
    return str(copy)


def with_store_here(spec: dict[str, Any]) -> dict[str, Any]:
    """Return an attempt's spec with the store that it is to read on this node.

    However long that takes, the run folder has signs of life.

    Raises:
        StoreError: There is no store, or one that cannot be read.
        StoreChanged: It holds other data than its content hash says, or than the study's.
        OSError: It cannot be read, S3 does not answer, or there is no space.
    """
    train = spec["train"]
    if not spec["has_data"]:
        return spec
    given, run_dir = train["data"]["store"], Path(spec["run_dir"])

    def alive() -> None:
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / "alive").touch()

    try:
        store = on_this_node(given, alive=alive)
        found, begun = _named_hash(store), spec["store_hash"]
        if begun and found != begun:  # prepared anew in its place, perhaps without a fault
            rule = f"but this study was begun with {begun[:12]}: prepare that again"
            raise StoreChanged([f"{given}: has the content {found[:12]}, {rule}"])
        if store == given:
            study = spec["storage"] or str(run_dir.parents[1])
            _verify_in_place(Path(store), f"{study} {spec['fence']}", alive)
    except StoreError as error:
        raise type(error)([f"{socket.gethostname()}: {error}"]) from None
    return spec | {"train": train | {"data": train["data"] | {"store": store}}}


def _same_disk(path: Path, stores: Path) -> bool:
    try:
        return path.stat().st_dev == stores.stat().st_dev
    except FileNotFoundError:
        return True  # whoever opens it says so


@contextmanager
def _locked(path: Path, alive: Sign) -> Iterator[None]:
    waits = Wait()
    with path.open("w") as file:
        while not _take(file):
            waits.on("for another process on this machine, which copies or verifies the store")
            alive()
            time.sleep(ASK_S)
        yield


def _take(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _verify_in_place(store: Path, launch: str, alive: Sign) -> None:
    """Make sure that a store which is read where it is holds what its content hash says.

    Args:
        store: Its folder.
        launch: Names the launch, which reads the content once.
        alive: Called while this takes long.

    Raises:
        StoreError: It is no store, or damaged.
        StoreChanged: It does not.
        OSError: It cannot be read.
    """
    from trainer.data.content_hash import problem
    from trainer.data.store import Store

    place = hashlib.sha256(str(store.resolve()).encode()).hexdigest()[:16]
    record = cache_folder() / "stores" / f"{place}.json"
    with _locked(record.with_suffix(".lock"), alive):
        files = _stats(store)
        try:
            known = from_json(record.read_text())
        except (OSError, ValueError):
            known = {}
        launches = known.get("launches", []) if known.get("files") == files else []
        if launch in launches:
            return
        if found := problem(store, alive):
            for case in Store.open(store).cases:  # raises where it is away, not changed
                (store / "cases" / f"{case.case_id}.npz").stat()
            raise StoreChanged([f"{store}: damaged store: {found}: prepare it again"])
        text = to_json({"files": files, "launches": [*launches, launch][-LAUNCHES:]}, indent=None)
        write_atomically(record, lambda temporary: temporary.write_text(text))


def _good(copy: Path, alive: Sign) -> bool:
    """Return whether a copy is there and as it was verified; what has changed is verified again."""
    from trainer.data.content_hash import problem

    if not copy.exists():
        return False
    try:
        same = from_json((copy / RECORD).read_text()) == _stats(copy)
    except (OSError, ValueError):
        same = False
    if same or not problem(copy, alive):
        return True
    damaged = copy.with_suffix(".damaged")
    shutil.rmtree(damaged, ignore_errors=True)
    copy.rename(damaged)  # whoever has mapped it goes on reading what it had
    shutil.rmtree(damaged)
    return False


def _stats(copy: Path) -> dict[str, Any]:
    return {
        path.relative_to(copy).as_posix(): [path.stat().st_size, path.stat().st_mtime_ns]
        for path in sorted(copy.rglob("*"))
        if path.is_file() and path.name != RECORD
    }


def _copy(path: str, copy: Path, alive: Sign) -> None:
    from trainer.data.content_hash import problem

    def copy_file(source: str, target: str) -> None:
        shutil.copy2(source, target)
        alive()

    unfinished = copy.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        if is_remote(path):
            _download(Remote.parse(path), unfinished, alive)
        else:
            files = [file for file in Path(path).rglob("*") if file.is_file()]
            _check_space(copy.parent, sum(file.stat().st_size for file in files))
            shutil.copytree(path, unfinished, copy_function=copy_file)
        if found := problem(unfinished, alive):
            raise StoreChanged([f"{path}: damaged store: {found}: prepare it again"])
        (unfinished / RECORD).write_text(to_json(_stats(unfinished), indent=None))
        unfinished.rename(copy)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _download(store: Remote, folder: Path, alive: Sign) -> None:
    def download(entry: Entry) -> None:
        store.download(entry.key, below(folder, entry.key))
        alive()

    entries = store.entries()
    _check_space(folder.parent, sum(entry.size for entry in entries))
    in_parallel(download, entries)


def _check_space(folder: Path, size: int) -> None:
    if shutil.disk_usage(folder).free < size + RESERVE_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
