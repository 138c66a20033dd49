"""ISLES22: acute stroke MRI (Hernandez Petzsche et al. 2022, Scientific Data 9:762).

DWI is the reference: the masks were drawn on it. FLAIR lies on a grid of its own and is taken if
every case has it.
"""

from pathlib import Path

from trainer.data.formats.case import FoundCases, RawCase, ending, subject_tree
from trainer.data.formats.clinical import clinical_tables
from trainer.data.nifti import Source


def find(root: Path, only: str | None = None) -> FoundCases | None:
    """Return the cases, or None if this is no ISLES22 tree."""
    tree = subject_tree(root, only)
    if tree is None or not tree.has_raw("dwi"):
        return None
    subjects, files = tree.subjects, tree.raw_files

    flairs = sum(any("_flair." in path.name for path in paths) for paths in files.values())
    has_flair = flairs == len(subjects)
    clinical = clinical_tables(root, subjects)
    cases = []
    for subject in subjects:
        name = f"{subject}/ses-0001/{subject}_ses-0001"
        images = {
            modality: Source(
                ending(files[subject], f"_{modality}", tree.raw / f"{name}_{modality}.nii.gz")
            )
            for modality in ("dwi", "adc", *(("flair",) if has_flair else ()))
        }
        mask = ending(tree.derived_files[subject], "msk", tree.derivatives / f"{name}_msk.nii.gz")
        cases.append(RawCase(subject, images, Source(mask), clinical[subject]))
    left_out = [f"flair is left out: only {flairs} of {len(subjects)} cases have it"]
    return FoundCases(cases, left_out if flairs and not has_flair else [])
