"""Who is test, and who is in which fold: by patient, from a seed."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

NUM_FOLDS = 5
Place = int | Literal["test", "train", "rest"]
"""A fold; test, which is sealed; train, which every fold trains on; rest, any fold and not test."""
TEST_SHARE = 1 / 5
_PURPOSE = b"segtune 8132"
"""Any bytes would do: with these, few cases that are only counted (sub-01, case_000) have test and
training cases too."""
MOST_SEEDS = 100


def place_of(case: Mapping[str, Any]) -> Place:
    """Return where a case of a manifest is."""
    if case["split"] == "test":
        return "test"
    place: Place = "train" if case["fold"] is None else case["fold"]
    return place


def draw(patient: str, seed: int) -> float:
    """Return a patient's number in 0 to 1, which follows from the seed and the name alone."""
    name, key = patient.encode("utf-8", "surrogateescape"), str(seed).encode()
    digest = hashlib.blake2b(name, key=key, digest_size=8, person=_PURPOSE).digest()
    return int.from_bytes(digest, "big") / 2**64


def is_sealed(patient: str, seed: int) -> bool:
    """Tell whether a patient is test: whoever else comes, goes or is corrected."""
    return draw(patient, seed) < TEST_SHARE


def make_splits(
    lesion_ml: Mapping[str, float],
    seed: int,
    patient_of: Mapping[str, str] | None = None,
    known: Mapping[str, Place] | None = None,
) -> dict[str, Place]:
    """Seal about a fifth of the patients for test, and deal the rest into five folds.

    Those with a lesion are dealt by its volume, the largest first, each five of them into five
    folds in random order; then those without. So each fold spans the volumes.

    Args:
        lesion_ml: Lesion volume by case.
        seed: The same seed, volumes and patients give the same splits.
        patient_of: Patient by case, also of cases that `known` has and `lesion_ml` has not; None
            takes each case for a patient.
        known: Places that are decided, by case; a patient's other cases go where they are, and into
            test where any of them is.

    Returns:
        By case: its fold, `test` or `train`. With fewer than five patients to deal some folds are
        empty, fold 0 never.
    """
    known = known or {}
    patient_of = {case: case for case in lesion_ml} if patient_of is None else patient_of
    decided: dict[str, Place] = {}
    for case, place in sorted(known.items()):
        if place == "test" or decided.get(patient_of[case], "rest") == "rest":
            decided[patient_of[case]] = place
    places: dict[str, Place] = {}
    for case in lesion_ml:
        patient = patient_of[case]
        drawn: Place = "test" if is_sealed(patient, seed) else "rest"
        places[case] = known.get(case, decided.get(patient, drawn))
        if places[case] == "rest" and decided.get(patient, "test") != "test":
            places[case] = decided[patient]
    to_deal: dict[str, float] = defaultdict(float)
    for case, place in places.items():
        if place == "rest":
            to_deal[patient_of[case]] += lesion_ml[case]
    taken = {patient_of[case]: place for case, place in places.items() if isinstance(place, int)}
    folds = _deal(to_deal, [*taken.values()], seed)
    return {
        case: folds[patient_of[case]] if place == "rest" else place
        for case, place in places.items()
    }


def _deal(lesion_ml: Mapping[str, float], taken: list[int], seed: int) -> dict[str, int]:
    """Return the folds of patients, by lesion volume, beside those that others have taken."""
    random = np.random.default_rng([seed, 0x5EED])
    count = [taken.count(fold) for fold in range(NUM_FOLDS)]
    in_order = sorted(lesion_ml, key=lambda patient: (-lesion_ml[patient], patient))
    folds = {}
    for group in (
        [patient for patient in in_order if lesion_ml[patient]],
        [patient for patient in in_order if not lesion_ml[patient]],
    ):
        for first in range(0, len(group), NUM_FOLDS):
            run = group[first : first + NUM_FOLDS]
            # The first folds before others, so that few patients make fold 0 work, with a lesion.
            emptiest = sorted(range(NUM_FOLDS), key=lambda fold: (count[fold], fold))
            into = random.permutation(emptiest[: len(run)])
            for patient, fold in zip(run, into, strict=True):
                folds[patient] = int(fold)
                count[fold] += 1
    return folds


