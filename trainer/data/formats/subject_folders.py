"""A folder a subject, with its modalities and its mask: BraTS, ATLAS and other BIDS trees.

`CASE/CASE_t1.nii.gz` and `CASE/CASE_seg.nii.gz`, or `sub-X[/ses-Y]/…/sub-X_…_T1w.nii.gz` with a
mask beside it or in `derivatives/`. NIfTI only. The modalities that all annotated cases have are
taken; the reference is the one that the masks' names tell, or else the first.
"""

import re
from collections import Counter, defaultdict
from pathlib import Path

from trainer.data.files import Source
from trainer.data.formats.case import FoundCases, RawCase, Tally
from trainer.data.formats.clinical import clinical_tables
from trainer.data.formats.listing import image_files, missing, modality_name, same_letters, stem
from trainer.data.formats.roles import is_mask_name
from trainer.data.formats.subjects import (
    ANY_MASK,
    LESION,
    STRAY,
    SUBJECT,
    Session,
    contradicts,
    in_order,
    lesion_masks,
    pick,
    session_name,
    session_of,
    session_suffix,
)
from trainer.hints.suffixes import NIFTI_SUFFIXES

Key = tuple[str, Session]
"""Subject (or folder) and session."""
OTHER_DATA_SETS = ("derivatives", "imagesTr")
_SPACE = re.compile(r"_space-([A-Za-z0-9]+)")


def find(root: Path) -> FoundCases | None:
    """Return the cases, or None if no folder holds an image and its mask."""
    notes = Tally()
    files = _by_scan(root, notes)
    masks = {key: _masks(paths) for key, paths in files.items()}
    images = {key: _images(key, paths, masks[key], notes) for key, paths in files.items()}
    annotated = [key for key in files if masks[key] and images[key]]
    if not annotated:
        return None
    taken = _taken(list(files), masks, images, notes)
    counts = Counter(modality for key in annotated for modality in images[key])
    modalities = [each for each, number in counts.items() if number == len(annotated)]
    for modality, number in sorted(counts.items()):
        if number < len(annotated):
            notes.add("modalities that only some cases have are left out", modality)
    if not modalities:
        return None
    first = stem(masks[annotated[0]][0]).lower()
    modalities.sort(key=lambda modality: (modality not in first, modality))
    ids = _ids(taken)
    clinical, lines = clinical_tables(root, [key[0] for key in taken])
    cases = []
    for key in taken:
        where = files[key][0].parent
        mask = pick(masks[key], "mask", ids[key], notes) or missing(
            where / f"{ids[key]}_mask.nii.gz"
        )
        sources = {
            modality: Source(
                images[key].get(modality) or missing(where / f"{ids[key]}_{modality}.nii.gz")
            )
            for modality in modalities
        }
        cases.append(RawCase(ids[key], sources, Source(mask), clinical[key[0]]))
    return FoundCases(sorted(cases, key=lambda case: case.case_id), lines + notes.lines())


def _by_scan(root: Path, notes: Tally) -> dict[Key, list[Path]]:
    """Return the NIfTI files of each subject's session, or of each folder."""
    found = defaultdict(list)
    for path in image_files(root):
        parts = path.relative_to(root).parent.parts
        if len(parts) > 1 and parts[1] in OTHER_DATA_SETS:
            return {}  # each of the folders right below is a data set
        if not path.name.lower().endswith(NIFTI_SUFFIXES):
            continue
        if contradicts(parts, path.name):
            notes.add(STRAY, str(path.relative_to(root)))
        elif subject := SUBJECT.match(path.name):
            found[subject.group(), session_of(path)].append(path)
        else:
            # Some archives have `x.nii/x.nii`.
            inside = [part for part in parts if not part.lower().endswith(NIFTI_SUFFIXES)]
            if inside:
                found[same_letters("/".join(inside)), None].append(path)
            else:
                notes.add("files outside of any subject's folder are left out", path.name)
    return dict(sorted(found.items(), key=lambda item: (item[0][0], in_order(item[0][1]))))


def _masks(paths: list[Path]) -> list[Path]:
    masks = lesion_masks(paths, LESION, ANY_MASK)
    return masks or [path for path in paths if is_mask_name(stem(path))]


def _images(key: Key, paths: list[Path], masks: list[Path], notes: Tally) -> dict[str, Path]:
    """Return a scan's images by modality, in the masks' space where names tell spaces."""
    space = _space(masks[0]) if masks else None
    by_modality = defaultdict(list)
    folder = key[0].rpartition("/")[2].lower()
    for path in paths:
        name = same_letters(stem(path))
        if path in masks or ANY_MASK.search(name) or is_mask_name(name):
            continue
        rest = name if SUBJECT.match(name) else name.lower().removeprefix(folder)
        modality = rest.rpartition("_")[2] if SUBJECT.match(name) else rest
        by_modality[modality_name(modality)].append(path)
    images = {}
    for modality, found in by_modality.items():
        same = [path for path in found if _space(path) == space]
        plain = [path for path in found if _space(path) is None]
        if own := pick(same or plain, modality, key[0], notes):
            images[modality] = own
    return images


def _space(path: Path) -> str | None:
    found = _SPACE.search(path.name)
    return found.group(1) if found else None


def _taken(
    keys: list[Key], masks: dict[Key, list[Path]], images: dict[Key, dict[str, Path]], notes: Tally
) -> list[Key]:
    """Return each subject's annotated sessions, or all of them where none is."""
    whole = [key for key in keys if masks[key] and images[key]]
    annotated = {subject for subject, _ in whole}
    taken = []
    for key in keys:
        if key in whole or key[0] not in annotated:
            taken.append(key)
        elif images[key]:
            notes.add("sessions without a mask are left out", f"{key[0]} {session_name(key[1])}")
        elif masks[key]:
            notes.add("masks of sessions without an image", f"{key[0]} {session_name(key[1])}")
    return taken


def _ids(keys: list[Key]) -> dict[Key, str]:
    """Return each scan's name: with its session or its path where another has the same."""
    sessions = Counter(name for name, _ in keys)
    last = Counter(name.rpartition("/")[2] for name in sessions)
    ids = {}
    for name, session in keys:
        short = name.rpartition("/")[2]
        case_id = short if last[short] == 1 else name.replace("/", "_")
        ids[name, session] = case_id + (session_suffix(session) if sessions[name] > 1 else "")
    return ids
