"""A person's own splits, an earlier store's, and those that a store writes."""

import json
import re

import numpy as np
import pytest

from tests.trainer.data import trees
from tests.trainer.data.trees import run
from trainer.configfile import ConfigError
from trainer.data.parts import SplitOptions
from trainer.data.splits_file import FILE, read_splits, write_splits

CASES = [f"case_{number}" for number in range(6)]
FOLDS = [
    {"train": ["case_1", "case_2", "case_3"], "val": ["case_0"]},
    {"train": ["case_0", "case_2", "case_3"], "val": ["case_1"]},
]


def json_file(tmp_path, content):
    path = tmp_path / FILE
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_nnunets_splits_are_read_and_who_is_in_none_is_test(tmp_path):
    places, notes = read_splits(json_file(tmp_path, FOLDS), CASES)

    assert places == {
        "case_0": 0, "case_1": 1, "case_2": "train", "case_3": "train",
        "case_4": "test", "case_5": "test",
    }  # fmt: skip
    assert notes == [f"{FILE} leaves out 2 of 6 cases, which are test: case_4, case_5"]


def test_a_letter_with_an_accent_is_the_same_in_either_spelling(tmp_path):
    cases = ["Mu\u0308ller", "plain"]
    path = tmp_path / "splits.csv"
    path.write_text("case,fold\nM\u00fcller.nii.gz,1\nplain,0\n", encoding="utf-8")

    assert read_splits(path, cases) == ({"Mu\u0308ller": 1, "plain": 0}, [])


def test_what_is_written_is_read_back(tmp_path):
    places = {"case_0": 3, "case_1": 0, "case_2": "test", "case_3": 0, "case_4": 1, "case_5": 2}

    write_splits(tmp_path / FILE, places)

    written = json.loads((tmp_path / FILE).read_text())
    assert [fold["val"] for fold in written] == [
        ["case_1", "case_3"], ["case_4"], ["case_5"], ["case_0"],
    ]  # fmt: skip
    assert written[1]["train"] == ["case_0", "case_1", "case_3", "case_5"]
    assert read_splits(tmp_path / FILE, CASES).places == places


@pytest.mark.parametrize(
    "table, places",
    [
        ("case,fold\ncase_0,0\ncase_1,4\n", {"case_0": 0, "case_1": 4, "case_2": "test"}),
        ("case;fold;test\r\ncase_0;;yes\r\ncase_1;1;\r\ncase_2;;0\r\n",
         {"case_0": "test", "case_1": 1, "case_2": "rest"}),
        ("﻿Case,Test\ncase_0,TRUE\n\n", {"case_0": "test", "case_1": "rest"}),
        ("case\tage\tfold\ncase_0\t61\t2.0\ncase_1\t\ttest\n", {"case_0": 2, "case_1": "test"}),
        ("fold,case\n1,case_0.nii.gz\n0,case_1_0000\n", {"case_0": 1, "case_1": 0}),
    ],
    ids=["folds", "both", "test", "tabs", "file names"],
)  # fmt: skip
def test_tables_are_read(tmp_path, table, places):
    path = tmp_path / "splits.csv"
    path.write_text(table, encoding="utf-8")

    found = read_splits(path, CASES).places

    assert {case: found[case] for case in places} == places


