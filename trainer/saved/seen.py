"""Which patients weights were trained on, and whether those who judge them are among them."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from trainer.data.splits import Place, place_of


class Patient(NamedTuple):
    """Whose a case is, and where it lies."""

    place: Place
    name: str
    """As a hash, as the images are: a model's file tells nobody's name."""
    images: str


def patients(cases: Iterable[Mapping[str, Any]]) -> list[Patient]:
    """Return whose the cases of a manifest are; one of 0.1 does not say, and goes by its ids."""
    found = []
    for case in cases:
        name = str(case.get("patient") or case["case_id"].casefold())
        images = case.get("images_hash") or f"of {name}"
        found.append(Patient(place_of(case), _mark(name), _mark(images)))
    return found


def trained_in(patients: Iterable[Patient], fold: int) -> list[Patient]:
    """Return those on whom a training with a fold held out trains."""
    return [patient for patient in patients if patient.place not in ("test", fold)]


class Seen(NamedTuple):
    """Whom weights were trained on, in all trainings that led to them."""

    marks: frozenset[str]
    """Hashes of their names and of their images."""
    is_all: bool
    """Nobody else can be among them."""

    @classmethod
    def parse(cls, saved: Any) -> "Seen | None":
        """Return what a model's file says, None where it does not."""
        try:
            return cls(frozenset(map(str, saved["marks"])), bool(saved["is_all"]))
        except (KeyError, TypeError):
            return None

    def record(self) -> dict[str, Any]:
        """Return what a model's file says."""
        return {"marks": sorted(self.marks), "is_all": self.is_all}

    def also(self, patients: Iterable[Patient]) -> "Seen":
        """Return these and others."""
        more = {mark for patient in patients for mark in (patient.name, patient.images)}
        return Seen(self.marks | more, self.is_all)


NOBODY = Seen(frozenset(), is_all=True)
ANYBODY = Seen(frozenset(), is_all=False)


class Overlap(NamedTuple):
    """How many of those who judge weights these were trained on."""

    validation: int
    num_validation: int
    test: int
    num_test: int
    is_all: bool
    """Those are all; otherwise nobody knows."""


def overlap(seen: Seen, patients: Iterable[Patient], fold: int) -> Overlap:
    """Return how many of a fold's validation and of the test patients weights were trained on."""
    names: dict[Place, set[str]] = {fold: set(), "test": set()}
    known: dict[Place, set[str]] = {fold: set(), "test": set()}
    for patient in patients:
        if patient.place in names:
            names[patient.place].add(patient.name)
            if {patient.name, patient.images} & seen.marks:
                known[patient.place].add(patient.name)
    return Overlap(
        len(known[fold]), len(names[fold]), len(known["test"]), len(names["test"]), seen.is_all
    )


def sentence(found: Overlap, whose: str = "its first weights") -> str:
    """Return in words what an overlap does to numbers; empty where there is none."""
    parts = [
        f"{count} of {of} {what} patients"
        for count, of, what in (
            (found.validation, found.num_validation, "validation"),
            (found.test, found.num_test, "test"),
        )
        if count
    ]
    if parts:
        return f"not unseen: {whose} were trained on {' and '.join(parts)}"
    if not found.is_all:
        return (
            f"perhaps not unseen: whom {whose} were trained on is unknown, and validation and test "
            "patients may be among them"
        )
    return ""


def _mark(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
