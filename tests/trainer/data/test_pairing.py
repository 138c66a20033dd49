"""Which file belongs to which: no wrong pair, no file that is lost without a line."""

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from tests.trainer.data import trees
from tests.trainer.data.empty_files import NUMBERS, files, isles22, refusal
from trainer.data.formats import find_cases
from trainer.data.formats.case_selector import find_case
from trainer.data.formats.folder import PICTURE_NOTE
from trainer.data.parts import SplitOptions
from trainer.data.patients import UNTOLD


def pairs(root: Path) -> dict[str, tuple[str, ...]]:
    """Return each case's first image and its masks, below the root."""
    return {
        case.case_id: tuple(
            path.relative_to(root).as_posix()
            for path in (
                next(iter(case.images.values())).path,
                *(mask.path for mask in (case.mask, *case.more_masks)),
            )
        )
        for case in find_cases(root)[1].cases
    }


def notes(root: Path) -> list[str]:
    return [note for note in find_cases(root)[1].notes if note != PICTURE_NOTE]


@pytest.mark.parametrize(
    "image, mask, case",
    [
        ("images/{n}.jpg", "masks/{n}.jpg", "{n}"),  # Kvasir
        ("images/{n}.PNG", "masks/{n}.png", "{n}"),
        ("images/a{n}.png", "masks/A{n}.png", "a{n}"),
        ("images/img_{n}.png", "masks/mask_{n}.png", "img_{n}"),
        ("ISIC_{n}.jpg", "ISIC_{n}_segmentation.png", "ISIC_{n}"),
        ("Part1_Training_Data/I_{n}.jpg", "Part1_Training_GroundTruth/I_{n}_Seg.png", "I_{n}"),
        ("Task1-2_Training_Input/I_{n}.jpg", "Task1_Training_GroundTruth/I_{n}.png", "I_{n}"),
        ("volume-{n}.nii", "segmentation-{n}.nii", "volume-{n}"),  # LiTS
        ("ct_{n}.nii.gz", "seg_{n}.nii.gz", "ct_{n}"),
        ("C{n}.NII.GZ", "C{n}_MASK.NII.GZ", "C{n}"),
        ("t/images/2{n}_training.tif", "t/1st_manual/2{n}_manual1.png", "2{n}_training"),  # DRIVE
        ("case_{n}/imaging.nii.gz", "case_{n}/segmentation.nii.gz", "case_{n}"),  # KiTS
        ("p{n}/images/s.png", "p{n}/masks/s.png", "p{n}_s"),
        ("images/p{n}/s.png", "masks/p{n}/s.png", "p{n}_s"),
        ("benign/b ({n}).png", "benign/b ({n})_mask.png", "b ({n})"),  # BUSI from its top
        ("B-{n}/B-{n}-t1.nii.gz", "B-{n}/B-{n}-seg.nii.gz", "B-{n}"),  # BraTS
        ("B_{n}/B_{n}_t1.nii/B_{n}_t1.nii", "B_{n}/B_{n}_seg.nii/B_{n}_seg.nii", "B_{n}"),
        (
            "R1/sub-{n}/ses-1/anat/sub-{n}_ses-1_space-M_T1w.nii.gz",  # ATLAS
            "R1/sub-{n}/ses-1/anat/sub-{n}_ses-1_space-M_label-L_desc-T1lesion_mask.nii.gz",
            "sub-{n}",
        ),
        ("sub-{n}_T1w.nii.gz", "sub-{n}_mask.nii.gz", "sub-{n}"),
        ("images/sub-{n}_T1w.nii.gz", "masks/sub-{n}_lesion.nii.gz", "sub-{n}"),
        ("imagesTr/la_000{n}.nii.gz", "labelsTr/la_000{n}.nii.gz", "la_000{n}"),
        ("imagesTr/la_000{n}_0000.nii.gz", "labelsTr/la_000{n}.nii.gz", "la_000{n}"),
    ],
)  # fmt: skip
def test_each_image_gets_its_own_mask(tmp_path, image, mask, case):
    for n in NUMBERS:
        files(tmp_path, image.format(n=n), mask.format(n=n))

    assert pairs(tmp_path) == {
        case.format(n=n): (image.format(n=n), mask.format(n=n)) for n in NUMBERS
    }
    assert notes(tmp_path) == []


@pytest.mark.parametrize("layout", ["{kind}/{part}/{n}.png", "{part}/{kind}/{n}.png",
                                    "{part}_{kind}/{n}.png"])  # fmt: skip
def test_equal_names_in_train_and_test_are_different_cases(tmp_path, layout):
    for part in ("train", "test"):
        for kind in ("images", "masks"):
            files(tmp_path, *(layout.format(part=part, kind=kind, n=n) for n in NUMBERS))

    found = pairs(tmp_path)

    assert list(found) == [f"{part}_{n}" for part in ("test", "train") for n in NUMBERS]
    assert all(image.replace("images", "masks") == mask for image, mask in found.values())


