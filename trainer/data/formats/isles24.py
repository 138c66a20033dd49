"""ISLES24: acute CT and perfusion with the follow-up lesion (Riedel et al. 2024, arXiv 2408.10966).

Both releases: the challenge tree (`raw_data`, `derivatives`, `phenotype`) and Zenodo's `train/`
tree, where the mask is called `_space-ncct_lesion-msk` and the clinical tables are .xlsx. NCCT
comes from the raw data and is the reference; all else from the derivatives registered to it.
Images are the admission's alone: a later scan shows the lesion that is to be predicted.
"""

from pathlib import Path

from trainer.configfile import ConfigError
from trainer.data.files import Source
from trainer.data.formats.case import FoundCases, RawCase, Tally
from trainer.data.formats.clinical import clinical_tables
from trainer.data.formats.listing import missing
from trainer.data.formats.subjects import (
    LESION,
    Session,
    Subject,
    in_order,
    is_of,
    lesion_masks,
    pick,
    session_name,
    session_of,
    subject_tree,
)

MODALITIES = ("cta", "cbf", "cbv", "mtt", "tmax")
ADMISSION = 1
DATES = 1000
"""Sessions are numbered from 0 or 1, or named by dates, which are longer numbers."""


def find(root: Path, only: str | None = None) -> FoundCases | None:
    """Return the cases, or None if this is no ISLES24 tree.

    A modality that no case has is left out; one that some cases lack is missing there.

    Args:
        root: Folder of the data set.
        only: Look at this subject alone.

    Raises:
        ConfigError: Which of a subject's sessions is the admission's is not told.
    """
    if not (root / "derivatives").is_dir() and (root / "train" / "derivatives").is_dir():
        root = root / "train"
    tree = subject_tree(root, only)
    if tree is None or not tree.has_raw("ncct"):
        return None
    found = {subject.name: _images(subject, tree.notes) for subject in tree.subjects}
    present = [each for each in MODALITIES if any(images[each] for _, images in found.values())]
    clinical, notes = clinical_tables(root / "phenotype", list(found))
    cases = []
    for subject in tree.subjects:
        admission, images = found[subject.name]
        session = f"ses-{ADMISSION if admission is None else admission:0>2}"
        name = f"{subject.name}/{session}/{{}}{subject.name}_{session}_"
        ncct = tree.raw / f"{name.format('')}ncct.nii.gz"
        sources = {"ncct": Source(images["ncct"] or missing(ncct))}
        for modality in present:
            folder = "" if modality == "cta" else "perfusion-maps/"
            expected = tree.derivatives / f"{name.format(folder)}space-ncct_{modality}.nii.gz"
            sources[modality] = Source(images[modality] or missing(expected))
        name = f"{subject.name}/ses-02/{subject.name}_ses-02_lesion-msk.nii.gz"
        mask = Source(_mask(subject, admission, tree.notes) or missing(tree.derivatives / name))
        cases.append(RawCase(subject.name, sources, mask, clinical[subject.name]))
    if absent := [modality for modality in MODALITIES if modality not in present]:
        notes.insert(0, f"no case has {', '.join(absent)}: left out")
    return FoundCases(cases, notes + tree.notes.lines())


def _images(subject: Subject, notes: Tally) -> tuple[Session, dict[str, Path | None]]:
    """Return the session of admission and its images, by modality."""
    candidates = {"ncct": [path for path in subject.raw if is_of(path, "ncct")]} | {
        modality: [path for path in subject.derived if is_of(path, f"space-ncct_{modality}")]
        for modality in MODALITIES
    }
    admission = _admission(subject, candidates)
    images = {}
    for modality, paths in candidates.items():
        own = [path for path in paths if session_of(path) == admission]
        others = [path for path in paths if session_of(path) not in (admission, None)]
        own = own or [path for path in paths if session_of(path) is None]
        if others:
            notes.add(
                f"{modality} of another session than the admission's is not taken", subject.name
            )
        images[modality] = pick(own, modality, subject.name, notes)
    return admission, images


def _admission(subject: Subject, candidates: dict[str, list[Path]]) -> Session:
    """Return the session of admission: the first, if it is the first of a numbering."""
    sessions = {session_of(path) for paths in candidates.values() for path in paths} - {None}
    masks = {session_of(path) for path in lesion_masks(subject.derived, LESION)}
    if numbers := sorted(session for session in sessions if isinstance(session, int)):
        return numbers[0] if numbers[0] <= ADMISSION or numbers[0] >= DATES else ADMISSION
    before = sessions - masks or sessions
    mapped = {session_of(path) for each in MODALITIES for path in candidates[each]} & before
    likely = mapped if len(mapped) == 1 else before
    if len(likely) > 1:
        raise ConfigError(
            [f"{subject.name}: has sessions {', '.join(sorted(map(session_name, likely)))}, and "
             "which is the admission's is not told: call it ses-01"]
        )  # fmt: skip
    return next(iter(likely), None)


def _mask(subject: Subject, admission: Session, notes: Tally) -> Path | None:
    """Return the follow-up's mask: of several sessions the first after the admission."""
    masks = lesion_masks(subject.derived, LESION)
    sessions = sorted({session_of(path) for path in masks} - {None}, key=in_order)
    if len(sessions) < 2:
        return pick(masks, "mask", subject.name, notes)
    others = [each for each in sessions if each != admission]
    behind = [each for each in others if in_order(each) > in_order(admission)]
    later = (behind or others)[0]
    notes.add(f"masks of several sessions: that of {session_name(later)} is taken", subject.name)
    return pick((path for path in masks if session_of(path) == later), "mask", subject.name, notes)
