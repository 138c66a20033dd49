"""ISLES24: acute CT and perfusion with the follow-up lesion (Riedel et al. 2024, arXiv 2408.10966).

Both releases: the challenge tree (`raw_data`, `derivatives`, `phenotype`) and Zenodo's `train/`
tree, where the mask is called `_space-ncct_lesion-msk` and the clinical tables are .xlsx. NCCT
comes from the raw data and is the reference; all else from the derivatives registered to it.
"""

from pathlib import Path

from trainer.data.formats.case import FoundCases, RawCase, ending, subject_tree
from trainer.data.formats.clinical import clinical_tables
from trainer.data.nifti import Source

MODALITIES = ("cta", "cbf", "cbv", "mtt", "tmax")


def find(root: Path, only: str | None = None) -> FoundCases | None:
    """Return the cases, or None if this is no ISLES24 tree.

    A modality that no case has is left out; one that some cases lack is missing there.
    """
    if not (root / "derivatives").is_dir() and (root / "train" / "derivatives").is_dir():
        root = root / "train"
    tree = subject_tree(root, only)
    if tree is None or not tree.has_raw("ncct"):
        return None
    derivatives, files = tree.derivatives, tree.derived_files

    present = [
        modality
        for modality in MODALITIES
        if any(
            f"_space-ncct_{modality}." in path.name for paths in files.values() for path in paths
        )
    ]
    clinical = clinical_tables(root / "phenotype", tree.subjects)
    cases = []
    for subject in tree.subjects:
        baseline, maps = f"{subject}/ses-01", "perfusion-maps/"
        ncct = tree.raw / baseline / f"{subject}_ses-01_ncct.nii.gz"
        images = {"ncct": Source(ending(tree.raw_files[subject], "_ncct", ncct))}
        for modality in present:
            folder = "" if modality == "cta" else maps
            name = f"{baseline}/{folder}{subject}_ses-01_space-ncct_{modality}.nii.gz"
            found = ending(files[subject], f"_space-ncct_{modality}", derivatives / name)
            images[modality] = Source(found)
        mask = derivatives / subject / "ses-02" / f"{subject}_ses-02_lesion-msk.nii.gz"
        mask = ending(files[subject], "lesion-msk", mask)
        cases.append(RawCase(subject, images, Source(mask), clinical[subject]))
    absent = [modality for modality in MODALITIES if modality not in present]
    return FoundCases(cases, [f"no case has {', '.join(absent)}: left out"] if absent else [])
