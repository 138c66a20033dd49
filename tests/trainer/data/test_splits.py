"""Splits: a fifth sealed by name and seed, five folds by patient and lesion volume."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.splits import fold_problem, is_sealed, make_splits, notes_on_parts

PHANTOM = [f"sub-stroke{number:04d}" for number in range(1, 33)]
VOLUMES = st.dictionaries(st.text(min_size=1, max_size=6), st.floats(0, 200), min_size=1)


@given(VOLUMES, st.integers(0, 1000))
def test_every_case_is_in_one_part_and_folds_have_their_sizes(volumes, seed):
    places = make_splits(volumes, seed)

    count = Counter(places.values())
    assert places.keys() == volumes.keys()
    assert {case for case in places if places[case] == "test"} == {
        case for case in volumes if is_sealed(case, seed)
    }
    sizes = [count[fold] for fold in range(5)]
    assert max(sizes) - min(sizes) <= 1
    assert count[0] > 0 or count["test"] == len(volumes)
    with_lesion = {place for case, place in places.items() if volumes[case] and place != "test"}
    assert 0 in with_lesion or not with_lesion


@given(VOLUMES, VOLUMES, st.integers(0, 1000))
def test_no_case_that_comes_goes_or_is_corrected_moves_another_over_to_the_other_side(
    before, after, seed
):
    first, second = make_splits(before, seed), make_splits(after, seed)

    for case in first.keys() & second.keys():
        assert (first[case] == "test") == (second[case] == "test")


def test_dropping_one_of_the_phantom_and_tripling_one_lesion_move_no_test_case():
    volumes = {case: float(1 + number) for number, case in enumerate(PHANTOM)}
    sealed = {case for case, place in make_splits(volumes, 0).items() if place == "test"}

    assert 4 <= len(sealed) <= 9
    for case in PHANTOM:
        less = {other: volume for other, volume in volumes.items() if other != case}
        for changed in (less, {**volumes, case: 3 * volumes[case]}):
            now = {c for c, place in make_splits(changed, 0).items() if place == "test"}
            assert now == sealed & changed.keys()


def test_about_a_fifth_of_the_patients_is_test():
    share = np.mean([is_sealed(f"{number}", seed) for number in range(2000) for seed in (0, 1)])

    assert share == pytest.approx(0.2, abs=0.03)


def test_folds_span_the_lesion_volumes():
    volumes = {f"case{n:03d}": float(np.exp(n / 20)) for n in range(150)}

    places = make_splits(volumes, seed=3)

    rest = np.log([volumes[case] for case, place in places.items() if place != "test"])
    for fold in range(5):
        inside = np.log([volumes[case] for case, place in places.items() if place == fold])
        assert np.mean(inside) == pytest.approx(rest.mean(), abs=0.05 * np.ptp(rest))
        for quarter in np.array_split(np.sort(rest), 4):
            assert ((inside >= quarter[0]) & (inside <= quarter[-1])).sum() >= 4


def test_the_seed_decides_and_the_order_of_cases_does_not():
    volumes = {f"case{n}": float(n**2 % 11) for n in range(40)}
    turned = dict(reversed(volumes.items()))

    assert make_splits(volumes, 1) == make_splits(turned, 1)
    assert make_splits(volumes, 1) != make_splits(volumes, 2)


def test_a_patient_is_in_one_part_and_counts_by_all_its_lesions():
    volumes = {f"p{n:02d}_{scan}": float(n) for n in range(40) for scan in range(1 + n % 3)}
    patient_of = {case: case.split("_")[0] for case in volumes}

    places = make_splits(volumes, 0, patient_of)

    parts = {patient: set() for patient in patient_of.values()}
    for case, place in places.items():
        parts[patient_of[case]].add(place)
    assert {len(part) for part in parts.values()} == {1}
    patients = Counter(min(part, key=str) for part in parts.values())
    assert max(patients[f] for f in range(5)) - min(patients[f] for f in range(5)) <= 1


def test_known_places_stay_and_a_patients_other_cases_follow_it_into_test():
    volumes = {f"c{n}": float(n) for n in range(30)} | {"c3b": 1.0, "gone_b": 1.0}
    patient_of = {case: case.removesuffix("b").removesuffix("_") for case in [*volumes, "gone"]}
    known = {"c3": "test", "c4": 2, "gone": "test", "c5": "train", "c6": "rest"}

    for seed in range(20):
        places = make_splits(volumes, seed, patient_of, known)
        assert (places["c3"], places["c3b"], places["c4"]) == ("test", "test", 2)
        assert places["gone_b"] == "test"
        assert places["c5"] == "train"
        assert places["c6"] in range(5)


def test_new_cases_go_where_few_are():
    known = {f"c{n}": n % 2 for n in range(20)}
    volumes = dict.fromkeys(known, 1.0) | {"new1": 2.0, "new2": 3.0, "new3": 4.0}

    for seed in range(10):
        places = make_splits(
            volumes, seed, known=known | dict.fromkeys(("new1", "new2", "new3"), "rest")
        )
        assert {places["new1"], places["new2"], places["new3"]} == {2, 3, 4}


def test_few_lesions_go_where_they_can_be_used_first():
    volumes = {f"c{n}": 5.0 * (n < 3) for n in range(40)}

    for seed in range(20):
        places = make_splits(volumes, seed)
        with_lesion = {places[c] for c in volumes if volumes[c]} - {"test"}
        assert with_lesion == {*range(len(with_lesion))}


@pytest.mark.parametrize(
    "places, lesions, fold, said",
    [
        ({"a": 0, "b": 1}, "ab", 0, ""),
        ({"a": 0, "b": "train"}, "ab", 0, ""),
        ({"a": 0, "b": 1, "c": 2}, "bc", 0, "no lesion in the validation cases of fold 0; validate "
         "with another: data.fold=1 or 2"),
        ({"a": 0, "b": 1}, "a", 0, "no lesion in the training cases of fold 0; prepare it again "
         "with another --seed, or with --splits"),
        ({"a": 0, "b": 1}, "ab", 4, "fold 4 leaves 2 training and 0 validation cases, but needs "
         "one of each; validate with another: data.fold=0 or 1"),
        ({"a": "test"}, "a", 0, "fold 0 leaves 0 training and 0 validation cases, but needs one of "
         "each; prepare it again with another --seed, or with --splits"),
    ],
)  # fmt: skip
def test_a_fold_that_cannot_be_used_says_which_can(places, lesions, fold, said):
    assert fold_problem(places, {case: float(case in lesions) for case in places}, fold) == said


def test_parts_without_a_lesion_are_said_with_a_seed_that_has_them():
    volumes = {case: 5.0 * (number in (0, 1, 4, 7)) for number, case in enumerate(PHANTOM[:12])}
    names = {case: case for case in volumes}
    bad = next(
        seed
        for seed in range(100)
        if "test" in (places := make_splits(volumes, seed)).values()
        and not any(volumes[case] for case in places if places[case] == "test")
    )

    [note] = notes_on_parts(volumes, make_splits(volumes, bad), names)

    assert note.startswith("no lesion in the test part")
    better = int(note.rpartition("--seed ")[2].split()[0])
    places = make_splits(volumes, better)
    assert any(volumes[case] for case in places if places[case] == "test")
    assert fold_problem(places, volumes, 0) == ""


def test_two_lesions_are_better_not_test():
    volumes = {case: 5.0 * (number in (3, 4)) for number, case in enumerate(PHANTOM[:12])}

    [note] = notes_on_parts(volumes, make_splits(volumes, 0), {case: case for case in volumes})

    assert note.startswith("no lesion in fold 0") and "has lesions in fold 0)" in note
    seed = int(note.rpartition("--seed ")[2].split()[0])
    assert fold_problem(make_splits(volumes, seed), volumes, 0) == ""


def test_parts_that_are_empty_are_said():
    names = {"a": "a"}
    assert "no case is test" in notes_on_parts({"a": 1.0}, {"a": 0}, names)[0]
    assert notes_on_parts({"a": 1.0}, {"a": "test"}, names)[0].startswith("all cases are test")
    whole = {f"c{n}": n for n in range(5)} | {"t": "test"}
    assert notes_on_parts(dict.fromkeys(whole, 1.0), whole, None) == []
    del whole["c4"]
    [note] = notes_on_parts(dict.fromkeys(whole, 1.0), whole, {case: case for case in whole})
    assert note == "too few patients for five folds: fold 4 has none"


def test_a_seed_that_mends_nothing_is_not_named():
    two = {"a": 1.0, "b": 1.0}

    notes = notes_on_parts(two, {"a": 0, "b": 1}, {case: case for case in two})

    assert notes[0] == "no case is test, so that nothing can be judged on sealed cases"
