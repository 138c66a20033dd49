"""Values that mean something: units, windows, voxel sizes, and voxels that are no number."""

import json

import nibabel
import numpy as np
import pytest

from tests.trainer.data import trees
from tests.trainer.data.trees import run
from trainer.configfile import ConfigError
from trainer.data.case_file import CaseSettings, prepare_case
from trainer.data.files import BadFile, Source
from trainer.data.formats.case import RawCase
from trainer.data.inputs import InputSpec
from trainer.data.masks.reading import Reading
from trainer.data.nifti import read_volume
from trainer.data.summary.notes import note_lines
from trainer.data.windows import modality, parse_factors, value_notes

BRAIN = np.ones((20, 20, 5), bool)
VALUES = np.random.default_rng(0).normal(1, 0.2, BRAIN.shape).clip(0.4, 2).astype(np.float32)


@pytest.mark.parametrize(
    "name, typical, spread, factor, remedy",
    [
        ("tmax", 2, 1, 1000, "--scale tmax=0.001"),
        ("mtt", 5, 1, 1000, "--scale mtt=0.001"),
        ("cbf", 30, 1, 100, "--scale cbf=0.01"),
        ("cbv", 3, 1, 10, "--scale cbv=0.1"),
        ("cbf", 30, 1, 0.01, "--scale cbf=100"),
        ("tmax", 2, 1, 1 / 60, "--scale tmax=100"),
        ("cta_1", 40, 1, 100, "--scale cta_1=FACTOR,OFFSET"),
    ],
)
def test_another_unit_is_a_note_with_its_remedy(name, typical, spread, factor, remedy):
    volume = VALUES * np.float32(typical)
    assert value_notes(volume, name, BRAIN) == []

    [note] = value_notes(volume * np.float32(factor), name, BRAIN)

    assert name in note.kind and remedy in note.kind


@pytest.mark.parametrize("name", ["ncct", "cta", "ct", "ct_0"])
def test_ct_without_its_intercept_is_a_note(name):
    hu = 40 * VALUES
    assert value_notes(hu, name, BRAIN) == []

    [note] = value_notes(hu + 1024, name, BRAIN)

    assert f"--scale {name}=1,-1024" in note.kind
    assert value_notes(hu - 1024, name, BRAIN)


@pytest.mark.parametrize("name", ["tmax", "dwi", "adc", "picture"])
def test_a_constant_volume_is_a_note(name):
    [note] = value_notes(np.zeros_like(VALUES), name, BRAIN)

    assert note.kind == f"{name} is constant in the brain"


def test_12_of_16_bits_are_a_note():
    [note] = value_notes(VALUES / 32, "picture", BRAIN)

    assert "--scale picture=16" in note.kind


def test_notes_of_a_kind_stand_in_one_line_with_a_count_and_the_first_cases():
    cases = [
        {"case_id": f"c{n}", "notes": [{"kind": "late", "detail": f"{n} s"}]} for n in range(5)
    ]
    cases[1]["notes"].append({"kind": "odd", "detail": ""})
    cases[2]["notes"].append("of an earlier version")

    assert note_lines(cases) == [
        "late: 5 of 5 cases: c0 (0 s), c1 (1 s), c2 (2 s), ...",
        "odd: c1",
        "of an earlier version: c2",
    ]


def test_scale_brings_values_to_their_unit_and_is_said_and_carried_by_a_model(tmp_path):
    root = trees.isles24(tmp_path / "data", 2)
    plain, _ = run(root, tmp_path / "plain")
    for number in (1, 2):
        ncct, tmax = trees.ncct(root, number), trees.tmax(root, number)
        trees.write(ncct, nibabel.load(ncct).get_fdata(dtype=np.float32) + 1024)
        trees.write(tmax, nibabel.load(tmax).get_fdata(dtype=np.float32) * 1000)

    wrong, text = run(root, tmp_path / "wrong")
    scale = ["tmax=0.001", "ncct=1,-1024"]
    right, said = run(root, tmp_path / "right", scale=scale)
    _, again = run(root, tmp_path / "right", scale=scale[::-1])

    for option in scale:
        assert f"--scale {option}): 2 of 2 cases: sub-stroke0001" in text
        assert f"--scale {option}" not in said
    assert "nothing to do" in again
    assert "scale: tmax is read times 0.001, ncct is read times 1 plus -1024" in said
    rows = range(plain.num_slices)
    np.testing.assert_allclose(right.images(rows), plain.images(rows), atol=0.02)
    manifest = json.loads((tmp_path / "right" / "manifest.json").read_text())
    assert manifest["scale"] == {"tmax": [0.001, 0.0], "ncct": [1.0, -1024.0]}
    offset, divisor = manifest["cases"][0]["scaling"]["ncct"].values()
    assert (offset, divisor) == (1024, 1)
    assert right.factors == {"tmax": (0.001, 0.0), "ncct": (1.0, -1024.0)}
    assert wrong.factors == {}