@pytest.mark.parametrize(
    "content, said",
    [
        ("[{", "not JSON"),
        ('{"train": []}', "must be a list of"),
        ("[]", "must be a list of"),
        ('[{"train": ["case_0"]}]', "fold 0: val: must be a list"),
        ('[{"train": ["case_0"], "val": [1]}]', "fold 0: val: must be a list"),
        (FOLDS * 3, "has 6 folds, but a store has 5 at most"),
        ([FOLDS[0], FOLDS[0]], "'case_0' is validated in fold 0 and in fold 1"),
        ([{"train": ["case_0"], "val": ["case_0"]}], "fold 0: case_0: in train and in val"),
        ([FOLDS[0], {"train": ["case_0"], "val": ["case_1"]}], "fold 1: 'case_2' is neither in"),
        ([{"train": ["cas_1"], "val": ["cas_2"]}], "names 'cas_2', which is no case; did you mean"),
        ("", "line 1: empty: must be the columns case and fold or test"),
        ("id,fold\ncase_0,1\n", "line 1: id, fold: must be the columns case"),
        ("case,fold\ncase_0,5\n", "line 2: fold: '5': must be 0 to 4"),
        ("case,fold\ncase_0,one\n", "line 2: fold: 'one': must be 0 to 4"),
        ("case,fold,test\ncase_0,1,1\n", "line 2: 'case_0' is test and in fold 1"),
        ("case,test\ncase_0,maybe\n", "line 2: test: 'maybe': must be 1 or 0"),
        ("case,fold\ncase_0,1\ncase_0,2\n", "line 3: case: 'case_0': is named twice"),
        ("case,fold\n,1\n", "line 2: case: is empty"),
        ("case,fold\n", "names no case; the data set has case_0"),
    ],
)
def test_files_that_cannot_be_meant_are_one_line(tmp_path, content, said):
    path = json_file(tmp_path, content)

    with pytest.raises(ConfigError, match=re.escape(said)) as error:
        read_splits(path, CASES)

    [line] = error.value.lines
    assert line.startswith(f"{path}: ")


def test_a_pickle_and_a_missing_file_are_one_line(tmp_path):
    (tmp_path / "splits_final.pkl").write_bytes(b"\x80\x04]")
    with pytest.raises(ConfigError, match="is a pickle, as nnU-Net 1 wrote"):
        read_splits(tmp_path / "splits_final.pkl", CASES)
    with pytest.raises(ConfigError, match=r"none: No such file"):
        read_splits(tmp_path / "none", CASES)


def test_names_that_there_are_not_are_said(tmp_path):
    table = "case,test\ncase_0,1\ncase_77,0\n"

    notes = read_splits(json_file(tmp_path, table), CASES).notes

    assert notes[0].startswith(f"{FILE} names 1 case that is not here: case_77; did you mean")
    assert notes[1].startswith(f"{FILE} leaves out 5 of 6 cases, which are not test: case_1")


def test_a_store_has_the_splits_of_the_file_and_writes_them(tmp_path):
    root = trees.isles24(tmp_path / "data", 6)
    names = [f"sub-stroke000{n}" for n in range(1, 7)]
    folds = [
        {"val": names[2 * fold : 2 * fold + 2], "train": names[2 - 2 * fold : 4 - 2 * fold]}
        for fold in (0, 1)
    ]
    path = json_file(tmp_path, folds)

    store, text = run(root, tmp_path / "out", splits=path)

    assert [case.place for case in store.cases] == [0, 0, 1, 1, "test", "test"]
    assert json.loads((tmp_path / "out" / FILE).read_text()) == folds
    assert "leaves out 2 of 6 cases, which are test" in text
    assert "nothing to do" in run(root, tmp_path / "out", splits=path)[1]
    with pytest.raises(ConfigError, match="was prepared from other places of --splits"):
        run(root, tmp_path / "out")


def test_a_store_that_is_like_another_knows_a_case_by_its_images_under_another_name():
    known = {"a": "test", "b": 2, "c": 0}
    options = SplitOptions(
        0, ["c", "new", "other"], {name: name for name in ("a", "b", "c", "new", "other")}, known,
        images={"a": "hash a", "b": "hash b", "c": "hash c"},
    )  # fmt: skip

    parts = options.divide(
        {"c": 1.0, "new": 1.0, "other": 1.0},
        {"c": "hash c", "new": "hash a", "other": "hash b"},
    )

    assert parts.places == {"c": 0, "new": "test", "other": 2}