@pytest.mark.parametrize("folder, told", [("p0{}", True), ("class{}", False)])
def test_patients_folders_tell_the_patient_where_names_do_not(tmp_path, folder, told):
    for n in range(12):
        files(tmp_path, *(f"{kind}/{folder.format(n % 6)}/{n}.png" for kind in ("images", "masks")))
    cases = find_cases(tmp_path)[1].cases

    options = SplitOptions.read(
        [case.case_id for case in cases],
        seed=0,
        pictures=True,
        folders={case.case_id: case.folders for case in cases},
    )

    assert sorted(options.patient_of, key=int) == [str(n) for n in range(12)]
    assert len(set(options.patient_of.values())) == (6 if told else 12)
    assert list(options.notes) == ([] if told else [UNTOLD])


def test_a_mask_that_is_missing_is_not_replaced_by_another_patients(tmp_path):
    files(tmp_path, "images/p1/s1.png", "images/p2/s1.png", "masks/p2/s1.png", "masks/p3/s1.png")

    assert pairs(tmp_path) == {
        "p1_s1": ("images/p1/s1.png", "mask of images/p1/s1.png"),
        "p2_s1": ("images/p2/s1.png", "masks/p2/s1.png"),
        "p3_s1": ("image of masks/p3/s1.png", "masks/p3/s1.png"),
    }


@pytest.mark.parametrize("suffix", [".png", ".nii.gz"])
def test_an_image_without_a_mask_is_not_its_own(tmp_path, suffix):
    files(tmp_path, f"a{suffix}", f"a_mask{suffix}", f"b{suffix}")

    assert pairs(tmp_path)["b"] == (f"b{suffix}", f"b_mask{suffix}")


@pytest.mark.parametrize("link", ["images", "../d/images"])
def test_a_file_that_is_image_and_mask_is_refused(tmp_path, link):
    root = files(tmp_path / "d", "images/a.png")
    (root / "masks").symlink_to(link)

    assert refusal(root) == f"{root}/masks/a.png: is both image and mask of a"


