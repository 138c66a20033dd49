"""ISLES'22 and ISLES'24: which scan and which mask belong to which subject and session."""

import numpy as np
import pytest

from tests.trainer.data import trees
from tests.trainer.data.empty_files import NUMBERS, files, isles22, refusal
from trainer.configfile import ConfigError
from trainer.data.formats import find_cases
from trainer.data.formats.case_selector import find_case


def test_isles22_archive_with_strangers_among_its_subjects(tmp_path):
    root = isles22(tmp_path)
    files(
        root, "sub-s1.html", "sub-s2.tar.gz", "participants.tsv", "@eaDir/sub-s1.png",
        "sub-s1 (copy)/ses-0001/dwi/sub-s1_ses-0001_dwi.nii.gz",
    )  # fmt: skip

    name, found = find_cases(root)

    assert name == "isles22"
    assert [case.case_id for case in found.cases] == ["sub-s1", "sub-s2", "sub-s3"]
    assert list(found.cases[0].images) == ["dwi", "adc", "flair"]
    assert found.notes == ["copies of a subject's folder are left out: sub-s1 (copy)"]
    sources = (*found.cases[0].images.values(), found.cases[0].mask)
    assert all(source.path.is_file() for source in sources)
    folder = root / "sub-s2" / "ses-0001" / "dwi"
    assert find_case([str(folder)], ["flair"])[0] == "sub-s2"


def test_isles22_flair_of_the_archive_is_brought_to_the_grid_of_dwi(tmp_path):
    root = tmp_path / "data"
    brain, _ = trees.head()
    for n in NUMBERS:
        name = f"sub-s{n}/ses-0001/{{}}/sub-s{n}_ses-0001_"
        dwi = f"{name.format('dwi')}"
        trees.write(root / f"{dwi}dwi.nii.gz", brain)
        trees.write(root / f"{dwi}adc.nii.gz", brain)
        twice = np.repeat(np.repeat(brain + 300.0 * trees.lesion(), 2, 0), 2, 1)
        affine = trees.AFFINE @ np.diag([0.5, 0.5, 1, 1])
        affine[:2, 3] -= 1
        trees.write(root / f"{name.format('anat')}FLAIR.nii.gz", twice, affine)
        mask = f"derivatives/sub-s{n}/ses-0001/sub-s{n}_ses-0001_msk.nii.gz"
        trees.write(root / mask, trees.lesion())

    store, _ = trees.run(root, tmp_path / "out")

    assert store.modalities == ("dwi", "adc", "flair")
    flair = store.images(store.cases[0].rows, ["flair"])[:, 0].astype(float)
    lesion = store.masks(store.cases[0].rows) > 0
    brain = (store.brain(store.cases[0].rows) > 0) & ~lesion
    assert np.percentile(flair[lesion], 10) > 2 * np.percentile(flair[brain], 90)


def test_isles22_takes_the_annotated_session_and_says_so(tmp_path):
    root = isles22(tmp_path, sessions=(1, 2), masks=(1,))

    found = find_cases(root)[1]

    for case in found.cases:
        assert {source.path.parts[-3] for source in case.images.values()} == {"ses-0001"}
        assert case.mask.path.parent.name == "ses-0001"
    assert found.notes == ["sessions without a mask are left out: sub-s1 ses-2 and 2 more"]


def test_isles22_sessions_that_are_both_annotated_are_two_cases(tmp_path):
    root = isles22(tmp_path, sessions=(1, 2), masks=(1, 2))

    found = find_cases(root)[1]

    assert [case.case_id for case in found.cases][:2] == ["sub-s1_ses-1", "sub-s1_ses-2"]
    for case in found.cases:
        session = f"ses-000{case.case_id[-1]}"
        assert {source.path.parts[-3] for source in case.images.values()} == {session}
        assert case.mask.path.parent.name == session
    assert find_case([str(root / "sub-s1" / "ses-0002")], ["adc"])[0] == "sub-s1_ses-2"
    assert find_case([f"{root}:sub-s1_ses-2"], ["adc"])[0] == "sub-s1_ses-2"
    with pytest.raises(ConfigError, match="several sessions: name sub-s1_ses-1 or sub-s1_ses-2"):
        find_case([str(root / "sub-s1")], ["adc"])


def test_isles22_masks_without_a_session_are_of_the_only_one(tmp_path):
    root = isles22(tmp_path, masks=())
    files(root, *(f"derivatives/sub-s{n}/sub-s{n}_msk.nii.gz" for n in NUMBERS))

    found = find_cases(root)[1]

    assert all(case.mask.path.is_file() for case in found.cases) and found.notes == []


