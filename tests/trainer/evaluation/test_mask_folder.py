"""Which file of a folder is which case's."""

import unicodedata
from dataclasses import dataclass
from pathlib import Path

import pytest

from trainer.configfile import ConfigError
from trainer.evaluation.mask_folder import find_masks


@dataclass(frozen=True)
class Case:
    """As `trainer.data.store.Case`, as far as names go."""

    case_id: str
    fold: int | None = 0


def find(folder: Path, *cases: str, fold: int | None = 0):
    all_cases = [Case(case, fold) for case in cases]
    return find_masks(folder, all_cases, all_cases)


def write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("name", "case"),
    [
        ("case_001.nii.gz", "case_001"),
        ("case_001.nii", "case_001"),
        ("case_001_0000.nii.gz", "case_001"),
        ("fold_0/validation/case_001.nii.gz", "case_001"),
        ("sub-01_ses-02_space-ncct_label-lesion_mask.nii.gz", "sub-01"),
        ("sub-stroke0001_ses-02_lesion-msk.nii.gz", "sub-stroke0001"),
        ("sub-01/ses-02/lesion_mask.nii.gz", "sub-01_ses-02"),
        ("sub-01/pred.nii.gz", "sub-01"),
        ("pred_case_001.nii.gz", "case_001"),
        ("case_001_probability.nii.gz", "case_001"),
        ("case_001_seg.png", "case_001"),
        (unicodedata.normalize("NFD", "Müller.nii.gz"), unicodedata.normalize("NFC", "Müller")),
    ],
)
def test_names_of_many_programs(tmp_path: Path, name: str, case: str) -> None:
    write(tmp_path, name)
    assert find(tmp_path, case, "another").files == {case: tmp_path / name}


@pytest.mark.parametrize(
    "name",
    ["case_0012.nii.gz", "case_001_T1w.nii.gz", "xcase_001.nii.gz", "case_001_2.nii.gz",
     "sub-01/T1w.nii.gz"],
)  # fmt: skip
def test_what_is_no_case_of_the_store(tmp_path: Path, name: str) -> None:
    write(tmp_path, name, "case_002.nii.gz")
    found = find(tmp_path, "case_001", "case_002", "sub-01")
    assert [*found.files] == ["case_002"] and found.missing == ["case_001", "sub-01"]
    assert found.notes == [f"1 files are of no case of the store: {name}"]
    with pytest.raises(ConfigError, match="no file has the name of a case"):
        find(tmp_path, "other")


def test_the_longer_name_is_meant_and_two_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "a_1_mask.nii.gz")
    assert [*find(tmp_path, "a", "a_1", "1").files] == ["a_1"]
    write(tmp_path, "sub-1_sub-2.nii.gz")
    with pytest.raises(ConfigError, match="fits the cases sub-1 and sub-2"):
        find(tmp_path, "a", "sub-1", "sub-2")


def test_two_files_of_a_case_are_refused_with_both_names(tmp_path: Path) -> None:
    """As where nnU-Net's folder has the folds and what was made of them."""
    write(tmp_path, *(f"fold_{n}/validation/c{n}.nii.gz" for n in range(3)))
    assert len(find(tmp_path, "c0", "c1", "c2").files) == 3
    write(tmp_path, *(f"crossval_results_folds_0_1_2/c{n}.nii.gz" for n in range(3)))
    with pytest.raises(ConfigError) as refused:
        find(tmp_path, "c0", "c1", "c2", fold=None)
    assert str(refused.value) == (
        f"{tmp_path}: c0: has two files, crossval_results_folds_0_1_2/c0.nii.gz and "
        "fold_0/validation/c0.nii.gz, and so 2 more cases: give a folder with one of each case"
    )


def test_of_two_the_one_in_the_folder_of_its_fold(tmp_path: Path) -> None:
    write(tmp_path, "fold_0/validation/c.nii.gz", "fold_1/validation/c.nii.gz")
    assert find(tmp_path, "c", fold=1).files["c"].parent.parent.name == "fold_1"
    with pytest.raises(ConfigError, match="two files"):
        find(tmp_path, "c", fold=2)


def test_what_predict_writes_beside_a_mask_is_left(tmp_path: Path) -> None:
    write(tmp_path, "c.nii.gz", "c_probability.nii.gz", "c_uncertainty.nii.gz")
    found = find(tmp_path, "c")
    assert found.files["c"].name == "c.nii.gz"
    assert found.notes == [
        "2 files stand beside what is scored of a case: c_probability.nii.gz, c_uncertainty.nii.gz"
    ]


def test_folders_without_masks(tmp_path: Path) -> None:
    for folder, rule in ((tmp_path, "has no NIfTI file"), (tmp_path / "x", "no such folder")):
        with pytest.raises(ConfigError, match=rule):
            find(folder, "c")
    write(tmp_path, "c.npz")
    with pytest.raises(ConfigError, match=r"only \.npz"):
        find(tmp_path, "c")
    with pytest.raises(ConfigError, match="is a file"):
        find(tmp_path / "c.npz", "c")
