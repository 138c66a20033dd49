"""Files that ask for gigabytes, are none, or have odd names: one line, before they are read."""

import gzip
import os
import socket
import struct
import time
import tracemalloc
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image as Picture

from tests.trainer.data import trees
from tests.trainer.data.trees import run
from trainer.configfile import ConfigError
from trainer.data.files import BadFile, Source, read_pixels
from trainer.data.nifti import num_channels, read_volume
from trainer.terminal import shown

ZEROS = gzip.compress(bytes(1 << 24))
"""A member of 16 MiB in 16 kB."""


def header(shape: tuple[int, ...], offset: int = 352, dtype: type = np.uint8) -> bytes:
    made = nibabel.Nifti1Header()
    made.set_data_dtype(dtype)
    made.set_data_shape(shape)
    made["vox_offset"] = offset
    return bytes(made.binaryblock)


def refusal(path: Path) -> str:
    """Return the line of a file that is refused quickly and without much memory."""
    begun_s = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(BadFile) as error:
            read_volume(Source(path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.process_time() - begun_s < 2
    assert peak < 100e6
    line = str(error.value)
    assert "\n" not in line
    return line


EXTENSION = b"\1\0\0\0" + struct.pack("<ii", 0x7FFFFFF0, 6)
BOMBS = {
    "says it": (header((2000, 2000, 1000)) + bytes(4), 250, "2000x2000x1000 voxels .3.7 GiB"),
    "float64": (header((800, 800, 800), dtype=np.float64) + bytes(4), 250, "at most 512 x 2.20"),
    "says less": (header((4, 4, 4)) + bytes(4), 250, "asks for 416 bytes, but it goes on"),
    "says more": (header((1000, 1000, 500)) + bytes(4), 1, "asks for 500000352 bytes"),
    "far voxels": (header((4, 4, 4), 1 << 30) + bytes(4), 250, "from byte 1073741824 on"),
    "extension": (header((4, 4, 4), 400) + EXTENSION, 250, "extension"),
    "negative": (header((4, 4, 4)).replace(b"\4\0\4\0\4", b"\4\0\xfc\xff\4"), 1, "damaged"),
    "no header": (b"", 250, "is not a NIfTI file"),
}


@pytest.mark.parametrize("begin, members, rule", BOMBS.values(), ids=BOMBS)
def test_what_unpacks_to_gigabytes_is_refused_by_its_header(tmp_path, begin, members, rule):
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(begin) + ZEROS * members)

    with pytest.raises(BadFile, match=rule):
        raise BadFile(path, refusal(path))


def test_a_sparse_file_is_refused_by_its_header(tmp_path):
    path = tmp_path / "a.nii"
    path.write_bytes(header((2000, 2000, 1000)) + bytes(4))
    os.truncate(path, 4 * 10**9 + 352)

    assert "2000x2000x1000 voxels" in refusal(path)


def test_a_file_of_several_gzip_members_is_read(tmp_path):
    values = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii")
    content = (tmp_path / "a.nii").read_bytes()
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(content[:360]) + gzip.compress(content[360:]))

    np.testing.assert_array_equal(read_volume(Source(tmp_path / "a.nii.gz")).data, values)


def test_bytes_that_are_not_gzip_are_one_line(tmp_path):
    path = tmp_path / "a.nii.gz"
    path.write_bytes(header((4, 4, 4)) + bytes(68))

    assert "is not a NIfTI file packed with gzip" in refusal(path)
    with pytest.raises(BadFile):
        num_channels(path)


def chunk(kind: bytes, content: bytes) -> bytes:
    crc = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + crc


def png(width: int, height: int, more: bytes = b"") -> bytes:
    size = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    end = chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + more + end


ITXT = b"a\0\1\0\0\0" + zlib.compress(bytes(1 << 26), 9)
PICTURES = {
    "170 megapixels": (
        png(13100, 13000),
        "has 170300000 pixels, but a slice has at most 8192 x 8192: scale",
    ),
    "greatest size": (png(2**31 - 1, 2**31 - 1), "has 4611686014132420609 pixels"),
    "text bomb": (png(20, 20, chunk(b"iTXt", ITXT)), "not a readable picture"),
    "profile bomb": (
        png(20, 20, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 26), 9))),
        "not a readable picture",
    ),
    "truncated": (png(400, 400)[:60], "not a readable picture"),
    "too little data": (png(4000, 4000), "not a readable picture"),
    "no size": (png(0, 0), "not a readable picture"),
    "only a signature": (b"\x89PNG\r\n\x1a\n", "not a readable picture"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no format of pictures"),
}


