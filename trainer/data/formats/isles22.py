"""ISLES22: acute stroke MRI (Hernandez Petzsche et al. 2022, Scientific Data 9:762).

The archive as it was published (subjects at the root, `dwi/` and `anat/…_FLAIR` in each session)
and as the challenge gave it out (`rawdata`). DWI is the reference: the masks were drawn on it.
FLAIR lies on a grid of its own and is taken if every case has it. Images and mask are of one
session; a subject with several annotated sessions is as many cases.
"""

from pathlib import Path
from typing import NamedTuple

from trainer.data.files import Source
from trainer.data.formats.case import FoundCases, RawCase
from trainer.data.formats.clinical import clinical_tables
from trainer.data.formats.listing import missing
from trainer.data.formats.subjects import (
    ANY_MASK,
    LESION,
    Session,
    Subject,
    Tree,
    in_order,
    is_of,
    lesion_masks,
    pick,
    session_name,
    session_of,
    session_suffix,
    subject_tree,
)


class Scan(NamedTuple):
    """What lies in one session."""

    case_id: str
    session: Session
    images: dict[str, Path | None]
    mask: Path | None


def find(root: Path, only: str | None = None) -> FoundCases | None:
    """Return the cases, or None if this is no ISLES22 tree.

    Args:
        root: Folder of the data set.
        only: Look at this case's subject alone.
    """
    tree = subject_tree(root, only)
    if tree is None or not tree.has_raw("dwi"):
        return None
    clinical, notes = clinical_tables(root, [subject.name for subject in tree.subjects])
    scans = [(subject, scan) for subject in tree.subjects for scan in _scans(subject, tree)]
    flairs = sum(scan.images["flair"] is not None for _, scan in scans)
    if 0 < flairs < len(scans):
        notes.append(f"flair is left out: only {flairs} of {len(scans)} cases have it")
    modalities = ("dwi", "adc", "flair") if flairs == len(scans) else ("dwi", "adc")
    cases = []
    for subject, scan in scans:
        session = f"ses-{scan.session or 1:0>4}"
        name = f"{subject.name}/{session}/{subject.name}_{session}"
        images = {
            modality: Source(
                scan.images[modality] or missing(tree.raw / f"{name}_{modality}.nii.gz")
            )
            for modality in modalities
        }
        mask = Source(scan.mask or missing(tree.derivatives / f"{name}_msk.nii.gz"))
        cases.append(RawCase(scan.case_id, images, mask, clinical[subject.name]))
    return FoundCases(cases, notes + tree.notes.lines())


def _scans(subject: Subject, tree: Tree) -> list[Scan]:
    """Return one scan for each annotated session, or for each session where none is."""
    sessions = sorted({session_of(p) for p in subject.raw if is_of(p, "dwi")}, key=in_order)
    derived = {session_of(path) for path in subject.derived}
    masks = {
        session: lesion_masks(
            (path for path in subject.derived if session_of(path) == session), LESION, ANY_MASK
        )
        for session in derived
    }
    annotated = [session for session in sessions if masks.get(session)]
    if not annotated and len(sessions) == 1:
        # One of the two is in no session, and there is only one for it.
        others = [session for session, paths in masks.items() if paths]
        if len(others) == 1 and None in (others[0], sessions[0]):
            masks[sessions[0]] = masks.pop(others[0])
            annotated = sessions
    taken = annotated or sessions or [None]
    for session in sessions:
        if session not in taken:
            tree.notes.add(
                "sessions without a mask are left out", f"{subject.name} {session_name(session)}"
            )
    for session, paths in masks.items():
        if paths and session not in taken:
            tree.notes.add(
                "masks of sessions without a dwi are left out",
                f"{subject.name} {session_name(session)}",
            )
    scans = []
    for session in taken:
        case_id = subject.name + (session_suffix(session) if len(taken) > 1 else "")
        images = {
            modality: pick(
                (p for p in subject.raw if is_of(p, modality) and session_of(p) == session),
                modality, subject.name, tree.notes,
            )
            for modality in ("dwi", "adc", "flair")
        }  # fmt: skip
        mask = pick(masks.get(session, []), "mask", subject.name, tree.notes)
        scans.append(Scan(case_id, session, images, mask))
    return scans
