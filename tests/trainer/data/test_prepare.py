"""`prepare`: whole or not at all, once, continued, and one line for each bad case."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image as Picture

from tests.trainer.data import trees
from tests.trainer.data.trees import run
from trainer.configfile import ConfigError
from trainer.data import prepare as prepare_module
from trainer.data.making import case_workers
from trainer.data.store import MANIFEST


def test_the_store_holds_every_case_with_its_parts(tmp_path):
    root = trees.isles24(tmp_path / "data", 6)

    store, text = run(root, tmp_path / "out")

    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text())
    with pa.memory_map(str(tmp_path / "out" / "slices.arrow")) as source:
        slices = pa.ipc.open_file(source).read_all().to_pylist()
    assert [case.case_id for case in store.cases] == [f"sub-stroke000{n}" for n in range(1, 7)]
    assert store.modalities == ("ncct", "cbf", "tmax")
    assert [case.first for case in store.cases] == [6 * n for n in range(6)]
    assert len(slices) == store.num_slices == 36
    assert slices[7]["case_id"] == "sub-stroke0002"
    assert slices[7]["slice"] == 1
    assert slices[7]["split"] == store.cases[1].split
    assert slices[7]["spacing_mm"] == pytest.approx(store.cases[1].spacing_mm)
    assert manifest["content_hash"] == store.content_hash
    assert {*manifest["splits"]["test"]} == {case.case_id for case in store.test_cases()}
    assert store.cases[0].clinical == {"Age": 61.0, "NIHSS at admission": None}
    assert store.cases[0].lesion_ml == pytest.approx(3 * 3 * 2 * 96 / 1000)
    assert "note: no case has cta, cbv, mtt: left out" in text
    assert str(tmp_path / "out" / "contact_sheet.png") in text


def test_values_are_the_files_and_the_mask_is_binary(tmp_path):
    store, _ = run(trees.isles24(tmp_path / "data"), tmp_path / "out", image_size=64)
    case = store.cases[0]
    brain = store.brain(case.rows).astype(bool)
    truth, inside = trees.head()

    for channel, factor, offset in ((0, 1, 0), (1, 1, 20), (2, 0.1, 0)):
        values = store.images(case.rows)[:, channel].astype(float)
        expected = truth[inside].mean() * factor + offset
        assert values[brain].mean() == pytest.approx(expected, rel=0.03)
    assert set(np.unique(store.masks(case.rows))) == {0, 1}
    stored_ml = store.masks(case.rows).sum() * np.prod(case.spacing_mm) / 1000
    assert stored_ml == pytest.approx(case.lesion_ml, rel=0.25)
    np.testing.assert_array_equal(store.native_mask(case), trees.lesion(size=3) > 0)
    assert case.spacing_mm[0] == case.spacing_mm[1]
    assert case.spacing_mm[2] == 6.0


def test_orientation_of_the_files_changes_nothing(tmp_path):
    def reorient(path: Path, axes: str) -> None:
        image = nibabel.load(path)
        change = nibabel.orientations.ornt_transform(
            nibabel.io_orientation(image.affine), nibabel.orientations.axcodes2ornt(axes)
        )
        nibabel.save(nibabel.Nifti1Image.from_image(image).as_reoriented(change), path)

    plain, _ = run(trees.isles24(tmp_path / "a", 4), tmp_path / "plain")
    turned = trees.isles24(tmp_path / "b", 4)
    reorient(trees.ncct(turned), "LAS")
    reorient(trees.mask(turned), "LPS")
    reorient(trees.tmax(turned), "PSR")
    store, _ = run(turned, tmp_path / "turned")

    assert store.content_hash == plain.content_hash


@pytest.mark.slow
def test_the_content_hash_follows_the_content_only(tmp_path):
    root = trees.isles24(tmp_path / "data", 4)
    first, _ = run(root, tmp_path / "one")
    parallel, _ = run(root, tmp_path / "two", workers=2)
    moved = root.rename(tmp_path / "moved")
    again, _ = run(moved, tmp_path / "three")
    other_seed, _ = run(moved, tmp_path / "four", seed=1)
    trees.write(trees.tmax(moved), trees.head()[0] / 9)
    changed, _ = run(moved, tmp_path / "five")

    assert first.content_hash == parallel.content_hash == again.content_hash
    assert len({first.content_hash, other_seed.content_hash, changed.content_hash}) == 3


def test_a_second_call_does_nothing(tmp_path, count_cases):
    root = trees.isles24(tmp_path / "data")
    run(root, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    del count_cases[:]

    start_s = time.process_time()
    _, text = run(root, tmp_path / "out")

    assert time.process_time() - start_s < 1
    assert count_cases == []
    assert "nothing to do" in text
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}


@pytest.mark.parametrize(
    "change, rule",
    [
        (lambda root: {"image_size": 48}, "image_size 32, not 48"),
        (lambda root: {"seed": 7}, "seed 0, not 7"),
        (lambda root: os.utime(trees.tmax(root)) or {}, "other or changed files"),
        (lambda root: trees.isles24(root / "x").rename(root / "y") and {}, None),
    ],
    ids=["image size", "seed", "a file's time", "files that no reader takes"],
)
def test_another_input_or_setting_is_refused(tmp_path, change, rule):
    root = trees.isles24(tmp_path / "data")
    run(root, tmp_path / "out")
    kept = (tmp_path / "out" / MANIFEST).read_bytes()
    settings = change(root)

    if rule is None:
        run(root, tmp_path / "out", **settings)
    else:
        with pytest.raises(ConfigError, match=rule) as error:
            run(root, tmp_path / "out", **settings)
        assert len(error.value.lines) == 1
    assert (tmp_path / "out" / MANIFEST).read_bytes() == kept


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_text('{"request": 5}'),
        lambda path: path.write_text('{"request": [1]}'),
        lambda path: path.write_text("[" * 100_000),
        os.mkfifo,
    ],
)
def test_a_manifest_that_is_none_is_in_the_way(tmp_path, damage):
    (tmp_path / "out").mkdir()
    damage(tmp_path / "out" / MANIFEST)
    with pytest.raises(ConfigError, match="exists and is not a prepared store"):
        run(trees.isles24(tmp_path / "data"), tmp_path / "out")


def test_a_folder_that_is_no_store_is_not_touched(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")

    with pytest.raises(ConfigError, match="exists and is not a prepared store"):
        run(trees.isles24(tmp_path / "data"), tmp_path / "out")

    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_an_interrupted_call_continues_with_the_finished_cases(tmp_path, monkeypatch, count_cases):
    root = trees.isles24(tmp_path / "data", 5)
    whole, _ = run(root, tmp_path / "whole")
    del count_cases[:]
    counted = case_workers.prepare_case

    def interrupted(case, *rest):
        if case.case_id == "sub-stroke0003":
            (tmp_path / "out.unfinished" / "cases" / "sub-stroke0003.99.tmp").write_bytes(b"half")
            raise KeyboardInterrupt
        return counted(case, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(case_workers, "prepare_case", interrupted)
        run(root, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert count_cases == ["sub-stroke0001", "sub-stroke0002"]
    store, text = run(root, tmp_path / "out")

    assert count_cases == [f"sub-stroke000{n}" for n in range(1, 6)]
    assert "2 of them finished earlier" in text
    assert store.content_hash == whole.content_hash
    assert not (tmp_path / "out.unfinished").exists()
    assert len([*(tmp_path / "out" / "cases").iterdir()]) == 10


@pytest.mark.slow
def test_a_killed_call_leaves_no_process_and_is_continued(tmp_path):
    root, out = trees.isles24(tmp_path / "data", 24), tmp_path / "out"
    script = tmp_path / "prepare_it.py"
    script.write_text(
        "from trainer.data.prepare import prepare\n"
        "if __name__ == '__main__':\n"
        f"    prepare({str(root)!r}, {str(out)!r}, image_size=256, workers=2)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    process = subprocess.Popen([sys.executable, script], env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not any(tmp_path.glob("out.unfinished/cases/*.arrow")) and time.monotonic() < deadline:
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    workers = children.read_text().split() if children.exists() else []
    process.kill()
    process.wait()

    _, text = run(root, out, image_size=256)

    assert re.search(r"24 cases, \d+ of them finished earlier", text)
    while any(map(_runs, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in workers if _runs(pid)]


def _runs(pid: str) -> bool:
    """Tell whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(ConfigError, match="Not a directory") as error:
        run(trees.isles24(tmp_path / "data", 1), tmp_path / "file" / "out")

    assert len(error.value.lines) == 1


