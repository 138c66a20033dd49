"""Somebody's masks in a folder: which file is which case's, by nnU-Net's, BIDS' and other names.

A file is a case's whose id its name is, with what says that it is a mask (`_mask`, `_label-lesion`)
before or after it or without, and with nnU-Net's `_0000`; or whose folder has that name.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from trainer.configfile import ConfigError
from trainer.data.formats.listing import image_files, same_letters, stem
from trainer.data.formats.roles import MASK_WORDS
from trainer.data.store import Case
from trainer.data.summary.notes import first_names
from trainer.hints.suffixes import PICTURE_SUFFIXES

SAYS_MASK = MASK_WORDS | frozenset(
    ("pred", "preds", "prediction", "predictions", "predicted", "predict", "output", "out",
     "result", "lesion", "lesions", "dseg", "probseg", "prob", "probs", "probability",
     "probabilities", "softmax", "postprocessed", "ensemble", "nnunet", "binary")
)  # fmt: skip
SAYS_PROBABILITY = frozenset(
    ("prob", "probs", "probability", "probabilities", "probseg", "softmax")
)
SAYS_DOUBT = frozenset(("uncertainty", "entropy", "variance", "std", "stdev"))
"""How sure a model is: no mask, and no probability."""
_FOLD = re.compile(r"fold_(\d+|all)")


class MaskFiles(NamedTuple):
    """The files of some cases."""

    files: dict[str, Path]
    """By case."""
    missing: list[str]
    """Cases without one."""
    notes: list[str]


def find_masks(folder: Path, cases: Sequence[Case], everyone: Iterable[Case]) -> MaskFiles:
    """Return the file of each case.

    Args:
        folder: Where they lie, at any depth: pictures where there is no NIfTI file.
        cases: Whose are wanted.
        everyone: All cases of the store, whose names may begin alike.

    Raises:
        ConfigError: There is no such folder, no file in it is a case's, a name fits two cases, or
            two files are one case's.
    """
    if not folder.is_dir():
        rule = "is a file: give the folder that it is in" if folder.exists() else "no such folder"
        raise ConfigError([f"{folder}: {rule}"])
    paths = image_files(folder)
    volumes = [path for path in paths if not path.name.lower().endswith(PICTURE_SUFFIXES)]
    paths = volumes or paths
    ids = {same_letters(case.case_id): case.case_id for case in everyone}
    found: dict[str, list[Path]] = {}
    strangers = []
    for path in paths:
        if (case_id := _case_of(path.relative_to(folder), ids)) is None:
            strangers.append(path.relative_to(folder).as_posix())
        else:
            found.setdefault(case_id, []).append(path)
    if not found:
        raise ConfigError([f"{folder}: {_nothing(folder, strangers, sorted(ids.values()))}"])
    notes = []
    if strangers:
        named = first_names(strangers, 2)
        notes.append(f"{len(strangers)} files are of no case of the store: {named}")
    files, left, problems = dict[str, Path](), list[str](), list[str]()
    for case in cases:
        of_case = found.get(case.case_id, [])
        masks = [path for path in of_case if not SAYS_DOUBT & _words(path)]
        plain = [path for path in masks if not SAYS_PROBABILITY & _words(path)]
        kept = _of_its_fold(plain or masks, folder, case)
        left += [path.relative_to(folder).as_posix() for path in of_case if path not in kept]
        if len(kept) > 1:
            one, other = (each.relative_to(folder) for each in kept[:2])
            problems.append(f"{case.case_id}: has two files, {one} and {other}")
        elif kept:
            files[case.case_id] = kept[0]
    if problems:
        more = f", and so {len(problems) - 1} more cases" if problems[1:] else ""
        raise ConfigError([f"{folder}: {problems[0]}{more}: give a folder with one of each case"])
    if left:
        named = first_names(left, 2)
        notes.append(f"{len(left)} files stand beside what is scored of a case: {named}")
    missing = [case.case_id for case in cases if case.case_id not in files]
    return MaskFiles(files, missing, notes)


def fold_of(folder: Path, path: Path) -> str:
    """Return the fold of nnU-Net whose model wrote a file, by its folder `fold_2`; or nothing."""
    parts = path.relative_to(folder.parent).parts[:-1]
    found = [match[1] for part in parts if (match := _FOLD.fullmatch(part))]
    return found[-1] if found else ""


def missing_text(missing: Sequence[str], among: int) -> str:
    """Return a line about cases without a file."""
    return f"{len(missing)} of {among} cases have no file, and are not scored: " + first_names(
        missing
    )


def _of_its_fold(paths: Sequence[Path], folder: Path, case: Case) -> list[Path]:
    """Return the one file in the folder of the case's own fold, if there is one; or all."""
    mine = [path for path in paths if fold_of(folder, path) == str(case.fold)]
    return mine if len(mine) == 1 else [*paths]


def _case_of(path: Path, ids: Mapping[str, str]) -> str | None:
    """Return the case that a file belongs to, by its path below the folder; None for none.

    Raises:
        ConfigError: Its name fits two.
    """
    name = same_letters(stem(path))
    for exact in (name, re.sub(r"_\d{4}$", "", name)):
        if exact in ids:
            return ids[exact]
    fitting = [case for case in ids if _is_beside(name, case)]
    # Of a case whose name begins with another's, the longer is meant.
    fitting = [one for one in fitting if not any(one != two and one in two for two in fitting)]
    if len(fitting) > 1:
        raise ConfigError([f"{path}: its name fits the cases {' and '.join(sorted(fitting)[:2])}"])
    if fitting:
        return ids[fitting[0]]
    folders = [same_letters(each) for each in path.parts[:-1]]
    if _words(path) & (SAYS_MASK | SAYS_DOUBT):
        for above in ("_".join(folders), *reversed(folders)):
            if above in ids:
                return ids[above]
    return None


def _is_beside(name: str, case: str) -> bool:
    """Return whether a name is a case's with what says that it is a mask before or after it."""
    before, between, after = name.partition(case)
    if not between:
        return False
    parts = [part for part in (*re.split("[_. ]+", before), *re.split("[_. ]+", after)) if part]
    edges_are_free = before[-1:] in ("", *"_-. ") and after[:1] in ("", *"_-. ")
    return edges_are_free and all(_says_mask(part) for part in parts)


def _says_mask(part: str) -> bool:
    """Return whether a part of a name is a word for a mask, or BIDS' entity, such as ses-02."""
    words = re.split("-+", part.casefold().strip("-"))
    return bool(SAYS_MASK & {*words}) or bool(SAYS_DOUBT & {*words}) or (
        len(words) == 2 and words[0].isalpha() and words[1] != ""
    )  # fmt: skip


def _words(path: Path) -> set[str]:
    return {*re.split(r"[_\-. ]+", stem(path).casefold())}


def _nothing(folder: Path, strangers: Sequence[str], cases: Collection[str]) -> str:
    """Return why nothing was found."""
    wanted = f"the store has {first_names([*cases], 3)}"
    if strangers:
        return f"no file has the name of a case: {first_names(strangers, 3)}; {wanted}"
    if any(folder.rglob("*.npz")):
        return f"has no NIfTI file, only .npz: nnU-Net writes a .nii.gz beside it; {wanted}"
    return f"has no NIfTI file; {wanted}"