def fold_problem(places: Mapping[str, Place], lesion_ml: Mapping[str, float], fold: int) -> str:
    """Return why a fold cannot be validated with, and what to do; empty where it can be."""
    rest = {case: place for case, place in places.items() if place != "test"}
    lesion_in = {place for case, place in rest.items() if lesion_ml[case]}
    usable = [f for f in range(NUM_FOLDS) if f in lesion_in and lesion_in - {f}]
    if fold in usable:
        return ""
    remedy = "prepare it again with another --seed, or with --splits"
    if usable:
        remedy = f"validate with another: data.fold={' or '.join(map(str, usable))}"
    validation = sum(place == fold for place in rest.values())
    if not validation or validation == len(rest):
        return (
            f"fold {fold} leaves {len(rest) - validation} training and {validation} validation "
            f"cases, but needs one of each; {remedy}"
        )
    if fold not in lesion_in:
        return f"no lesion in the validation cases of fold {fold}; {remedy}"
    return f"no lesion in the training cases of fold {fold}; {remedy}"


def notes_on_parts(
    lesion_ml: Mapping[str, float],
    places: Mapping[str, Place],
    patient_of: Mapping[str, str] | None,
) -> list[str]:
    """Return what a person should know of parts that are empty or have no lesion.

    Args:
        lesion_ml: Lesion volume by case.
        places: Where each case is.
        patient_of: Patient by case, where the seed alone decides; otherwise None.
    """
    folds = sorted({place for place in places.values() if isinstance(place, int)})
    lesion_in = {places[case] for case in places if lesion_ml[case]}
    has_test = "test" in places.values()
    notes = []
    if not has_test:
        notes.append("no case is test, so that nothing can be judged on sealed cases")
    if not {*places.values()} - {"test"}:
        notes.append("all cases are test, and none is left to train on")
    without = ["the test part"] if has_test and "test" not in lesion_in else []
    without += [f"fold {fold}" for fold in folds if fold not in lesion_in]
    if without:
        notes.append(f"no lesion in {', '.join(without)}: no Dice can be measured there")
    if patient_of is None:
        return notes
    problem = fold_problem(places, lesion_ml, 0)
    usable = "test" in lesion_in and not problem
    if not usable and (better := _better_seed(lesion_ml, patient_of, fold_0_alone=bool(problem))):
        notes = [f"{note} ({better})" for note in notes]
    empty = [str(fold) for fold in range(NUM_FOLDS) if fold not in folds]
    if empty and folds:
        which = f"folds {', '.join(empty)} have" if empty[1:] else f"fold {empty[0]} has"
        notes.append(f"too few patients for five folds: {which} none")
    return notes


def _better_seed(
    lesion_ml: Mapping[str, float], patient_of: Mapping[str, str], *, fold_0_alone: bool
) -> str:
    """Return the first seed with which fold 0 can be validated with, if possible beside a test.

    Args:
        lesion_ml: Lesion volume by case.
        patient_of: Patient by case.
        fold_0_alone: Whether a seed helps that gives the test part no lesion.
    """
    diseased = {patient_of[case] for case, volume in lesion_ml.items() if volume}
    ways = [("both test and fold 0", 1), ("fold 0", 0)]
    for parts, fewest in ways if fold_0_alone else ways[:1]:
        for seed in range(MOST_SEEDS):
            # Of those that are not test, fold 0 has the first.
            if fewest <= sum(is_sealed(each, seed) for each in diseased) < len(diseased) - 1:
                return f"--seed {seed} has lesions in {parts}"
    return ""