def test_a_store_that_is_like_another_keeps_all_its_places(tmp_path):
    """Also of cases that it left out, and of those that were left out of it before."""
    whole = trees.isles24(tmp_path / "data", 8)
    sealed = tmp_path / "sealed.csv"
    sealed.write_text("case,fold,test\n" + "".join(
        f"sub-stroke000{n},{'' if n < 4 else n % 3},{int(n < 4)}\n" for n in range(1, 9)
    ))  # fmt: skip
    first, _ = run(whole, tmp_path / "first", splits=sealed)
    kept = {case.case_id: case.place for case in first.cases}

    fewer = trees.isles24(tmp_path / "fewer", 7)
    for number in (1, 5):
        trees.mask(fewer, number).unlink()
    second, _ = run(fewer, tmp_path / "second", like=tmp_path / "first", skip_bad=True)
    third, _ = run(
        trees.isles24(tmp_path / "more", 9), tmp_path / "third", like=tmp_path / "second"
    )

    places = {case.case_id: case.place for case in second.cases}
    assert len(places) == 5
    assert places == {case: kept[case] for case in places}
    later = {case.case_id: case.place for case in third.cases}
    assert {case: later[case] for case in kept} == kept
    assert later["sub-stroke0009"] in {"test", 3, 4}
    assert "nothing to do" in run(
        tmp_path / "more", tmp_path / "third", like=tmp_path / "second"
    )[1]  # fmt: skip


def test_a_store_of_other_cases_and_both_options_are_refused(tmp_path):
    run(trees.msd(tmp_path / "other", 3), tmp_path / "first")
    root = trees.isles24(tmp_path / "data", 3)

    with pytest.raises(ConfigError, match=r"like: .*first: has none of these cases"):
        run(root, tmp_path / "out", like=tmp_path / "first")
    with pytest.raises(ConfigError, match="like: must be without --splits"):
        run(root, tmp_path / "out", like=tmp_path / "first", splits=tmp_path / "x")
    with pytest.raises(ConfigError, match="not a prepared store"):
        run(root, tmp_path / "out", like=tmp_path)


def test_scans_of_a_patient_and_equal_images_stay_together(tmp_path):
    root, rng = tmp_path / "data", np.random.default_rng(0)
    for patient in range(8):
        for scan in (1, 2):
            name = f"P{patient:02d}_scan{scan}"
            image = trees.head()[0] + rng.normal(0, 1, trees.SHAPE).astype(np.float32)
            trees.write(root / "imagesTr" / f"{name}_0000.nii.gz", image)
            trees.write(root / "labelsTr" / f"{name}.nii.gz", trees.lesion(size=2 + patient))
    twin = (root / "imagesTr" / "P03_scan2_0000.nii.gz").read_bytes()
    (root / "imagesTr" / "P06_scan1_0000.nii.gz").write_bytes(twin)

    store, text = run(root, tmp_path / "out")

    places = {case.case_id: case.place for case in store.cases}
    assert all(places[f"P{n:02d}_scan1"] == places[f"P{n:02d}_scan2"] for n in range(8))
    assert places["P03_scan1"] == places["P06_scan2"]
    assert "\npatients: 7 of 16 cases (P00_scan1, P00_scan2 are of one)" in text
    assert "note: the images of P03_scan2, P06_scan1 are identical: taken for one patient's" in text


def test_pictures_that_nothing_tells_apart_are_said_and_a_pattern_tells(tmp_path):
    root = trees.pictures(tmp_path / "data", 6)

    _, text = run(root, tmp_path / "out")
    _, told = run(root, tmp_path / "told", patients=r"\d")

    assert "note: names do not tell which cases are of one patient" in text
    assert "one may lie on both sides of a split (--patients REGEX" in text
    assert "names do not tell" not in told
    with pytest.raises(ConfigError, match=r"was prepared from no patients"):
        run(root, tmp_path / "out", patients=r"\d")
