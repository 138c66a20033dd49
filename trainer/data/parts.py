"""Which part of a store each case is in, and why: the options of `segtune prepare` about it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.configfile import ConfigError
from trainer.data.patients import (
    UNTOLD,
    alike,
    joined,
    patients_by_name,
    patients_by_pattern,
)
from trainer.data.splits import Place, draw, is_sealed, make_splits, notes_on_parts
from trainer.data.splits_file import read_splits, torn
from trainer.data.store import MANIFEST, Store
from trainer.data.summary.notes import first_names


@dataclass(frozen=True)
class Parts:
    """Where each case of a store is."""

    places: dict[str, Place]
    patient_of: dict[str, str]
    elsewhere: dict[str, dict[str, Any]]
    """Patient and place of cases that are not in the store, for a later one that is `--like` it."""
    notes: list[str]
    said: list[str]
    """What was read, one line each."""
    drawn_by: str
    """What decided, in words."""


@dataclass(frozen=True)
class SplitOptions:
    """What a person asks of the splits, checked against the cases that were found."""

    seed: int
    cases: Sequence[str]
    patient_of: Mapping[str, str]
    """Also of cases that are only known."""
    known: Mapping[str, Place] = field(default_factory=dict)
    notes: Sequence[str] = ()
    request: Mapping[str, str] = field(default_factory=dict)
    """What was asked for, by option; empty where the seed alone decides."""
    drawn_by: str = ""
    images: Mapping[str, str | None] = field(default_factory=dict)
    """Hash of the images by case of the store that this is `like`: a case may have a new name."""

    @classmethod
    def read(
        cls,
        cases: Sequence[str],
        *,
        seed: int,
        pictures: bool,
        folders: Mapping[str, str] | None = None,
        pattern: str | None = None,
        splits: Path | None = None,
        like: Path | None = None,
    ) -> "SplitOptions":
        """Read the options.

        Args:
            cases: The data set's.
            seed: Who is test, and the folds.
            pictures: They are pictures, of which a number names no patient.
            folders: What each case's folders are called, which tell where names do not.
            pattern: What finds the patient in a case's name.
            splits: A file that says where cases are.
            like: A store whose places are kept.

        Raises:
            ConfigError: One of them cannot be used.
        """
        if splits and like:
            raise ConfigError(["command line: like: must be without --splits, which says it all"])
        notes: list[str] = []
        known: dict[str, Place] = {}
        theirs: dict[str, str] = {}
        images: dict[str, str | None] = {}
        if splits:
            known, notes = read_splits(splits, cases)
        elif like:
            known, theirs, images, its_pattern = _places_of(like)
            pattern = pattern or its_pattern
            if not known.keys() & {*cases}:
                raise ConfigError(
                    [f"command line: like: {like}: has none of these cases ({first_names(cases)}), "
                     f"but {first_names([*known])}"]
                )  # fmt: skip
        if pattern is not None:
            patient_of = patients_by_pattern(cases, pattern)
            patient_of |= {
                case: theirs.get(case, case) for case in known.keys() - patient_of.keys()
            }
        else:
            by_name, told = patients_by_name(
                cases, numbers_count_patients=not pictures, folders=folders
            )
            notes += [] if told or splits else [UNTOLD]
            others = known.keys() - by_name.keys()
            by_name |= patients_by_name(others, numbers_count_patients=True).of
            renamed = {by_name[case]: patient for case, patient in theirs.items()}
            patient_of = {case: renamed.get(patient, patient) for case, patient in by_name.items()}
        places = json.dumps(known, sort_keys=True).encode()
        request = {} if pattern is None else {"patients": pattern}
        if splits or like:
            request["splits" if splits else "like"] = hashlib.sha256(places).hexdigest()
        drawn_by = f"{splits.name}" if splits else f"as in {like.name}" if like else f"seed {seed}"
        return cls(seed, cases, patient_of, known, notes, request, drawn_by, images)

    def divide(self, lesion_ml: Mapping[str, float], images: Mapping[str, str | None]) -> Parts:
        """Place the cases of a store.

        Args:
            lesion_ml: Lesion volume by case.
            images: Hash of the images by case, None where there is nothing to go by.
        """
        notes, patient_of, said = [*self.notes], dict(self.patient_of), list[str]()
        if groups := alike({**self.images, **images}):
            names = joined(patient_of, groups)
            # Named after the one who is test if any of them is, so that none of them ceases to be.
            root = {name: min(names[name], key=lambda n: (draw(n, self.seed), n)) for name in names}
            together = {case: root[patient] for case, patient in patient_of.items()}
            what = f"the images of {first_names(groups[0])} are identical"
            what += f", and {len(groups) - 1} more such groups" if len(groups) > 1 else ""
            if len({together[case] for case in lesion_ml}) > 1:
                patient_of = together
                notes.append(f"{what}: taken for one patient's")
            else:
                notes.append(f"{what}, so that nothing tells patients apart: is that meant?")
        places = make_splits(lesion_ml, self.seed, patient_of, self.known)
        if both := torn(places, patient_of, lesion_ml):
            whose = "--splits" if "splits" in self.request else "--like"
            notes.append(
                f"{len(both)} patients lie in several parts, as {whose} says: {first_names(both)}"
            )
        count = len({patient_of[case] for case in lesion_ml})
        if count < len(lesion_ml):
            by_patient: dict[str, list[str]] = {}
            for case in lesion_ml:
                by_patient.setdefault(patient_of[case], []).append(case)
            first = next(cases for cases in by_patient.values() if len(cases) > 1)
            said.append(
                f"patients: {count} of {len(lesion_ml)} cases ({first_names(first)} are of one)"
            )
        gone = {case: self.known[case] for case in self.known if case not in lesion_ml}
        gone |= {
            case: "test"
            for case in self.cases
            if case not in lesion_ml and case not in gone and is_sealed(patient_of[case], self.seed)
        }
        elsewhere = {
            case: {"patient": patient_of[case], "place": place} for case, place in gone.items()
        }
        drawn = not {"splits", "like"} & self.request.keys()
        notes += notes_on_parts(lesion_ml, places, patient_of if drawn else None)
        return Parts(places, patient_of, elsewhere, notes, said, self.drawn_by)


def _places_of(
    path: Path,
) -> tuple[dict[str, Place], dict[str, str], dict[str, str | None], str | None]:
    """Return what a store knows of its cases and of those that it left out.

    Returns:
        Place, patient and hash of the images by case; and the pattern that found the patients, if
        one did.

    Raises:
        ConfigError: It is no store.
    """
    store = Store.open(path)
    manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    known = {case.case_id: case.place for case in store.cases}
    patient_of = {case.case_id: case.patient for case in store.cases if case.patient}
    for case_id, about in manifest.get("elsewhere", {}).items():
        known[case_id], patient_of[case_id] = about["place"], about["patient"]
    images = {case["case_id"]: case.get("images_hash") for case in manifest["cases"]}
    return known, patient_of, images, manifest["request"].get("patients")