def test_a_models_input_carries_the_factors_and_nothing_where_there_are_none():
    plain = InputSpec(("tmax",), ((0.0, 7.0),), 0, 32)
    scaled = InputSpec(("tmax",), ((0.0, 7.0),), 0, 32, {"ncct": (1.0, -1024.0)})

    assert "factors" not in plain.describe()
    assert InputSpec.parse(plain.describe()) == plain
    assert InputSpec.parse(json.loads(json.dumps(scaled.describe()))) == scaled


@pytest.mark.parametrize(
    "word, rule",
    [
        ("tmax", "must be MODALITY=FACTOR or"),
        ("tmax=", "must be MODALITY=FACTOR or"),
        ("tmax=0", "factor above 0"),
        ("tmax=nan", "factor above 0"),
        ("tmax=1,2,3", "must be MODALITY=FACTOR or"),
        ("tmx=2", "no modality 'tmx': the data set has ncct, tmax; did you mean tmax?"),
    ],
)
def test_a_scale_that_cannot_be_is_one_line(word, rule):
    with pytest.raises(ConfigError) as error:
        parse_factors([word], ["ncct", "tmax"])

    [line] = error.value.lines
    assert line.startswith(f"command line: scale: {word}: ") and rule in line


def _holes(root, values, inside=False, enclosed=False, half=False):
    """Write a Tmax without numbers outside the brain, at its rim, or inside it."""
    brain, mask = trees.head()
    tmax = (brain / 10).astype(np.float32)
    if not inside:
        tmax[~mask] = values
        tmax[:12] = values  # the software's own brain mask is smaller
        tmax[:, :, 5] = values  # and its slab ends below
    if enclosed:
        tmax[20, 22, 3] = values
    if half:
        tmax[:24] = values
    return trees.write(trees.tmax(root, 2), tmax)


@pytest.mark.parametrize("values", [np.nan, -np.inf])
def test_what_is_no_number_outside_the_brain_is_background(tmp_path, values):
    root = trees.isles24(tmp_path / "data", 2)
    _holes(root, values)

    store, text = run(root, tmp_path / "out")

    images = store.images(range(store.num_slices))
    assert np.isfinite(images).all()
    assert "note: tmax has no numbers in part of the brain: background: sub-stroke0002 (" in text


@pytest.mark.parametrize(
    "where, rule",
    [
        ({"enclosed": True}, "tmax has 1 non-finite voxels .* inside the brain: .*--skip-bad"),
        ({"half": True}, r"tmax is non-finite .* in \d\d% of the brain: .*--skip-bad"),
    ],
)
def test_what_is_no_number_inside_the_brain_is_refused(tmp_path, where, rule):
    root = trees.isles24(tmp_path / "data", 2)
    path = _holes(root, np.nan, **where)

    with pytest.raises(ConfigError, match=rule) as error:
        run(root, tmp_path / "out")

    assert error.value.lines[0].startswith(str(path))


def test_what_is_no_number_inside_the_brain_of_a_lone_slice_is_refused(tmp_path):
    head = trees.head()[0][:, :, 2:3]
    tmax = head.copy()
    tmax[20, 22] = np.nan
    images = {
        name: Source(trees.write(tmp_path / f"{name}.nii.gz", values))
        for name, values in (("ncct", head), ("tmax", tmax))
    }
    mask = Source(trees.write(tmp_path / "mask.nii.gz", trees.lesion()[:, :, 2:3]))

    with pytest.raises(BadFile, match=r"tmax has 1 non-finite voxels .* inside the brain"):
        prepare_case(RawCase("x", images, mask), tmp_path, CaseSettings(32), "")