def test_a_case_file_that_was_torn_is_made_again(tmp_path, monkeypatch, count_cases):
    root = trees.isles24(tmp_path / "data", 4)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(
            prepare_module, "_finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        run(root, tmp_path / "out")
    torn = tmp_path / "out.unfinished" / "cases" / "sub-stroke0002.arrow"
    torn.write_bytes(torn.read_bytes()[:1000])
    del count_cases[:]

    run(root, tmp_path / "out")

    assert count_cases == ["sub-stroke0002"]


def test_one_empty_mask_among_others_is_a_case_without_lesion(tmp_path):
    root = trees.isles24(tmp_path / "data", 3)
    trees.write(trees.mask(root, 2), np.zeros(trees.SHAPE, np.uint8))

    store, _ = run(root, tmp_path / "out")

    assert [case.lesion_ml > 0 for case in store.cases] == [True, False, True]
    assert not store.lesion_slice[store.cases[1].rows].any()


def test_a_lesion_outside_the_brain_stays_in_the_box_and_is_said(tmp_path):
    root = trees.isles24(tmp_path / "data", 1)
    outside = trees.lesion()
    outside[1:3, 20:22, 5] = 1
    trees.write(trees.mask(root), outside)

    store, text = run(root, tmp_path / "out", image_size=64)

    case = store.cases[0]
    back = store.to_native(case, store.masks(case.rows)) > 0.5
    assert back[1:3, 20:22, 5].any()
    assert "note: lesion voxels lie outside the brain mask: sub-stroke0001 (4 of 76)" in text
    assert "note: the box was grown beyond the brain to hold the lesion: sub-stroke0001" in text


def test_a_lesion_that_vanishes_in_large_pixels_is_said(tmp_path):
    root = trees.isles24(tmp_path / "data", 2)
    speck = np.zeros(trees.SHAPE, np.uint8)
    speck[22, 22, 3] = 1
    trees.write(trees.mask(root), speck)

    _, text = run(root, tmp_path / "out", image_size=16)

    assert "note: the lesion is too small to be seen at this image size: sub-stroke0001\n" in text


def test_another_grid_is_resampled_and_said(tmp_path):
    root = trees.isles24(tmp_path / "data", 2)
    affine = trees.AFFINE @ np.diag([0.5, 0.5, 1, 1])
    fine = np.repeat(np.repeat(trees.head()[0] / 10, 2, axis=0), 2, axis=1)
    affine[:3, 3] -= trees.AFFINE[:3, :3] @ (0.25, 0.25, 0)
    trees.write(trees.tmax(root, 1), fine, affine)

    store, text = run(root, tmp_path / "out")

    assert "note: tmax was resampled from a grid of its own: sub-stroke0001 (80x92x6)" in text
    first, second = (store.images(case.rows, ["tmax"]).astype(float) for case in store.cases)
    inside = store.brain(store.cases[0].rows)[:, None] > 0
    assert np.abs(first - second)[inside].mean() < 0.1


@pytest.mark.parametrize("shape", [(64, 40, 5), (40, 64, 5)])
def test_non_square_slices_keep_their_proportions(tmp_path, shape):
    x, y, _ = np.meshgrid(*(np.arange(n) - n / 2 for n in shape), indexing="ij")
    disc = (x**2 + y**2 < 15**2).astype(np.uint8)
    for folder, data in (("images", disc * 100.0), ("labels", disc)):
        trees.write(tmp_path / "data" / folder / "a.nii.gz", data, np.diag([2.0, 2.0, 5.0, 1]))

    store, _ = run(tmp_path / "data", tmp_path / "out", image_size=64)

    mask = store.masks([2])[0]
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    assert np.ptp(rows) == pytest.approx(np.ptp(columns), abs=1)
    assert store.native_mask(store.cases[0]).shape == shape


@pytest.mark.parametrize(
    "num_cases, empty", [(3, "folds 3, 4 have"), (5, "folds 3, 4 have"), (7, None)]
)
def test_few_cases_work_and_empty_folds_are_said(tmp_path, num_cases, empty):
    store, text = run(trees.isles24(tmp_path / "data", num_cases), tmp_path / "out")

    training, validation = store.split(0)
    assert training
    assert validation
    assert ("note: no case is test" in text) == (num_cases == 3)
    if empty:
        assert f"note: too few patients for five folds: {empty} none" in text
        with pytest.raises(ConfigError, match=r"fold 4 leaves .*: data.fold=0 or 1 or 2"):
            store.split(4)
    else:
        assert "too few" not in text


def test_pictures_become_a_store(tmp_path):
    store, _ = run(trees.pictures(tmp_path / "data", 5), tmp_path / "out", image_size=48)

    case = store.cases[0]
    assert case.num_slices == 1
    picture = store.images(case.rows)[0, 0]
    assert picture.max() == pytest.approx(120 / 255, abs=1e-3)
    rows, columns = np.nonzero(store.masks(case.rows)[0])
    # The mask is in the picture's upper left quarter, and so it is in the store.
    assert rows.mean() < 24
    assert columns.mean() < 24


def test_the_pictures_to_look_at_are_drawn(tmp_path):
    run(trees.isles24(tmp_path / "data", 4), tmp_path / "out")

    with Picture.open(tmp_path / "out" / "contact_sheet.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB")).astype(int)
    with Picture.open(tmp_path / "out" / "lesion_volumes.png") as histogram:
        assert histogram.size[0] >= 600
    outline = (pixels == (255, 90, 60)).all(-1)
    assert outline.sum() > 4 * 2 * 20, "four cases, two modalities"