def test_further_masks_of_an_image_are_joined_and_said(tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    for number in (1, 2):
        pixels = np.full((40, 48), 120, np.uint8)
        Picture.fromarray(pixels).save(root / f"benign ({number}).png")
        for part, end in enumerate(("", "_1", "_2")[: number + 1]):
            mask = np.zeros((40, 48), np.uint8)
            mask[10 * part : 10 * part + 5, 8:18] = 255
            Picture.fromarray(mask).save(root / f"benign ({number})_mask{end}.png")

    store, text = trees.run(root, tmp_path / "out")

    assert [case.case_id for case in store.cases] == ["benign (1)", "benign (2)"]
    assert [store.native_mask(case).sum() for case in store.cases] == [100, 150]
    assert text.count("note: several masks of an image are joined: benign (1).png") == 1
    assert "and 1 more" in text


@pytest.mark.parametrize(
    "names, line",
    [
        (("images/2.jpg", "images/2.png", "masks/2.png"),
         "masks/2.png may be the mask of each of images/2.jpg, images/2.png"),
        (("x.jpg", "x.png", "x_mask.png"), "x_mask.png may be the mask of each of x.jpg, x.png"),
        (("x.png", "x_mask.png", "x_1.png", "x_mask_1.png"), "x_mask_1.png may be the mask of"),
        (("images/x.png", "masks/x.png", "masks/x.tif"), "images/x.png has several masks"),
        (("x.png", "x_mask.png", "x_seg.png"), "x.png has several masks: x_mask.png, x_seg.png"),
        (("images/x.png", "masks/x.png", "labels/x.png"), "masks lie in labels and in masks"),
        (("t/images/1.tif", "t/1st_manual/1.png", "t/mask/1_mask.png"),  # DRIVE's field of view
         "masks lie in t/1st_manual and in t/mask"),
        (("images/a/x.png", "images/b/x.png", "masks/x.png"), "masks/x.png may be the mask of"),
        (("imagesTr/p1/s_0000.nii", "imagesTr/p2/s_0000.nii", "labelsTr/s.nii"), "have one name"),
        (("imagesTr/s_0000.nii", "labelsTr/s.nii", "labelsTr/s.nii.gz"), "have one name"),
        (("images/a_b/c.png", "masks/a_b/c.png", "images/a/b_c.png", "masks/a/b_c.png",
          "images/c.png", "masks/c.png"), "1 names are of several cases, such as a_b_c"),
    ],
)  # fmt: skip
def test_what_names_do_not_tell_is_refused(tmp_path, names, line):
    assert line in refusal(files(tmp_path, *names))


def test_names_of_a_mac_and_of_a_pc_are_the_same(tmp_path):
    for kind, form in (("images", "NFD"), ("masks", "NFC")):
        files(tmp_path, unicodedata.normalize(form, f"{kind}/Müller.png"))

    ((case, (image, mask)),) = pairs(tmp_path).items()

    assert case == unicodedata.normalize("NFC", "Müller")
    assert image != mask and (tmp_path / mask).is_file()


def test_files_beside_the_subjects_folders_are_left_out_with_a_note(tmp_path):
    files(tmp_path, "p1/p1_t1.nii.gz", "p1/p1_seg.nii.gz", "template.nii.gz")

    assert list(pairs(tmp_path)) == ["p1"]
    assert notes(tmp_path) == [
        "files outside of any subject's folder are left out: template.nii.gz"
    ]


def test_a_folder_of_a_mac_has_its_row_in_a_table_of_a_pc(tmp_path):
    for letters in ("Müller", "Jörg"):
        mac = unicodedata.normalize("NFD", letters)
        files(tmp_path, f"{mac}/{mac}_t1.nii.gz", f"{mac}/{mac}_seg.nii.gz")
    rows = unicodedata.normalize("NFC", "case,age\nMüller,60\nJörg,70\n")
    (tmp_path / "table.csv").write_text(rows, encoding="utf-8")

    cases = {case.case_id: case for case in find_cases(tmp_path)[1].cases}

    assert [cases[name].clinical for name in ("Jörg", "Müller")] == [{"age": 70}, {"age": 60}]
    assert all(list(case.images) == ["t1"] for case in cases.values())
    for form in ("NFC", "NFD"):
        word = unicodedata.normalize(form, "Müller")
        assert find_case([f"{tmp_path}:{word}"], ["t1"])[0] == "Müller"


@pytest.mark.parametrize("name", [b"M\xfcller", b"a\nb", b"a\x1b[31m"])
def test_names_that_are_no_text_are_one_line_with_the_remedy(tmp_path, name):
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        Path(os.fsdecode(os.fsencode(tmp_path / kind) + b"/" + name + b".png")).write_bytes(b"x")

    line = refusal(tmp_path)

    shown = repr(name + b".png")[1:]
    assert f"2 file names are not UTF-8 or have control characters, such as {shown}: " in line
    assert "convmv" in line


def test_linked_folders_are_entered_and_loops_are_not(tmp_path):
    root = files(tmp_path / "d", "images/p0/s0.png", "masks/p0/s0.png")
    for kind in ("images", "masks"):
        (root / kind / "p1").symlink_to(files(tmp_path / f"far_{kind}", "s1.png"))
        (root / kind / "again").symlink_to(root / kind)
        (root / kind / "itself").symlink_to("itself")

    assert pairs(root) == {
        f"s{n}": (f"images/p{n}/s{n}.png", f"masks/p{n}/s{n}.png") for n in (0, 1)
    }


def test_a_link_to_nothing_is_a_missing_file_not_a_lost_case(tmp_path):
    files(tmp_path, "images/a.png", "masks/a.png", "masks/b.png")
    (tmp_path / "images" / "b.png").symlink_to("/nowhere/b.png")

    assert pairs(tmp_path)["b"] == ("images/b.png", "masks/b.png")


def test_what_other_programs_leave_is_no_case(tmp_path):
    files(
        tmp_path, "images/a.png", "masks/a.png", "images/@eaDir/a.png", "masks/._a.png",
        "images/.ipynb_checkpoints/a-checkpoint.png", "__MACOSX/images/b.png", "images/Thumbs.db",
    )  # fmt: skip

    assert list(pairs(tmp_path)) == ["a"]
    assert notes(tmp_path) == []


def test_files_beside_the_images_and_masks_are_left_out_with_a_note(tmp_path):
    files(tmp_path, "images/a.png", "masks/a.png", "previews/a.png", "previews/b.png")

    assert list(pairs(tmp_path)) == ["a"]
    assert "these files are left out: previews/a.png and 1 more" in notes(tmp_path)[0]


def test_files_in_formats_that_are_not_read_are_a_note(tmp_path):
    files(tmp_path, *(f"{folder}/{name}" for folder, name in (
        ("imagesTr", "a_0000.nii.gz"), ("labelsTr", "a.nii.gz"),
        ("imagesTr", "b_0000.mha"), ("labelsTr", "b.mha"),
    )))  # fmt: skip

    assert list(pairs(tmp_path)) == ["a"]
    assert notes(tmp_path) == [
        "files in formats that are not read are left out: imagesTr/b_0000.mha and 1 more"
    ]


def test_a_test_set_beside_the_images_stays_outside_with_a_note(tmp_path):
    files(
        tmp_path, *(f"{part}{kind}/a.png" for part in ("", "test_") for kind in ("images", "masks"))
    )

    assert pairs(tmp_path) == {"a": ("images/a.png", "masks/a.png")}
    assert "left out: test_images/a.png and 1 more" in notes(tmp_path)[0]


def test_the_reference_is_the_modality_that_the_masks_name(tmp_path):
    for n in NUMBERS:
        anat = f"rawdata/sub-{n}/anat/sub-{n}_"
        files(
            tmp_path, f"{anat}T1w.nii.gz", f"{anat}FLAIR.nii.gz",
            f"derivatives/lesions/sub-{n}/sub-{n}_space-FLAIR_label-lesion_mask.nii.gz",
            f"derivatives/fmriprep/sub-{n}/sub-{n}_desc-brain_mask.nii.gz",
        )  # fmt: skip
    files(tmp_path, "rawdata/sub-1/anat/sub-1_T2w.nii.gz")

    name, found = find_cases(tmp_path)

    assert name == "subjects"
    assert [list(case.images) for case in found.cases] == [["flair", "t1w"]] * 3
    assert [case.mask.path.parent.parent.name for case in found.cases] == ["lesions"] * 3
    assert found.notes == ["modalities that only some cases have are left out: t2w"]


@pytest.mark.parametrize(
    "names, found",
    [
        (("p1/s1/IM1.dcm", "p1/s1/IM2.dcm"),
         "DICOM files (2, such as p1/s1/IM1.dcm): convert each series with dcm2niix -z y"),
        (("imagesTr/a_0000.mha", "labelsTr/a.mha"), ".mha files (2, such as imagesTr/a_0000.mha)"),
        (("a.nrrd",), "s.ReadImage('x.nrrd'), 'x.nii.gz'"),
        (("a.hdr", "a.img"), "s.ReadImage('x.hdr'), 'x.nii.gz'"),
        (("a.npy",), "no voxel size"),
        (("data.zip",), "archives (1, such as data.zip): unpack them"),
        (("a.png", "b.png"), "2 images, such as a.png, and no mask by name or folder"),
        (("images/a.png", "masks/b.png"), "no two are a pair by name and folder"),
        (("train_images/a.png", "test_masks/a.png"), "no two are a pair by name and folder"),
        (("a_mask.png",), "1 masks, such as a_mask.png, and no image"),
        (("notes.txt",), "there is no image in it"),
    ],
)  # fmt: skip
def test_no_case_says_what_there_is_and_what_is_looked_for(tmp_path, names, found):
    line = refusal(files(tmp_path, *names))

    assert line.startswith(f"{tmp_path}: no cases found: there ") and found in line
    assert "looked for: sub-X folders" in line


def test_dicom_files_without_a_suffix_are_told_by_their_content(tmp_path):
    (tmp_path / "I0001").write_bytes(bytes(128) + b"DICM")

    assert "DICOM files (1, such as I0001)" in refusal(tmp_path)


def test_one_level_too_high_or_too_deep_names_the_folder(tmp_path):
    root = isles22(tmp_path / "top" / "ISLES-2022")
    other = files(tmp_path / "nn", "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz")

    assert f"there are cases in {root}: give this one" in refusal(tmp_path / "top")
    for inside in ("derivatives", "sub-s1"):
        assert f"it is a part of {root}: give that" in refusal(root / inside)
    assert f"it is a part of {other}: give that" in refusal(other / "imagesTr")
    assert "leave --format out" in refusal(other, "isles22")


def test_a_number_at_the_end_of_a_case_is_no_channel(tmp_path):
    root = trees.msd(tmp_path / "data", 1)
    for n in NUMBERS:
        for folder in ("imagesTr", "labelsTr"):
            trees.write(root / folder / f"la_000{n}.nii.gz", trees.head()[0])
    trees.write(root / "imagesTs" / "la_0004.nii.gz", trees.head()[0])

    images = [case.images["mri"].path.name for case in find_cases(root)[1].cases]

    assert images == ["case_0.nii.gz", *(f"la_000{n}.nii.gz" for n in NUMBERS)]
    name, images = find_case([str(root / "imagesTs" / "la_0004.nii.gz")], ["mri"])
    assert (name, images["mri"].path.name) == ("la_0004", "la_0004.nii.gz")


def test_channels_that_the_description_does_not_name_are_a_note(tmp_path):
    root = trees.msd(tmp_path / "data", channels=("T1", "FLAIR"))
    files(root, "imagesTr/case_0_0002.nii.gz", "imagesTr/case_1_0002.nii.gz")

    assert notes(root) == [
        "channels that dataset.json does not name are left out: case_0_0002 and 1 more"
    ]