@pytest.mark.parametrize(
    "factor, unit, is_mm",
    [(1e3, "micron", True), (1e-3, "meter", True), (1, "micron", True), (1, "unknown", True)],
)
def test_voxels_in_microns_and_metres_are_read_in_mm(tmp_path, factor, unit, is_mm):
    image = nibabel.Nifti1Image(trees.head()[0], np.diag([*[factor] * 3, 1]) @ trees.AFFINE)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / "a.nii.gz")

    assert read_volume(Source(tmp_path / "a.nii.gz")).spacing_mm == pytest.approx((4, 4, 6))


@pytest.mark.parametrize("factor, rule", [(100, "are in microns"), (0.001, "mm")])
def test_voxels_that_no_scan_has_are_refused(tmp_path, factor, rule):
    path = trees.write(tmp_path / "a.nii.gz", trees.head()[0], trees.AFFINE * factor)

    with pytest.raises(BadFile, match=rule):
        read_volume(Source(path))


def test_a_scan_of_more_than_5_m_is_refused(tmp_path):
    path = trees.write(tmp_path / "a.nii.gz", np.zeros((60, 4, 2)), np.diag([90.0, 90, 90, 1]))

    with pytest.raises(BadFile, match=r"is 5\.4 m long with voxels of 90 x 90 x 90 mm"):
        read_volume(Source(path))


def test_two_channels_of_one_name_keep_its_unit():
    for name in ("ct_0", "ct_1", "ct_venous", "cta_1", "tmax_10"):
        assert modality(name) is modality(name.rpartition("_")[0])
    assert modality("CT arterial") is modality("ct")
    assert (
        modality("channel_0").unit == modality("octa_1").unit == "scaled"
        and modality("picture_red").unit != "scaled"
    )


def test_ignored_voxels_are_not_scored_and_are_background(tmp_path):
    root = trees.msd(tmp_path / "data", 2)
    values = trees.lesion()
    values[20:24, 18:22, 0] = 2
    for number in (0, 1):
        trees.write(root / "labelsTr" / f"case_{number}.nii.gz", values)
    description = {"channel_names": {"0": "CT"}, "labels": {"lesion": 1, "ignore": 2}}
    (root / "dataset.json").write_text(json.dumps(description | {"x": 0}))

    store, text = run(root, tmp_path / "out")

    assert "labels: 1 lesion; 2 ignore is not scored, and background in training" in text
    for case in store.cases:
        np.testing.assert_array_equal(store.native_mask(case), values == 1)
        assert not store.native_brain(case)[values == 2].any()
    [lesion, ignore] = json.loads((tmp_path / "out" / "manifest.json").read_text())["masks"][
        "labels"
    ]
    assert (lesion["name"], lesion["lesion"], ignore["lesion"]) == ("lesion", True, False)


def test_what_any_of_several_masks_ignores_is_not_scored(tmp_path):
    brain, _ = trees.head()
    image = Source(trees.write(tmp_path / "x.nii.gz", brain))
    ignored = np.zeros_like(trees.lesion())
    ignored[20:24, 18:28, 2] = 2
    masks = [
        Source(trees.write(tmp_path / f"x_mask{end}.nii.gz", values))
        for end, values in (("", trees.lesion()), ("_1", ignored))
    ]
    case = RawCase("x", {"image": image}, masks[0], more_masks=(masks[1],))

    prepare_case(case, tmp_path, CaseSettings(32, reading=Reading(ignore=2)), "")

    native = np.load(tmp_path / "x.npz")
    lesion, scored = (
        np.unpackbits(native[each], count=brain.size).reshape(brain.shape).astype(bool)
        for each in ("mask", "brain")
    )
    assert (trees.lesion()[ignored > 0] > 0).any() and scored.any()
    np.testing.assert_array_equal(lesion, (trees.lesion() > 0) & (ignored == 0))
    assert not scored[ignored > 0].any()


def test_labels_are_chosen_and_the_same_choice_has_nothing_to_do(tmp_path):
    root = trees.msd(tmp_path / "data", 2)
    values = trees.lesion()
    values[:, :, 2] *= 3
    for number in (0, 1):
        trees.write(root / "labelsTr" / f"case_{number}.nii.gz", values)

    store, text = run(root, tmp_path / "out", labels="3")
    _, again = run(root, tmp_path / "out", labels="3")

    assert "labels: 3 is lesion; 1 not" in text and "labels: 3 is lesion; 1 not" in again
    assert "nothing to do" in again
    np.testing.assert_array_equal(store.native_mask(store.cases[0]), values == 3)
    with pytest.raises(ConfigError, match="was prepared from"):
        run(root, tmp_path / "out")
