"""Splits in files: a person's own (nnU-Net's splits_final.json or a table), and a store's."""

import csv
import json
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from trainer.configfile import ConfigError, did_you_mean
from trainer.data.splits import NUM_FOLDS, Place
from trainer.data.summary.notes import first_names
from trainer.hints.suffixes import NIFTI_SUFFIXES, PICTURE_SUFFIXES

FILE = "splits_final.json"
"""In a store: its folds as nnU-Net reads them; test cases are in no list."""

COLUMNS = ("case", "fold", "test")
_YES = {"1", "1.0", "true", "yes", "y", "x", "test"}
_NO = {"0", "0.0", "false", "no", "n", "", "train"}


class Splits(NamedTuple):
    """What a file says."""

    places: dict[str, Place]
    notes: list[str]


def read_splits(path: Path, cases: Collection[str]) -> Splits:
    """Read where cases are to be.

    A JSON file is nnU-Net's list of `{train, val}`, one a fold: a case is in the fold that
    validates it, one that all folds train on is trained on always, and one that none names is test.
    A table has a column `case` and columns `fold` (0 to 4) or `test` (yes or no) or both. Without
    folds they are drawn for whoever is not test; with folds, who has none and is not said to be no
    test case is test: what a person left out is never trained on.

    Args:
        path: The file.
        cases: The data set's.

    Raises:
        ConfigError: One line that says what is wrong with it.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror or error}"]) from error
    if content[:1] == b"\x80":
        raise ConfigError([f"{path}: is a pickle, as nnU-Net 1 wrote: save it as JSON ({FILE})"])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    is_json = text.lstrip()[:1] in ("[", "{")
    named, unnamed_are = _from_json(path, text) if is_json else _from_table(path, text)
    spelled = {unicodedata.normalize("NFC", case): case for case in cases}
    places: dict[str, Place] = {}
    for name, place in named.items():
        case = _in_data_set(name, spelled)
        if places.setdefault(case, place) != place:
            raise ConfigError([f"{path}: {name!r}: {case!r} is named twice, with other places"])
    strangers = [case for case in places if case not in cases]
    if len(strangers) == len(places):
        first = strangers[0] if strangers else ""
        found = (
            f"names {first!r}, which is no case{did_you_mean(first, cases)}"
            if first
            else "names no case"
        )
        raise ConfigError([f"{path}: {found}; the data set has {first_names(sorted(cases))}"])
    notes = []
    if strangers:
        one = "case that is" if len(strangers) == 1 else "cases that are"
        near = did_you_mean(strangers[0], cases)
        notes.append(
            f"{path.name} names {len(strangers)} {one} not here: {first_names(strangers)}{near}"
        )
    if unnamed := sorted({*cases} - places.keys()):
        places |= dict.fromkeys(unnamed, unnamed_are)
        become = "test" if unnamed_are == "test" else "not test"
        notes.append(
            f"{path.name} leaves out {len(unnamed)} of {len(cases)} cases, which are {become}: "
            f"{first_names(unnamed)}"
        )
    return Splits(places, notes)


def write_splits(path: Path, places: Mapping[str, Place]) -> None:
    """Write the folds as nnU-Net reads them, the empty ones at the end left out."""
    rest = sorted(case for case, place in places.items() if place != "test")
    folds = [place for place in places.values() if isinstance(place, int)]
    content = [
        {
            "train": [case for case in rest if places[case] != fold],
            "val": [case for case in rest if places[case] == fold],
        }
        for fold in range(max(folds, default=-1) + 1)
    ]
    path.write_text(json.dumps(content, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")


def _from_json(path: Path, text: str) -> tuple[dict[str, Place], Place]:
    rule = 'must be a list of {"train": [cases], "val": [cases]}, one a fold'
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError([f"{path}: not JSON: {error}"]) from error
    if not isinstance(content, list) or not content:
        raise ConfigError([f"{path}: {rule}, as nnU-Net's {FILE}"])
    if len(content) > NUM_FOLDS:
        raise ConfigError(
            [f"{path}: has {len(content)} folds, but a store has {NUM_FOLDS} at most"]
        )
    folds = [_fold(f"{path}: fold {number}", fold, rule) for number, fold in enumerate(content)]
    places: dict[str, Place] = {}
    for number, (_, validation) in enumerate(folds):
        for case in validation:
            if case in places:
                raise ConfigError(
                    [f"{path}: {case!r} is validated in fold {places[case]} and in fold {number}: "
                     "in a store every case has one fold"]
                )  # fmt: skip
            places[case] = number
    for case in sorted({case for training, _ in folds for case in training}):
        place = places.setdefault(case, "train")
        lacking = [
            n for n, (training, _) in enumerate(folds) if case not in training and n != place
        ]
        if lacking:
            raise ConfigError(
                [f"{path}: fold {lacking[0]}: {case!r} is neither in train nor in val, "
                 "and in another fold it is"]
            )  # fmt: skip
    return places, "test"


def _fold(where: str, fold: Any, rule: str) -> tuple[set[str], list[str]]:
    lists: list[list[str]] = []
    for key in ("train", "val"):
        names = fold.get(key) if isinstance(fold, dict) else None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ConfigError([f"{where}: {key}: {rule}"])
        lists.append(names)
    training, validation = lists
    if both := sorted({*training} & {*validation}):
        raise ConfigError([f"{where}: {first_names(both)}: in train and in val"])
    return {*training}, [*dict.fromkeys(validation)]


def _from_table(path: Path, text: str) -> tuple[dict[str, Place], Place]:
    lines = text.splitlines()
    first = lines[0] if lines else ""
    delimiter = max(",;\t", key=first.count)
    rows = [*csv.reader(lines, delimiter=delimiter)]
    head = [name.strip().casefold() for name in rows[0]] if rows else []
    if "case" not in head or not {"fold", "test"} & {*head}:
        raise ConfigError(
            [f"{path}: line 1: {first_names(head, 6) or 'empty'}: must be the columns case and "
             f"fold or test, or nnU-Net's {FILE}"]
        )  # fmt: skip
    places: dict[str, Place] = {}
    for number, cells in enumerate(rows[1:], start=2):
        row = dict.fromkeys(head, "") | dict(
            zip(head, (cell.strip() for cell in cells), strict=False)
        )
        if not any(row.values()):
            continue
        where = f"{path}: line {number}"
        if not (case := row.get("case", "")):
            raise ConfigError([f"{where}: case: is empty"])
        place = _place(where, row)
        if places.get(case, place) != place:
            raise ConfigError([f"{where}: case: {case!r}: is named twice, with other places"])
        places[case] = place
    return places, "test" if "fold" in head else "rest"


def _place(where: str, row: Mapping[str, str]) -> Place:
    fold, test = row.get("fold", ""), row.get("test", "").casefold()
    if test not in _YES | _NO:
        raise ConfigError([f"{where}: test: {test!r}: must be 1 or 0, yes or no, true or false"])
    if fold.casefold() == "test":
        fold, test = "", "yes"
    if fold.casefold() in ("", "nan", "none", "-"):
        return "test" if test in _YES or ("fold" in row and not test) else "rest"
    if not fold.removesuffix(".0").isdecimal() or int(fold.removesuffix(".0")) >= NUM_FOLDS:
        raise ConfigError(
            [f"{where}: fold: {fold!r}: must be 0 to {NUM_FOLDS - 1}, or empty for test cases"]
        )
    if test in _YES:
        raise ConfigError(
            [f"{where}: {row['case']!r} is test and in fold {fold}: must be one of both"]
        )
    return int(fold.removesuffix(".0"))


def _in_data_set(name: str, spelled: Mapping[str, str]) -> str:
    """Return the case that a name with a file's ending or a channel's number means.

    Args:
        name: As the file has it.
        spelled: Cases by their names in NFC: a letter with an accent is one character in a file
            and may be two in a file's name, as macOS writes them.
    """
    plain = unicodedata.normalize("NFC", name)
    for suffix in ("", *NIFTI_SUFFIXES, *PICTURE_SUFFIXES, "_0000"):
        if plain in spelled:
            break
        plain = plain.removesuffix(suffix)
    return spelled.get(plain, plain)


def torn(
    places: Mapping[str, Place], patient_of: Mapping[str, str], cases: Iterable[str]
) -> list[str]:
    """Return the patients whose cases lie in several parts."""
    parts: dict[str, set[Place]] = {}
    for case in cases:
        parts.setdefault(patient_of[case], set()).add(places[case])
    return sorted(patient for patient, where in parts.items() if len(where) > 1)