@pytest.mark.parametrize("content, rule", PICTURES.values(), ids=PICTURES)
def test_a_picture_bomb_is_one_line_at_once(tmp_path, content, rule):
    path = tmp_path / "a.png"
    path.write_bytes(content)

    line = refusal(path)

    assert rule in line
    assert line.count(str(path)) == 1


def test_pages_without_number_are_not_counted(tmp_path):
    pages = [Picture.fromarray(np.zeros((2, 2), np.uint8))] * 150
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])

    with pytest.raises(BadFile, match="has 100 or more pages"):
        read_pixels(tmp_path / "a.tif")


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # whose whole name may be longer than a socket's
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _dangling(path: Path) -> None:
    path.symlink_to("nowhere.png")


NO_FILES = {
    "pipe": (_pipe, "is a pipe (FIFO), but must be a file"),
    "socket": (_socket, "is a socket, but must be a file"),
    "folder": (Path.mkdir, "is a folder, but must be a file"),
    "link to itself": (_loop, "is missing: it links to itself"),
    "link to nothing": (_dangling, "is missing: it links to nowhere.png"),
}


@pytest.mark.parametrize("make, rule", NO_FILES.values(), ids=NO_FILES)
def test_what_is_no_file_is_one_line_with_its_name(tmp_path, make, rule):
    root = trees.pictures(tmp_path / "data")
    path = root / "images" / "1.png"
    path.unlink()
    make(path)

    with pytest.raises(ConfigError) as error:
        run(root, tmp_path / "out")

    assert error.value.lines == [f"{path}: {rule}"] or (
        make is Path.mkdir and "is missing" in error.value.lines[0]
    )


def test_a_pipe_among_other_files_is_not_waited_for(tmp_path):
    root = trees.isles24(tmp_path / "data", 2)
    os.mkfifo(root / "notes")
    os.mkfifo(root / "phenotype" / "more.csv")

    _, text = run(root, tmp_path / "out")

    assert "more.csv (no file)" in text


@pytest.mark.parametrize("name", ["new\nline", "tab\tx", "esc\x1b[2J", os.fsdecode(b"caf\xe9")])
def test_an_odd_name_is_quoted_in_one_line(tmp_path, name):
    root = trees.pictures(tmp_path / "data")
    for folder in ("images", "masks"):
        (root / folder / "1.png").rename(root / folder / f"{name}.png")

    with pytest.raises(ConfigError) as error:
        run(root, tmp_path / "out")

    (line,) = error.value.lines
    assert line.isprintable()
    assert shown(f"{name}.png") in line


@pytest.mark.parametrize("name", ["a?b", "-dash", "trail ", "a*[b]", "=1+1", "c:d"])
def test_a_name_that_can_be_seen_is_a_case(tmp_path, name):
    root = trees.pictures(tmp_path / "data")
    for folder in ("images", "masks"):
        (root / folder / "1.png").rename(root / folder / f"{name}.png")

    store, _ = run(root, tmp_path / "out")

    assert name in [case.case_id for case in store.cases]


def test_a_bad_file_of_an_odd_name_is_quoted(tmp_path):
    line = str(BadFile(tmp_path / "a\nb .nii ", "is empty"))

    assert line == f"{str(tmp_path / 'a')!r}"[:-1] + "\\nb .nii ': is empty"


def test_a_name_that_no_store_can_hold_is_said_before_any_work(tmp_path):
    root = trees.pictures(tmp_path / "data")
    for folder in ("images", "masks"):
        (root / folder / "1.png").rename(root / folder / f"{'x' * 240}.png")

    with pytest.raises(ConfigError, match="1 names of cases are too long"):
        run(root, tmp_path / "out")

    assert [path.name for path in tmp_path.iterdir()] == ["data"]
