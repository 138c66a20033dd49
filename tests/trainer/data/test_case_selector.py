"""One case on the command line: the files that `prepare` would take, and no other patient's."""

import json
from pathlib import Path

import pytest

from tests.trainer.data import trees
from trainer.configfile import ConfigError
from trainer.data.formats import find_cases
from trainer.data.formats.case_selector import find_case


@pytest.mark.parametrize(
    "inside",
    ["raw_data/{id}", "raw_data/{id}/ses-01", "derivatives/{id}", "derivatives/{id}/ses-02/."],
)
def test_a_subjects_folder_is_the_case_that_prepare_finds(
    tmp_path: Path, inside: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = trees.isles24(tmp_path / "data", 3)
    case = find_cases(root)[1].cases[1]
    by_folder = find_case([str(root / inside.format(id=case.case_id))], ["tmax", "cbf"])
    assert by_folder == (case.case_id, {k: case.images[k] for k in ("ncct", "tmax", "cbf")})
    assert list(by_folder[1]) == ["ncct", "tmax", "cbf"]
    assert find_case([f"{root}:{case.case_id}"], ["tmax", "cbf"]) == by_folder
    monkeypatch.chdir(root / "raw_data")
    name, images = find_case([case.case_id], ["tmax"])
    assert (name, list(images)) == (case.case_id, ["ncct", "tmax"])


def test_neither_a_mask_nor_another_patients_table_is_needed(tmp_path: Path) -> None:
    root = trees.isles24(tmp_path / "data", 2)
    trees.mask(root, 1).unlink()
    broken = root / "phenotype" / "sub-stroke0002" / "sub-stroke0002_demographic.xlsx"
    broken.write_text("not a table")
    assert "sub-stroke0002_demographic.xlsx" in find_cases(root)[1].notes[-1]
    name, _ = find_case([str(root / "raw_data" / "sub-stroke0001")], ["ncct"])
    assert name == "sub-stroke0001"


def test_other_data_sets_go_by_the_cases_name(tmp_path: Path, shared_data: Path) -> None:
    root = trees.msd(tmp_path / "msd", channels=("T1", "FLAIR"))
    name, images = find_case([f"{root}:case_1"], ["flair"])
    assert (name, list(images)) == ("case_1", ["t1", "flair"])
    assert images["flair"].path.name == "case_1_0001.nii.gz"
    isles22 = (shared_data / "isles22").resolve()  # it may be behind a link
    case = find_cases(isles22)[1].cases[0]
    folder = case.images["dwi"].path.parent
    assert find_case([str(folder)], ["adc"]) == (
        case.case_id,
        {"dwi": case.images["dwi"], "adc": case.images["adc"]},
    )


def test_an_image_of_a_data_set_has_the_channels_that_it_names(tmp_path: Path) -> None:
    root = trees.msd(tmp_path / "msd")  # one channel, MRI
    image = str(root / "imagesTr" / "case_0.nii.gz")
    assert list(find_case([image], ["mri"])[1]) == ["mri"]
    with pytest.raises(ConfigError, match="no t1: the model sees t1, but this is mri"):
        find_case([image], ["t1"])
    (root / "dataset.json").write_text(json.dumps({"modality": {"0": "T1", "1": "FLAIR"}}))
    with pytest.raises(ConfigError, match=r"case_0.nii.gz: channels: 1: .* names t1, flair"):
        find_case([image], ["t1"])


def test_pictures_have_no_grid_to_write_a_mask_on(tmp_path: Path) -> None:
    root = trees.pictures(tmp_path / "pictures")
    for word in (f"{root}:0", str(root / "images" / "0.png")):
        with pytest.raises(ValueError, match=r"0.png: must be a NIfTI file"):
            find_case([word], ["picture"])
