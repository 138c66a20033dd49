"""The store: gathered from the map, nothing copied on opening, test cases sealed."""

import errno
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.trainer.data import trees
from trainer.configfile import ConfigError
from trainer.data.prepare import prepare
from trainer.data.store import MANIFEST, Store

linux = pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux's /proc")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    prepare(trees.isles24(folder / "data", 10), folder / "store", image_size=40, workers=1)
    return folder / "store"


def test_images_are_gathered_in_the_order_asked_for(path):
    store = Store.open(path)
    rows = [45, 3, 3, 18]

    images = store.images(rows, ("tmax", "ncct"))

    assert images.shape == (4, 2, 40, 40)
    assert images.dtype == np.float16
    every = store.images(range(store.num_slices))
    assert every.shape == (60, 3, 40, 40)
    np.testing.assert_array_equal(images[:, 0], every[rows, 2])
    np.testing.assert_array_equal(images[:, 1], every[rows, 0])
    assert len(np.unique(every[:, 0].reshape(60, -1).mean(1))) > 1


def test_masks_and_brains_are_binary_and_lesion_slices_have_lesion(path):
    store = Store.open(path)
    rows = range(store.num_slices)

    masks, brains = store.masks(rows), store.brain(rows)

    assert masks.shape == brains.shape == (60, 40, 40)
    assert masks.dtype == brains.dtype == np.uint8
    assert set(np.unique(masks)) == set(np.unique(brains)) == {0, 1}
    np.testing.assert_array_equal(masks.any(axis=(1, 2)), store.lesion_slice)


def test_a_split_has_every_training_case_once_and_no_test_case(path):
    store = Store.open(path)
    sealed = {case.case_id for case in store.test_cases()}
    seen = []

    for fold in range(5):
        training, validation = store.split(fold)
        ids = [case.case_id for case in (*training, *validation)]
        assert len(set(ids)) == len(ids) == 8
        assert not sealed & {*ids}
        assert {case.fold for case in validation} == {fold}
        seen += [case.case_id for case in validation]

    assert len(sealed) == 2
    assert sorted(seen) == sorted({case.case_id for case in store.cases} - sealed)


def test_the_mask_survives_the_way_to_the_store_and_back(path):
    store = Store.open(path)
    for case in store.cases:
        truth = store.native_mask(case)
        assert truth.shape == case.native_shape == trees.SHAPE
        assert truth.sum() * 96 / 1000 == pytest.approx(case.lesion_ml)

        back = store.to_native(case, store.masks(case.rows).astype(np.float32)) >= 0.5

        dice = 2 * (back & truth).sum() / (back.sum() + truth.sum())
        assert dice > (0.85 if truth.sum() > 50 else 0.7)
        brain, expected = store.native_brain(case), trees.head()[1]
        assert 2 * (brain & expected).sum() / (brain.sum() + expected.sum()) > 0.95


def test_to_native_is_zero_outside_the_box(path):
    store = Store.open(path)
    case = store.cases[0]

    volume = store.to_native(case, np.ones((case.num_slices, 40, 40), np.float32))

    assert volume.dtype == np.float32
    assert volume.max() == pytest.approx(1)
    assert volume[0, 0].max() == 0


@linux
def test_the_arrays_lie_in_the_mapped_files(path):
    store = Store.open(path)
    maps = [
        (int(begin, 16), int(end, 16), name)
        for begin, end, name in re.findall(
            r"^(\w+)-(\w+) \S+ \S+ \S+ \S+ +(\S+\.arrow)$",
            Path("/proc/self/maps").read_text(),
            re.M,
        )
    ]

    for case, columns in zip(store.cases, store._columns, strict=True):
        for array in columns.values():
            address = array.ctypes.data
            files = [name for begin, end, name in maps if begin <= address < end]
            assert [Path(name).stem for name in files] == [case.case_id]
            assert not array.flags.writeable


