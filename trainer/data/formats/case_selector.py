"""One case, as a person names it on the command line.

- `DATASET/raw_data/sub-X`, or any folder in it: a subject of an ISLES tree, or its session;
- `DATASET:CASE`: a case of any data set that `segtune prepare` reads;
- `FILE.nii.gz`: an image of an MSD or nnU-Net data set, whose `dataset.json` names the channels; or
  any file with as many channels as the model has modalities, in the model's order;
- `MODALITY=FILE ...`: one file a modality; the first is the reference, on whose grid the mask is
  written, and may be a modality that the model does not see.
"""

from collections.abc import Sequence
from pathlib import Path

from trainer.configfile import ConfigError, did_you_mean
from trainer.data.files import BadFile, Source
from trainer.data.formats import find_cases, isles22, isles24, msd
from trainer.data.formats.case import RawCase
from trainer.data.formats.listing import same_letters, stem
from trainer.data.formats.subjects import Session, session_of, session_suffix
from trainer.data.nifti import num_channels
from trainer.hints.suffixes import NIFTI_SUFFIXES

Images = dict[str, Source]
"""By modality; the first is the reference."""


def find_case(words: Sequence[str], modalities: Sequence[str]) -> tuple[str, Images]:
    """Find the files of one case.

    Args:
        words: One or several words of the forms above.
        modalities: What the model sees, in its order.

    Returns:
        The case's name, and its files: the reference and what the model sees, no others.

    Raises:
        ConfigError: A word is of no known form, or the case lacks a modality.
        BadFile: A file is missing or no NIfTI file.
    """
    word = words[0]
    if all("=" in each for each in words) and not Path(word).exists():
        name, images = _named(words)
    elif len(words) > 1:
        raise ConfigError([f"{' '.join(words)}: several files must each be MODALITY=FILE"])
    elif Path(word).is_dir():
        name, images = _subject(Path(word))
    elif ":" in word and Path(dataset := word.rpartition(":")[0]).is_dir():
        name, images = _case_of(Path(dataset), same_letters(word.rpartition(":")[2]))
    else:
        name, images = _file(Path(word), modalities)
    reference = next(iter(images))
    if missing := [modality for modality in modalities if modality not in images]:
        raise ConfigError(
            [f"{' '.join(words)}: no {', '.join(missing)}: the model sees {', '.join(modalities)}, "
             f"but this is {', '.join(images)}{did_you_mean(missing[0], images)}"]
        )  # fmt: skip
    found = {each: images[each] for each in dict.fromkeys([reference, *modalities])}
    for source in found.values():
        if not source.path.name.lower().endswith(NIFTI_SUFFIXES):
            raise BadFile(source.path, "must be a NIfTI file (.nii or .nii.gz)")
    return name, found


def _named(words: Sequence[str]) -> tuple[str, Images]:
    images: Images = {}
    for word in words:
        modality, _, path = word.partition("=")
        if modality in images:
            raise ConfigError([f"{word}: {modality} is given twice"])
        images[modality] = Source(Path(path))
    return stem(next(iter(images.values())).path), images


def _subject(folder: Path) -> tuple[str, Images]:
    """Return the subject whose folder this is, or lies above it, in an ISLES tree."""
    inside = folder.resolve()
    for path in (inside, *inside.parents):
        if not path.name.startswith("sub-"):
            continue
        session = session_of(inside / "any")
        for root in list(path.parents)[:3]:
            named = root.name in ("raw_data", "rawdata", "derivatives")
            if not named and (found := _tree_case(root, path.name, session)):
                return found
    raise ConfigError(
        [f"{folder}: no case: must be a subject's folder in a data set, such as "
         "DATASET/raw_data/sub-stroke0001; or DATASET:CASE"]
    )  # fmt: skip


def _case_of(dataset: Path, case_id: str) -> tuple[str, Images]:
    if found := _tree_case(dataset, case_id):
        return found
    cases: dict[str, RawCase] = {case.case_id: case for case in find_cases(dataset)[1].cases}
    if case_id not in cases:
        raise ConfigError([f"{dataset}: no case {case_id!r}{did_you_mean(case_id, cases)}"])
    return case_id, cases[case_id].images


def _tree_case(dataset: Path, case_id: str, session: Session = None) -> tuple[str, Images] | None:
    """Return a case of an ISLES tree, None if this is none.

    Raises:
        ConfigError: The subject has several sessions, each of which is a case.
    """
    for find in (isles24.find, isles22.find):
        if (found := find(dataset, case_id)) and found.cases:
            cases = {case.case_id: case for case in found.cases}
            named = case_id + session_suffix(session)
            case = cases.get(named) or cases.get(case_id) or next(iter(cases.values()))
            if len(cases) > 1 and case.case_id not in (case_id, named):
                raise ConfigError(
                    [f"{dataset}: {case_id} has several sessions: name {' or '.join(cases)}"]
                )
            return case.case_id, case.images
    return None


def _file(path: Path, modalities: Sequence[str]) -> tuple[str, Images]:
    if not path.is_file():
        raise BadFile(path, "no such file")
    if not path.name.lower().endswith(NIFTI_SUFFIXES):
        raise BadFile(path, "must be a NIfTI file (.nii or .nii.gz)")
    if in_data_set := msd.find_image(path):
        return in_data_set
    count = num_channels(path)
    if count != len(modalities):
        raise ConfigError(
            [f"{path}: has {count} channel{'s' * (count > 1)}, but the model sees "
             f"{len(modalities)}: {', '.join(modalities)}; name files as MODALITY=FILE"]
        )  # fmt: skip
    return stem(path), {
        modality: Source(path, number if count > 1 else None)
        for number, modality in enumerate(modalities)
    }
