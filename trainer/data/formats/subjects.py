"""The files of each subject in a BIDS-like tree, told apart by their sessions.

A file belongs to the subject and the session that its name says; where that and its folder say
different things, it belongs to neither.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trainer.data.formats.case import Tally
from trainer.data.formats.listing import folders, image_files, stem

Session = int | str | None
"""`ses-01` and `ses-0001` are the same: numbers as numbers. None where nothing is said."""

LESION = re.compile(r"lesion[-_](msk|mask|roi|seg)$", re.IGNORECASE)
ANY_MASK = re.compile(r"(msk|_mask|_roi|_seg|_lesion)$", re.IGNORECASE)
STRAY = "files whose names say another subject or session than their folders are left out"
SUBJECT = re.compile(r"(?:^|_)sub-([A-Za-z0-9]+)")
_SESSION = re.compile(r"(?:^|_)ses-([A-Za-z0-9]+)")


@dataclass(frozen=True)
class Subject:
    """One subject's files, in no session's order."""

    name: str
    raw: list[Path]
    derived: list[Path]


@dataclass(frozen=True)
class Tree:
    """A BIDS-like data set."""

    raw: Path
    """Where files that are missing would lie."""
    derivatives: Path
    subjects: list[Subject]
    """Sorted by name."""
    notes: Tally = field(default_factory=Tally)

    def has_raw(self, modality: str) -> bool:
        """Return whether any subject has a raw file of a modality."""
        return any(is_of(path, modality) for each in self.subjects for path in each.raw)


def subject_tree(root: Path, only: str | None = None) -> Tree | None:
    """Return the tree of `sub-X` folders, None where there are none or no derived files.

    Subjects lie in `raw_data`, `rawdata` or the root itself; what was derived from them lies in
    `derivatives` or one folder below.

    Args:
        root: Folder of all.
        only: Look at this case's subject alone.
    """
    derivatives = root / "derivatives"
    raw_roots = [path for path in (root / "raw_data", root / "rawdata", root) if path.is_dir()]
    if not derivatives.is_dir() or not raw_roots:
        return None
    derived_roots = [derivatives, *(p for p in folders(derivatives) if not _is_subject(p))]
    raw, derived = _by_subject(raw_roots, only), _by_subject(derived_roots, only)
    if not raw:
        return None
    in_derivatives = {path.name for path in folders(derivatives) if path.name in derived}
    names = sorted({*raw, *in_derivatives})
    tree = Tree(next((path for path in raw_roots if _has_subjects(path)), root), derivatives, [])
    for name in names:
        whole = SUBJECT.match(name)
        if whole and whole.group() != name and whole.group() in names:
            tree.notes.add("copies of a subject's folder are left out", name)
            continue
        tree.subjects.append(
            Subject(
                name,
                _own_files(name, raw.get(name, []), tree.notes),
                _own_files(name, derived.get(name, []), tree.notes),
            )
        )
    return tree


def session_of(path: Path) -> Session:
    """Return the session that a file's name says, or else its folders."""
    for part in (path.name, *reversed(path.parent.parts)):
        if part.startswith("sub-") and part != path.name:
            return None
        if found := _SESSION.search(part):
            return _session(found.group(1))
    return None


def in_order(session: Session) -> tuple[bool, str]:
    """Return what sessions are sorted by: numbers first, by size."""
    return isinstance(session, str), str(session).zfill(20)


def session_name(session: Session) -> str:
    """Return how a session is called in a note."""
    return "without a session" if session is None else f"ses-{session}"


def session_suffix(session: Session) -> str:
    """Return what is added to a subject's name where it has several sessions."""
    return "" if session is None else f"_ses-{session}"


def is_of(path: Path, modality: str) -> bool:
    """Tell whether a file's name ends in a modality, in capitals or not."""
    return stem(path).lower().endswith(f"_{modality}")


def pick(files: Iterable[Path], what: str, subject: str, notes: Tally) -> Path | None:
    """Return one of several files for the same thing: compressed before not, then the last.

    Args:
        files: Candidates, of one subject and session.
        what: Word for the note that says that there was a choice.
        subject: Whose they are.
        notes: Where it is said.
    """
    found = sorted(files, key=lambda path: (path.name.lower().endswith(".gz"), path))
    if len(found) > 1:
        taken, others = found[-1].name, ", ".join(path.name for path in found[:-1])
        notes.add(f"several files of one {what}", f"{subject} (takes {taken}, not {others})")
    return found[-1] if found else None


def lesion_masks(files: Iterable[Path], *rules: re.Pattern[str]) -> list[Path]:
    """Return the masks by the first rule that any name obeys; those of brains are none."""
    masks = [path for path in files if "brain" not in path.name.lower()]
    for rule in rules:
        if found := [path for path in masks if rule.search(stem(path))]:
            return found
    return []


def _is_subject(path: Path) -> bool:
    return path.name.startswith("sub-")


def _has_subjects(root: Path) -> bool:
    return any(_is_subject(path) for path in folders(root))


def _by_subject(roots: Iterable[Path], only: str | None) -> dict[str, list[Path]]:
    """Return the subjects' folders, by name."""
    found: dict[str, list[Path]] = {}
    for root in roots:
        for path in folders(root):
            if _is_subject(path) and (
                only is None or f"{only}_ses-".startswith(f"{path.name}_ses-")
            ):
                found.setdefault(path.name, []).append(path)
    return found


def _own_files(subject: str, where: Iterable[Path], notes: Tally) -> list[Path]:
    """Return the files whose names do not say another subject or session than their folders."""
    own = []
    for folder in where:
        for path in image_files(folder):
            inside = [*path.relative_to(folder).parent.parts]
            if contradicts([subject, *inside], path.name):
                notes.add(STRAY, str(Path(subject, *inside, path.name)))
            else:
                own.append(path)
    return own


def contradicts(folders: Sequence[str], name: str) -> bool:
    """Tell whether a file's name says another subject or session than its folders."""
    return _differ(SUBJECT, folders, name) or _differ(_SESSION, folders, name)


def _differ(entity: re.Pattern[str], folders: Sequence[str], name: str) -> bool:
    named = entity.search(name)
    around = [found for part in folders if (found := entity.search(part))]
    if not named or not around:
        return False
    return _session(named.group(1)) != _session(around[-1].group(1))


def _session(text: str) -> int | str:
    return int(text) if text.isdigit() else text