def test_isles22_scans_without_a_session_have_the_subjects_name(tmp_path):
    root = isles22(tmp_path, sessions=(2,), masks=(2,))
    for n in NUMBERS:
        files(root, f"sub-s{n}/dwi/sub-s{n}_dwi.nii.gz", f"sub-s{n}/dwi/sub-s{n}_adc.nii.gz")
        files(root, f"derivatives/sub-s{n}/sub-s{n}_msk.nii.gz")

    cases = find_cases(root)[1].cases

    assert sorted(case.case_id for case in cases)[:2] == ["sub-s1", "sub-s1_ses-2"]
    assert find_case([str(root / "sub-s1" / "ses-0002")], ["adc"])[0] == "sub-s1_ses-2"
    assert find_case([f"{root}:sub-s1"], ["adc"])[0] == "sub-s1"


def test_isles22_never_pairs_two_sessions(tmp_path):
    case = find_cases(isles22(tmp_path, sessions=(1,), masks=(2,)))[1].cases[0]

    assert not case.mask.path.exists()


@pytest.mark.parametrize(
    "admission, later", [("01", "02"), ("pre", "post"), ("20200101", "20200103"), ("00", "01")]
)
def test_isles24_takes_no_later_scan_for_the_admissions(tmp_path, admission, later):
    for n in NUMBERS:
        case = f"sub-s{n}"
        scan, after = (f"{case}/ses-{each}/{case}_ses-{each}_" for each in (admission, later))
        files(
            tmp_path, f"raw_data/{scan}ncct.nii.gz", f"raw_data/{after}ncct.nii.gz",
            f"derivatives/{scan}space-ncct_tmax.nii.gz",
            f"derivatives/{after}space-ncct_tmax.nii.gz", f"derivatives/{after}lesion-msk.nii.gz",
        )  # fmt: skip
    (tmp_path / f"raw_data/sub-s2/ses-{admission}/sub-s2_ses-{admission}_ncct.nii.gz").unlink()

    found = find_cases(tmp_path)[1]

    for case in found.cases:
        assert f"ses-{admission}_" in case.images["tmax"].path.name
        assert f"ses-{later}_" in case.mask.path.name
        assert f"ses-{later}_" not in case.images["ncct"].path.name
        assert case.images["ncct"].path.exists() == (case.case_id != "sub-s2")
    assert found.notes[1:] == [
        f"{each} of another session than the admission's is not taken: sub-s1 and 2 more"
        for each in ("ncct", "tmax")
    ]


@pytest.mark.parametrize(
    "admission, others", [("20200101", ["20200105", "20200301"]), ("00", ["01"]), ("01", ["02"])]
)
def test_isles24_takes_the_first_mask_after_the_admissions(tmp_path, admission, others):
    files(tmp_path, f"raw_data/sub-s1/ses-{admission}/sub-s1_ses-{admission}_ncct.nii.gz")
    for session in (admission, *others):
        files(tmp_path, f"derivatives/sub-s1/ses-{session}/sub-s1_ses-{session}_lesion-msk.nii.gz")

    [case] = find_cases(tmp_path)[1].cases

    assert case.mask.path.parent.name == f"ses-{others[0]}"


def test_isles24_sessions_that_do_not_tell_the_admissions_are_refused(tmp_path):
    for session in ("a", "b"):
        files(tmp_path, f"raw_data/sub-s1/ses-{session}/sub-s1_ses-{session}_ncct.nii.gz")
    files(tmp_path, "derivatives/sub-s1/sub-s1_lesion-msk.nii.gz")

    assert "sub-s1: has sessions ses-a, ses-b" in refusal(tmp_path)


def test_a_choice_between_files_is_a_note(tmp_path):
    root = trees.isles24(tmp_path, 2)
    ncct = trees.ncct(root)
    files(root, str(ncct.relative_to(root)).replace("_ncct", "_run-2_ncct"))
    trees.mask(root).with_suffix("").write_bytes(b"x")

    found = find_cases(root)[1]

    assert len(found.notes) == 3
    assert "several files of one ncct: sub-stroke0001 (takes" in found.notes[1]
    assert "several files of one mask: sub-stroke0001 (takes" in found.notes[2]
    assert found.cases[0].mask.path == trees.mask(root)


def test_a_file_in_another_subjects_folder_is_not_that_subjects(tmp_path):
    root = trees.isles24(tmp_path, 2)
    ncct = trees.ncct(root)
    ncct.rename(ncct.with_name("sub-stroke0002_ses-01_ncct.nii.gz"))

    found = find_cases(root)[1]

    assert found.cases[0].images["ncct"].path == ncct and not ncct.exists()
    assert "another subject or session than their folders are left out" in found.notes[-1]
