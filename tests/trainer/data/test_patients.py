"""Patients: told by names, by a pattern and by equal images; a note where nothing tells."""

import itertools

import pytest

from trainer.configfile import ConfigError
from trainer.data.patients import alike, joined, patients_by_name, patients_by_pattern


def two_of_each(*forms: str) -> dict[str, int]:
    """Return names of five patients in each of the forms, with the patient's number."""
    return {form.format(n): n for n, form in itertools.product(range(5), forms)}


@pytest.mark.parametrize(
    "forms",
    [
        ("sub-{:02d}_ses-1", "sub-{:02d}_ses-2"),
        ("sub-{:02d}", "sub-{:02d}_copy", "sub-{:02d} (1)"),
        ("sub-{:02d}_ses-1_run-1_dwi", "sub-{:02d}_ses-1_run-2_dwi"),
        ("P{:02d}_scan1", "P{:02d}_scan2"),
        ("P{:02d}_1", "P{:02d}_2", "P{:02d}_10"),
        ("P{:02d}-a", "P{:02d}-b"),
        ("patient{:03d}_frame01", "patient{:03d}_frame12"),
        ("site2_pat{:03d}_v1", "site2_pat{:03d}_v2"),
        ("{:04d}_baseline", "{:04d}_followup", "{:04d}_m06"),
        ("{:d}_20210304", "{:d}_2022-01-17"),
        ("case{:d}", "case{:d}_copy", "case{:d} - Copy", "case{:d} - Copy (2)", "Copy of case{:d}"),
        ("{:04d}_1", "{:04d}_2"),
        ("{:d}_1", "{:d}_2", "{:d}_10", "{:d}_11"),
        ("BraTS-GLI-{:05d}-000", "BraTS-GLI-{:05d}-001"),
        ("TCGA_CS_494{:d}_19960909_1", "TCGA_CS_494{:d}_19960909_12"),
        ("smith{:d}_scan1", "SMITH{:d}_Scan2"),
        ("img{:d}_aug1", "img{:d}_aug2"),
        ("A{:02d}_left", "A{:02d}_right"),
    ],
    ids=lambda forms: forms[0],
)  # fmt: skip
def test_names_of_several_cases_of_a_patient(forms):
    names = two_of_each(*forms)

    of, told = patients_by_name(names, numbers_count_patients=True)

    assert told
    assert len({*of.values()}) == 5
    assert {(names[a], names[b]) for a in of for b in of if of[a] == of[b]} == {
        (n, n) for n in range(5)
    }


@pytest.mark.parametrize(
    "names",
    [
        [f"hippocampus_{n:03d}" for n in (1, 4, 6, 17)],
        [f"sub-strokecase{n:04d}" for n in range(4)],
        [f"{n}" for n in range(12)],
        [f"BraTS20_Training_{n:03d}" for n in range(9)],
        [f"mri_scan_{n}" for n in range(9)],
    ],
    ids=lambda names: names[0],
)
def test_volumes_that_are_only_counted_are_patients(names):
    of, told = patients_by_name(names, numbers_count_patients=True)

    assert told
    assert len({*of.values()}) == len(names)


@pytest.mark.parametrize(
    "names, volumes",
    [
        (["a", "b", "c"], True),
        ([f"site{s}_{n:03d}" for s in (1, 2, 3) for n in range(9)], True),
        ([f"2{y}_{n:03d}" for y in ("019", "020") for n in range(9)], True),
        (["20210304", "20210305"], True),
        ([f"T{t}_{n:03d}" for t in (1, 2) for n in range(9)], True),
        ([f"benign ({n})" for n in range(9)], False),
        ([f"{n}" for n in range(9)], False),
        (["scan1", "scan2", "scan3"], False),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else str(value),
)
def test_names_that_do_not_tell_are_a_patient_each_and_said(names, volumes):
    of, told = patients_by_name(names, numbers_count_patients=volumes)

    assert not told
    assert len({*of.values()}) == len(names)


def test_a_pattern_says_whose_a_case_is_by_its_group():
    cases = ["a1x01", "a1x02", "b2x01"]

    assert [*patients_by_pattern(cases, r"^(\w\d)x").values()] == ["a1", "a1", "b2"]
    named = patients_by_pattern(cases, r"^(\w)(?P<patient>\d)")
    assert [*named.values()] == ["1", "1", "2"]
    assert [*patients_by_pattern(cases, r"^\w").values()] == ["a", "a", "b"]


@pytest.mark.parametrize(
    "pattern, said",
    [
        ("(", "not a regular expression"),
        ("^(a)", "finds no patient in b2x01, 1 of 3 cases"),
        (r"\d(x)", "finds the same patient, 'x', in all 3 cases"),
        ("^(z*)", "finds no patient in a1x01, a1x02, b2x01, 3 of 3 cases"),
    ],
)
def test_a_pattern_that_does_not_suit_is_one_line(pattern, said):
    with pytest.raises(ConfigError, match=said.replace("(", r"\(")) as error:
        patients_by_pattern(["a1x01", "a1x02", "b2x01"], pattern)

    assert len(error.value.lines) == 1


def test_cases_of_equal_images_are_of_one_patient_and_so_are_theirs():
    images = {"a": "1", "b": "1", "c": "2", "d": None, "e": None}
    of = {"a": "p", "b": "q", "c": "q", "d": "r", "e": "s"}

    groups = alike(images)

    assert groups == [["a", "b"]]
    names = joined(of, groups)
    assert names["p"] == names["q"] == ["p", "q"]
    assert names["r"] == ["r"]