@linux
def test_opening_a_store_does_not_read_it(tmp_path):
    small = prepare(
        trees.isles24(tmp_path / "tiny", 2), tmp_path / "small", image_size=16, workers=1
    )
    big = prepare(trees.isles24(tmp_path / "data", 4), tmp_path / "big", image_size=512, workers=1)
    size_mib = sum(file.stat().st_size for file in big.path.rglob("*.arrow")) / 2**20
    assert size_mib > 40
    script = f"""
import re, pathlib
def anonymous_and_file_mib():
    status = pathlib.Path("/proc/self/status").read_text()
    lines = [re.search(name + r":\\s+(\\d+)", status) for name in ("RssAnon", "RssFile")]
    return [int(line[1]) / 1024 for line in lines]
from trainer.data.store import Store
Store.open({str(small.path)!r})  # whatever a first call loads
before = anonymous_and_file_mib()
store = Store.open({str(big.path)!r})
opened = anonymous_and_file_mib()
store.images([0])
for case in store.cases:
    for column in store._columns[store.cases.index(case)].values():
        column.max()
read = anonymous_and_file_mib()
print(sum(opened) - sum(before), read[0] - before[0], read[1] - before[1])
"""
    words = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    on_opening, private, shared = map(float, words)

    assert on_opening < 0.15 * size_mib
    assert private < 0.15 * size_mib
    assert shared > 0.9 * size_mib


def test_no_file_stays_open(path):
    before = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0
    store = Store.open(path)
    after = len(list(Path("/proc/self/fd").iterdir())) if before else 0

    assert after == before
    assert store.images([0]).shape == (1, 3, 40, 40)


@pytest.mark.parametrize(
    "damage, rule",
    [
        (lambda path: (path / MANIFEST).unlink(), "not a prepared store"),
        (lambda path: (path / MANIFEST).write_text("{"), "damaged store"),
        (lambda path: (path / MANIFEST).write_text("[]"), "damaged store"),
        (lambda path: next((path / "cases").glob("*.arrow")).write_bytes(b"x"), "damaged store"),
        (lambda path: next((path / "cases").glob("*.arrow")).unlink(), "arrow is missing"),
    ],
)
def test_what_is_no_store_is_one_line(tmp_path, damage, rule):
    out = tmp_path / "out"
    prepare(trees.isles24(tmp_path / "data", 2), out, image_size=16, workers=1)
    damage(out)

    with pytest.raises(ConfigError, match=rule) as error:
        Store.open(out)

    assert str(error.value).startswith(str(out)) and ": " in str(error.value)
    assert len(error.value.lines) == 1
    with pytest.raises(ConfigError, match="not a prepared store"):
        Store.open(tmp_path / "nowhere")


def test_a_store_that_cannot_be_read_now_is_not_called_damaged(path, tmp_path):
    """Neither where this process opens a file, without a descriptor left, nor where Arrow does."""
    free = os.open(path, os.O_RDONLY)
    os.close(free)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
    try:
        with pytest.raises(OSError) as raised:
            Store.open(path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert raised.value.errno == errno.EMFILE

    shutil.copytree(path, tmp_path / "store")
    first = next((tmp_path / "store" / "cases").glob("*.arrow"))
    first.unlink()
    first.symlink_to(first)
    with pytest.raises(OSError) as raised:
        Store.open(tmp_path / "store")
    assert raised.value.errno == errno.EINVAL and "is no regular file" in str(raised.value)


def test_another_version_says_to_prepare_again(tmp_path):
    out = tmp_path / "out"
    prepare(trees.isles24(tmp_path / "data", 2), out, image_size=16, workers=1)
    manifest = json.loads((out / MANIFEST).read_text())
    (out / MANIFEST).write_text(json.dumps(manifest | {"format": "segtune-store-0"}))

    with pytest.raises(ConfigError, match="segtune-store-0, but must be a segtune-store-1"):
        Store.open(out)


def test_an_unknown_modality_names_the_nearest(path):
    with pytest.raises(ConfigError, match=r"no modality 'tmx'.*did you mean tmax\?"):
        Store.open(path).images([0], ["tmx"])
