"""Archives that anybody may have made: what is not as `segtune archive` writes it is refused."""

import hashlib
import json
import os
import stat
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from search.storage.archives import reader
from search.storage.archives.layout import FORMAT
from search.storage.archives.opened import archive_file, open_archive
from search.storage.archives.reader import is_archive
from search.storage.studies import NoSuchStudy, find_study, open_as_driver
from trainer.configfile import ConfigError

FILES = {"ledger.jsonl": b"line\n" * 9, "trials/0003/ema.pt": os.urandom(999)}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEGTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/archives"


def manifest(files: Mapping[str, bytes], changed: Mapping[str, object] = {}) -> bytes:
    listed = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in files.items()
    }
    return json.dumps({"format": FORMAT, "study": "demo", "files": listed, **changed}).encode()


def write(
    path: Path,
    files: Mapping[str, bytes] = FILES,
    more: Callable[[zipfile.ZipFile], None] = lambda file: None,
    changed: Mapping[str, object] = {},
) -> Path:
    """Write an archive; `more` adds what it should not have."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(f"demo/{name}", content)
        file.writestr("demo/archive.json", manifest(files, changed))
        more(file)
    return path


def refused(path: Path) -> str:
    with pytest.raises(ConfigError) as error:
        open_archive(path)
    [line] = error.value.lines
    assert line.startswith(str(path)) and "\n" not in line
    return line


def test_an_archive_is_unpacked_once_and_checked_when_it_changed(
    tmp_path: Path, cache: Path
) -> None:
    path = write(tmp_path / "a.zip")
    folder = find_study(str(path), tmp_path)
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert found == {*FILES, "archive.json"}
    assert (folder / "trials/0003/ema.pt").read_bytes() == FILES["trials/0003/ema.pt"]
    assert archive_file(folder) == path and is_archive(path)
    before = (folder / "ledger.jsonl").stat()
    assert find_study(str(path), tmp_path) == folder
    assert (folder / "ledger.jsonl").stat() == before
    moved = path.rename(tmp_path / "b.zip")
    assert open_archive(moved) == folder and archive_file(folder) == moved
    with pytest.raises(ConfigError, match=r"b\.zip: is an archive, and read-only"):
        open_as_driver(folder).__enter__()
    # What was sound when it was unpacked, and is not any more, is not trusted for its manifest.
    content = bytearray(moved.read_bytes())
    content[content.index(FILES["trials/0003/ema.pt"][:20]) + 5] ^= 1
    moved.write_bytes(content)
    assert "ema.pt" in refused(moved)


@pytest.mark.parametrize("place", [0.0, 0.02, 0.5, 0.9, 0.97, 0.999])
@pytest.mark.parametrize("how", ["flip", "cut", "zeros"])
def test_a_damaged_one_is_refused_in_a_line(
    tmp_path: Path, cache: Path, place: float, how: str
) -> None:
    path = write(tmp_path / "a.zip")
    content = bytearray(path.read_bytes())
    at = int(place * len(content))
    if how == "flip":
        content[at] ^= 0x11
    elif how == "cut":
        del content[at:]
    else:
        content[at : at + 64] = bytes(len(content[at : at + 64]))
    path.write_bytes(content)
    try:
        folder = open_archive(path)
    except ConfigError as error:
        assert len(error.lines) == 1 and not [*cache.glob("*/*")]
    else:  # a byte that says nothing of the content, such as a date
        assert all((folder / name).read_bytes() == each for name, each in FILES.items())


def special(name: str, kind: int, content: bytes = b"x") -> Callable[[zipfile.ZipFile], None]:
    def add(file: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo(name)
        info.create_system, info.external_attr = 3, (kind | 0o777) << 16
        file.writestr(info, content)

    return add


REGULAR = stat.S_IFREG
HOSTILE: dict[str, tuple[Callable[[zipfile.ZipFile], None], str]] = {
    "traversal": (special("demo/../../evil", REGULAR), "no archive has a file of this name"),
    "absolute": (special("/etc/cron.d/evil", REGULAR), "one folder"),
    "another folder": (special("other/ledger.jsonl", REGULAR), "one folder"),
    "backslashes": (special("demo/trials\\0003\\x.pt", REGULAR), "no archive has"),
    "hidden": (special("demo/.bashrc", REGULAR), "no archive has"),
    "code": (special("demo/trials/0003/sitecustomize.py", REGULAR), "no archive has"),
    "picture outside": (special("demo/trials/0003/samples/../x.png", REGULAR), "no archive has"),
    "control characters": (special("demo/trials/0003/samples/\x1b[2J.png", REGULAR), "no archive"),
    "link": (special("demo/study.yaml", stat.S_IFLNK, b"/etc/passwd"), "is no regular file"),
    "device": (special("demo/study.yaml", stat.S_IFCHR), "is no regular file"),
    "fifo": (special("demo/study.yaml", stat.S_IFIFO), "is no regular file"),
    "folder": (special("demo/study.yaml/", stat.S_IFDIR, b""), "is no regular file"),
    "twice": (special("demo/ledger.jsonl", REGULAR), "is there twice"),
    "other digits": (
        special("demo/trials/\u0660\u0660\u0660\u0661/config.yaml", REGULAR),
        "no archive",
    ),
    "other direction": (special("demo/trials/0003/samples/\u202egnp.png", REGULAR), "no archive"),
    "not listed": (special("demo/study.yaml", REGULAR), "has beside them study.yaml"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_one_is_refused(tmp_path: Path, cache: Path, what: str) -> None:
    add, says = HOSTILE[what]
    line = refused(write(tmp_path / "a.zip", more=add))
    assert says in line and "\x1b" not in line
    assert not [*cache.glob("*/*")] and {p.name for p in tmp_path.iterdir()} <= {"a.zip", "cache"}


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    zeros = {"ledger.jsonl": bytes(64 << 20)}
    path = write(tmp_path / "a.zip", zeros)
    assert path.stat().st_size < 1 << 17
    assert "refused: 'demo/ledger.jsonl': becomes 67108864 bytes of" in refused(path)


def test_members_that_lie_in_each_other_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    kernel = os.urandom(5000)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("demo/ledger.jsonl", kernel)
        first = file.filelist[0]
        for number in range(50):
            twin = zipfile.ZipInfo(f"demo/trials/{number:04d}/ema.pt")
            twin.file_size = twin.compress_size = len(kernel)
            twin.CRC, twin.header_offset = first.CRC, first.header_offset
            file.filelist.append(twin)
            file.NameToInfo[twin.filename] = twin
        file.writestr("demo/archive.json", manifest({}))
    assert "its members lie in each other" in refused(path)


def test_a_list_of_members_that_would_fill_the_memory_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.zip")
    content = bytearray(path.read_bytes())
    content[-10:-6] = struct.pack("<L", 1 << 31)
    path.write_bytes(content)
    assert "its list of members has 2147483648 bytes" in refused(path)
    assert not is_archive(path)
    write(path)
    monkeypatch.setattr(reader, "MAX_DIRECTORY_BYTES", 100)
    assert "its list of members has" in refused(path)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"format": "segtune-archive-9"}, "this reads segtune-archive-1"),
        ({"study": "other"}, "damaged: names no study or no files"),
        ({"weights": 5}, "archive.json: damaged: weights"),
        ({"files": ["ledger.jsonl"]}, "damaged: names no study or no files"),
        ({"files": {}}, "has beside them ledger.jsonl"),
        ({"files": json.loads(manifest(FILES | {"study.yaml": b""}))["files"]}, "lacks study.yaml"),
        ({"files": json.loads(manifest(FILES | {"ledger.jsonl": b"x"}))["files"]}, "another size"),
        (
            {"files": json.loads(manifest(FILES | {"ledger.jsonl": b"LINE\n" * 9}))["files"]},
            "ledger.jsonl: is not as it was archived",
        ),
    ],
)
def test_a_manifest_of_something_else_is_refused(
    tmp_path: Path, changed: Mapping[str, object], says: str
) -> None:
    assert says in refused(write(tmp_path / "a.zip", changed=changed))


def test_what_is_no_archive_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    (tmp_path / "empty").touch()
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as file:
        file.writestr("demo/ledger.jsonl", "x")
    for name in ("a.txt", "empty", "other.zip"):
        assert "is no archive of a study" in refused(tmp_path / name)
        assert not is_archive(tmp_path / name)
    with pytest.raises(NoSuchStudy):
        find_study(str(tmp_path / "a.txt"), tmp_path)
    with pytest.raises(ConfigError, match="is no archive of a study"):
        find_study(str(tmp_path / "other.zip"), tmp_path)
    os.mkfifo(tmp_path / "fifo")
    assert not is_archive(tmp_path / "fifo") and not is_archive(tmp_path)


def test_no_room_for_it_is_said_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    path = write(tmp_path / "a.zip")
    usage = shutil.disk_usage(tmp_path)._replace(free=1 << 20)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(OSError, match="No space left"):
        open_archive(path)
