"""Every layout is found by itself, with what lies in it."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from PIL import Image as Picture

from tests.trainer.data import trees
from trainer.configfile import ConfigError
from trainer.data.formats import find_cases
from trainer.data.nifti import read_volume


def test_isles24_challenge_tree(tmp_path):
    root = trees.isles24(tmp_path / "data")

    name, found = find_cases(root)

    assert name == "isles24"
    assert [case.case_id for case in found.cases] == [f"sub-stroke000{n}" for n in (1, 2, 3)]
    first = found.cases[0]
    assert list(first.images) == ["ncct", "cbf", "tmax"]
    assert first.images["ncct"].path == trees.ncct(root)
    assert first.images["tmax"].path == trees.tmax(root)
    assert first.mask.path == trees.mask(root)
    assert found.notes == ["no case has cta, cbv, mtt: left out"]


def test_a_missing_nihss_is_none_and_the_case_stays(tmp_path):
    _, found = find_cases(trees.isles24(tmp_path / "data"))

    assert found.cases[1].clinical == {"Age": 62.0, "NIHSS at admission": None}


def test_isles24_train_release_with_xlsx_and_space_ncct_masks(tmp_path):
    root = trees.isles24(tmp_path / "data" / "train")
    for number in (1, 2, 3):
        mask = trees.mask(root, number)
        mask.rename(mask.with_name(mask.name.replace("_lesion", "_space-ncct_lesion")))
    shutil.rmtree(root / "phenotype")
    book = openpyxl.Workbook()
    book.active.append(["ID", "Age", "NIHSS at admission", "Onset to door"])
    book.active.append(["sub-stroke0003", 71, None, "1:20:00"])
    book.active.append(["sub-stroke0001", 55, 12, None])
    (root / "phenotype").mkdir()
    book.save(root / "phenotype" / "clinical_data.xlsx")
    described = openpyxl.Workbook()
    described.active.append(["Variable", "Meaning"])
    described.active.append(["Age", "in years"])
    described.save(root / "phenotype" / "clinical_data-description.xlsx")

    name, found = find_cases(tmp_path / "data")

    assert name == "isles24"
    assert found.cases[0].mask.path.name == "sub-stroke0001_ses-02_space-ncct_lesion-msk.nii.gz"
    assert found.cases[0].clinical == {
        "Age": 55.0,
        "NIHSS at admission": 12.0,
        "Onset to door": None,
    }
    assert found.cases[1].clinical == {}
    assert found.cases[2].clinical["Onset to door"] == "1:20:00"


def test_isles24_reads_one_xlsx_a_patient_and_the_readmes_spelling(tmp_path):
    root = trees.isles24(tmp_path / "data", 1)
    (root / "raw_data").rename(root / "rawdata")
    table = next((root / "phenotype").rglob("*.csv"))
    book = openpyxl.Workbook()
    book.active.append(["Age"])
    book.active.append([44])
    book.save(table.with_suffix(".xlsx"))
    table.unlink()
    folder = root / "rawdata" / "sub-stroke0001"
    (folder / "ses-01").rename(folder / "ses-0001")

    _, found = find_cases(root)

    assert found.cases[0].images["ncct"].path.is_file()
    assert found.cases[0].clinical == {"Age": 44.0}


def test_isles24_takes_a_stray_uncompressed_mask_only_without_a_compressed_one(tmp_path):
    root = trees.isles24(tmp_path / "data", 2)
    plain = trees.mask(root).with_suffix("")
    trees.write(plain, trees.lesion())
    assert find_cases(root)[1].cases[0].mask.path == trees.mask(root)

    trees.mask(root).unlink()

    assert find_cases(root)[1].cases[0].mask.path == plain


def test_isles22_leaves_out_a_flair_that_some_cases_lack_and_says_so(tmp_path):
    for number in (1, 2):
        case = f"sub-strokecase000{number}"
        for modality in ("dwi", "adc") if number == 1 else ("dwi", "adc", "flair"):
            name = f"{case}/ses-0001/{case}_ses-0001_{modality}.nii.gz"
            trees.write(tmp_path / "rawdata" / name, trees.head()[0])
        name = f"{case}/ses-0001/{case}_ses-0001_msk.nii.gz"
        trees.write(tmp_path / "derivatives" / name, trees.lesion())

    name, found = find_cases(tmp_path)

    assert name == "isles22"
    assert list(found.cases[1].images) == ["dwi", "adc"]
    assert found.notes == ["flair is left out: only 1 of 2 cases have it"]


@pytest.mark.parametrize("channels", [("MRI",), ("T2 FLAIR", "ADC")])
def test_msd_and_nnunet_name_channels_from_dataset_json(tmp_path, channels):
    root = trees.msd(tmp_path / "data", channels=channels)

    name, found = find_cases(root)

    names = ["mri"] if len(channels) == 1 else ["t2_flair", "adc"]
    assert name == "msd"
    assert [case.case_id for case in found.cases] == ["case_0", "case_1"]
    assert list(found.cases[0].images) == names
    assert all(source.path.is_file() for source in found.cases[0].images.values())


@pytest.mark.parametrize(
    "labels, names, ignore",
    [
        ({"0": "background", "1": "Anterior", "2": "Posterior"},
         {1: "anterior", 2: "posterior"}, None),
        ({"background": 0, "Lesion": 1, "ignore": 2}, {1: "lesion", 2: "ignore"}, 2),
        ({"background": 0, "whole": [1, 2], "core": [2]}, {1: "whole", 2: "whole + core"}, None),
        (["background", "lesion"], {}, None),
        ({}, {}, None),
    ],
)  # fmt: skip
def test_msd_and_nnunet_name_the_labels(tmp_path, labels, names, ignore):
    root = trees.msd(tmp_path / "data", 1)
    description = {"channel_names": {"0": "MRI"}, "labels": labels}
    (root / "dataset.json").write_text(json.dumps(description))

    found = find_cases(root)[1]

    assert (found.label_names, found.ignore_label) == (names, ignore)


@pytest.mark.parametrize(
    "labels, rule",
    [({"lesion": None}, "not numbers and names"), ({"background": 1}, "background is 1, but must")],
)
def test_labels_that_cannot_be_are_one_line(tmp_path, labels, rule):
    root = trees.msd(tmp_path / "data", 1)
    (root / "dataset.json").write_text(json.dumps({"modality": {"0": "MRI"}, "labels": labels}))

    with pytest.raises(ConfigError, match=f"dataset.json: labels: {rule}"):
        find_cases(root)


def test_msd_reads_the_channels_of_a_4d_file(tmp_path):
    root = trees.msd(tmp_path / "data", 1, ("FLAIR", "T1w"))
    brain, _ = trees.head()
    for path in (root / "imagesTr").iterdir():
        path.unlink()
    trees.write(root / "imagesTr" / "case_0.nii.gz", np.stack([brain, 7 * brain], -1))

    case = find_cases(root)[1].cases[0]

    np.testing.assert_array_equal(read_volume(case.images["t1w"]).data, 7 * brain)


def test_msd_ignores_the_hidden_files_that_its_archives_carry(tmp_path):
    root = trees.msd(tmp_path / "data")
    (root / "imagesTr" / "._case_0.nii.gz").write_bytes(b"resource fork")

    assert len(find_cases(root)[1].cases) == 2


def test_picture_folders_grey_and_colour(tmp_path):
    name, grey = find_cases(trees.pictures(tmp_path / "grey"))
    _, colour = find_cases(trees.pictures(tmp_path / "colour", colour=True))

    assert name == "folder"
    assert list(grey.cases[0].images) == ["picture"]
    assert grey.notes == ["pictures do not tell their spacing: 1 mm is assumed"]
    assert list(colour.cases[0].images) == ["picture_red", "picture_green", "picture_blue"]
    red, blue = (read_volume(colour.cases[0].images[f"picture_{c}"]) for c in ("red", "blue"))
    assert red.data.max() == pytest.approx(200 / 255)
    assert blue.data.max() == pytest.approx(50 / 255)


def test_a_photograph_in_cmyk_is_read_in_colours(tmp_path):
    root = trees.pictures(tmp_path / "data", colour=True)
    for path in sorted((root / "images").iterdir()):
        Picture.open(path).convert("CMYK").save(path.with_suffix(".tif"))
        path.unlink()

    assert list(find_cases(root)[1].cases[0].images) == [
        "picture_red", "picture_green", "picture_blue",
    ]  # fmt: skip


def test_one_folder_of_pairs_by_suffix(tmp_path):
    for name in ("a", "b"):
        Picture.new("L", (20, 20), 100).save(tmp_path / f"{name}.png")
        Picture.new("L", (20, 20), 255).save(tmp_path / f"{name}_mask.png")

    name, found = find_cases(tmp_path)

    assert [(c.case_id, c.mask.path.name) for c in found.cases] == [
        ("a", "a_mask.png"),
        ("b", "b_mask.png"),
    ]


def test_nifti_folders(tmp_path):
    trees.write(tmp_path / "images" / "one.nii.gz", trees.head()[0])
    trees.write(tmp_path / "labels" / "one.nii.gz", trees.lesion())

    name, found = find_cases(tmp_path)

    assert (name, list(found.cases[0].images)) == ("folder", ["image"])


def test_a_format_can_be_named_and_is_then_the_only_one_tried(tmp_path):
    root = trees.msd(tmp_path / "data")
    assert find_cases(root, "msd")[0] == "msd"

    with pytest.raises(ConfigError, match="layout of isles24: it has that of msd"):
        find_cases(root, "isles24")
    with pytest.raises(ConfigError, match=r"'isles2024'.*did you mean isles24\?"):
        find_cases(root, "isles2024")


@pytest.mark.parametrize(
    "make, rule",
    [
        (lambda path: None, "no such folder"),
        (lambda path: path.mkdir(), "empty folder"),
        (lambda path: path.touch(), "not a folder"),
        (lambda path: trees.write(path / "x.nii.gz", trees.head()[0]), "no cases found"),
    ],
)
def test_no_data_set_is_one_line(tmp_path, make, rule):
    path = tmp_path / "dataset"
    make(path)

    with pytest.raises(ConfigError) as error:
        find_cases(path)

    assert len(error.value.lines) == 1
    assert str(error.value).startswith(f"{path}: {rule}")


def test_a_damaged_description_is_one_line_with_its_name(tmp_path):
    root = trees.msd(tmp_path / "data")
    (root / "dataset.json").write_text("{ not what it says")

    with pytest.raises(ConfigError, match=r"dataset\.json") as error:
        find_cases(root)

    assert len(error.value.lines) == 1
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name, content, why",
    [
        ("clinical.xlsx", b"{ not what it says", "not a zip file"),
        ("clinical.csv", "ID;Größe\nsub-stroke0001;5\n".encode("cp1252"), "save it as UTF-8"),
        ("clinical.csv", "ID;Age\nsub-stroke0001;5\n".encode("utf-16"), "save it as UTF-8"),
        ("clinical.csv", "ID;Age\nsub-stroke0001;5\n".encode("utf-16-le"), "save it as UTF-8"),
    ],
)
def test_a_table_that_cannot_be_read_costs_the_table_and_a_note(tmp_path, name, content, why):
    root = trees.isles24(tmp_path / "data", 1)
    (root / "phenotype" / name).write_bytes(content)

    found = find_cases(root)[1]

    note = next(note for note in found.notes if "clinical tables" in note)
    assert str(root / "phenotype" / name) in note and why in note and "\n" not in note
    assert found.cases[0].clinical == {"Age": 61.0, "NIHSS at admission": None}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_tables_of_text_with_any_delimiter(tmp_path: Path, delimiter: str):
    root = trees.isles24(tmp_path / "data", 1)
    path = next((root / "phenotype").rglob("*.csv"))
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        rows = [["Age", "Sex", "CRP"], ["80", "F", "n/a"]]
        csv.writer(file, delimiter=delimiter).writerows(rows)

    assert find_cases(root)[1].cases[0].clinical == {"Age": 80.0, "Sex": "F", "CRP": None}
