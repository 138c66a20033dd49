"""Which cases are of one patient: by their names, by a person's pattern, and by equal images."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from trainer.configfile import ConfigError
from trainer.data.summary.notes import first_names

UNTOLD = (
    "names do not tell which cases are of one patient: each is taken for a patient of its own, and "
    "one may lie on both sides of a split (--patients REGEX says how names tell)"
)

_COPY = re.compile(
    r"[ _.-]+(?:copy|kopie|copie|copia|duplicate|dup)(?:[ _.-]*\(?\d+\)?)?$|(?<=\d) ?\(\d+\)$", re.I
)
_COPY_OF = re.compile(r"^(?:copy of|kopie von|copie de|copia de)[ _]+", re.I)
_BIDS = re.compile(r"(?:^|(?<=[ _.]))sub-[^_ .]+", re.I)
_NUMBERED = re.compile(
    r"^(?:.*?[ _.-])?(?:patient|pat|pt|p|subject|subj|sbj|sub|volunteer|vol|person|proband|id|mrn)"
    r"[ _-]?\d+[a-z]?(?=[ _.-]|$)",
    re.I,
)
_SESSION = re.compile(
    r"(?:(?:[ _.-]+|(?<=\d))(?:ses|sess|session|scan|rescan|visit|run|timepoint|time|frame|slice|"
    r"exam|examination|series|acq|follow-?up|baseline|pre|post|admission|discharge|day|week|month|"
    r"year|echo|phase|repeat|rep|retest|aug|augmented|flip|flipped|rot|rotated|crop|patch|tile|"
    r"view|left|right)"
    r"|[ _.-]+(?:tp|sl|fu|bl|lh|rh|ed|es|[mdwtvyz](?=[ _-]?\d{1,3}(?:[ _.-]|$))))"
    r"[ _-]?\d*(?=[ _.-]|$)"
    r"|(?<=\d)[ _.-]+(?:19|20)\d\d[-_.]?[01]\d[-_.]?[0-3]\d(?=[ _.-]|$)",
    re.I,
)
"""What names a scan, a session, a slice or a date of a patient, who is named before it.

Short words stand apart: `c4d7` and `c4ed` are ids."""
_YEAR = re.compile(r"(?<!\d)(?:19|20)\d\d(?!\d)")
_NO_PATIENT = re.compile(
    r"^(?:(?:site|cent(?:er|re)|hospital|scanner|vendor|batch|cohort|group|fold|dataset|data|set|"
    r"part|task|year|train|test|val|validation|t|b|v|version|brats|isles|series|study|export)"
    r"[ _.-]?(?:\d{1,2}|(?:19|20)\d\d)?|(?:19|20)\d\d|\dt|img|image|im|pic|picture|scan|volume|"
    r"brain|head|lesion|stroke|mri?|ct|cta|ncct|dwi|adc|flair|swi)$",
    re.I,
)
"""A first word that names a hospital, a part of a data set or a kind of image, or is a year."""
_INDEXED = re.compile(r"^(.*?(?<!\d)(?!(?:19|20)\d\d[ _.-])\d{4,6})[ _.-]+\d{1,3}$")
"""A long number, which is no year, and a short one: `BraTS-GLI-00001-000`."""
_RUNNING = re.compile(r"^(|.*\D)\d{1,5}$")


class Patients(NamedTuple):
    """Whose each case is."""

    of: dict[str, str]
    """Patient by case."""
    told: bool
    """The names say so; otherwise each case is taken for a patient of its own."""


def patients_by_name(
    cases: Collection[str],
    *,
    numbers_count_patients: bool,
    folders: Mapping[str, str] | None = None,
) -> Patients:
    """Return whose each case is, as far as names tell.

    They tell by `sub-01`, by a word for a patient and a number (`P01_2`), by what stands before a
    word for a session, a scan or a slice or before a date (`12_scan2`), by a long number before a
    short one (`00001-000`), and by marks of copies. Each of these looks at one name alone, so that
    a case has the same patient whatever else there is. Where none does, the case's folder may.

    Args:
        cases: Their ids.
        numbers_count_patients: Names that differ in a number alone (`hippocampus_001`) are of a
            patient each, as in data sets of volumes; pictures may be slices.
        folders: What the folders of cases are called.
    """
    of, told = {}, set()
    for case in cases:
        of[case], tells = _by_name(case)
        if not tells and folders and (folder := folders.get(case)):
            inside, tells = _by_name(f"{folder}_{case}")
            of[case] = inside if tells else of[case]
        if tells:
            told.add(case)
    untold = [case for case in cases if case not in told]
    words = {match[1] if (match := _RUNNING.match(of[case])) else None for case in untold}
    counted = numbers_count_patients and len(words) == 1 and None not in words
    return Patients(of, told=not untold or counted)


def patients_by_pattern(cases: Sequence[str], pattern: str) -> dict[str, str]:
    """Return whose each case is: what a pattern's group `patient`, or its first, or all finds.

    Raises:
        ConfigError: It is no regular expression, or finds nothing in a name, or the same in all.
    """
    where = "command line: patients"
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError([f"{where}: {pattern!r}: not a regular expression: {error}"]) from error
    group: int | str = "patient" if "patient" in compiled.groupindex else min(1, compiled.groups)
    found = {case: match[group] for case in cases if (match := compiled.search(case))}
    of = {case: patient for case, patient in found.items() if patient}
    if missing := [case for case in cases if case not in of]:
        raise ConfigError(
            [f"{where}: {pattern!r}: finds no patient in {first_names(missing)}, {len(missing)} of "
             f"{len(cases)} cases; the first group, or (?P<patient>…), must match in each"]
        )  # fmt: skip
    if len({*of.values()}) == 1 < len(cases):
        raise ConfigError(
            [f"{where}: {pattern!r}: finds the same patient, {of[cases[0]]!r}, in all {len(cases)} "
             "cases, so that nothing could be split"]
        )  # fmt: skip
    return of


def alike(images: Mapping[str, str | None]) -> list[list[str]]:
    """Return the cases of which the images have the same hash; None is no image to go by."""
    by_hash = defaultdict(list)
    for case, image in images.items():
        if image is not None:
            by_hash[image].append(case)
    return [cases for cases in by_hash.values() if len(cases) > 1]


def joined(of: Mapping[str, str], groups: Iterable[Collection[str]]) -> dict[str, list[str]]:
    """Return the names of each patient, by each of them, where the cases of a group are of one."""
    names = {patient: [patient] for patient in of.values()}
    for group in groups:
        together = sorted({name for case in group for name in names[of[case]]})
        names |= dict.fromkeys(together, together)
    return names


def _by_name(case: str) -> tuple[str, bool]:
    """Return a case's patient, and whether its name alone tells it."""
    name = _plain(case)
    if bids := _BIDS.search(name):
        return bids[0], True
    if numbered := _NUMBERED.match(name):
        return numbered[0], True
    for session in _SESSION.finditer(name):
        before = name[: session.start()]
        numbered = re.search(r"\d", _YEAR.sub("", _SESSION.sub("", before)))
        if numbered and not _NO_PATIENT.match(before):
            return before, True
    if (indexed := _INDEXED.match(name)) and not _NO_PATIENT.match(indexed[1]):
        return indexed[1], True
    return name, False


def _plain(case: str) -> str:
    """Return a name in one spelling, without the marks of a copy."""
    name = _COPY_OF.sub("", unicodedata.normalize("NFC", case).casefold())
    while (shorter := _COPY.sub("", name)) != name and shorter:
        name = shorter
    return name
