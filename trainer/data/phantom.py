"""A simulated stroke cohort in the exact ISLES24 challenge tree, to try everything without data."""

import csv
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from trainer.configfile import ConfigError
from trainer.data.making.one_writer import naming_disk, only_writer
from trainer.data.simulate import (
    ORIGIN_MM,
    SPACING_MM,
    Templates,
    load_templates,
    make_anatomy,
    make_ct,
    make_perfusion,
)
from trainer.files.passing_faults import naming
from trainer.terminal import unguarded

NO_LESION_EVERY = 12
"""Of so many cases the last has no lesion: reperfusion in time."""

STEPS = {"ncct": 1.0, "cta": 1.0, "cbf": 0.1, "cbv": 0.01, "mtt": 0.01, "tmax": 0.01}
"""Resolution at which each modality is stored, as integers with a slope."""
README = """SIMULATED. No patient was scanned for these files.

{num_cases} cases, seed {seed}, written by `segtune phantom`: the tissue maps of the MNI152 template
(ICBM 2009a, as nilearn ships it) with simulated strokes, in the layout of the ISLES24 challenge.
A Dice score on them says whether software works. It says nothing about patients.
"""


def write_phantom(out: str | Path, *, num_cases: int = 32, seed: int = 0) -> None:
    """Write a simulated cohort in ISLES24's challenge tree. The same seed gives the same bytes.

    Does nothing if `out` already holds the same cohort.

    Args:
        out: Folder to create.
        num_cases: Patients; one in twelve has no lesion.
        seed: Of all random draws.

    Raises:
        ConfigError: `out` holds something else, or another process writes it.
        OSError: The disk is full, or away; nothing is left.
    """
    out = Path(out)
    if num_cases < 1:
        raise ConfigError([f"command line: num-cases: {num_cases}: must be at least 1"])
    if seed < 0:
        raise ConfigError([f"command line: seed: {seed}: must be at least 0"])
    readme = README.format(num_cases=num_cases, seed=seed)
    if _is_done(out, readme):
        return
    with only_writer(out) as unfinished:
        if _is_done(out, readme):  # another process wrote it meanwhile
            return
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            _write_cases(unfinished, num_cases, seed)
            (unfinished / "README").write_text(readme)
            os.replace(unfinished, out)
        except OSError as error:
            raise naming(naming_disk(error, unfinished), unfinished) from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    text = f"{out}: {num_cases} SIMULATED cases in ISLES24's layout"
    Console(highlight=False).print(text, soft_wrap=True, markup=False)


def _is_done(out: Path, readme: str) -> bool:
    """Tell whether `out` is the cohort that is asked for; refuse to write over anything else."""
    if (out / "README").is_file() and (out / "README").read_text(errors="replace") == readme:
        return True
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ConfigError([f"{out}: exists and holds something else: choose another folder"])
    return False


def _write_cases(out: Path, num_cases: int, seed: int) -> None:
    templates = load_templates()
    console = Console(file=unguarded(sys.stdout), highlight=False)
    for number in track(
        range(1, num_cases + 1),
        "simulating",
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ):
        random = np.random.default_rng([seed, number])
        has_lesion = number % NO_LESION_EVERY != 0
        _write_case(out, f"sub-stroke{number:04d}", templates, random, has_lesion)


def _write_case(
    out: Path,
    case_id: str,
    templates: Templates,
    random: Generator,
    has_lesion: bool,
) -> None:
    anatomy = make_anatomy(templates, random)
    maps, lesion, occlusion = make_perfusion(anatomy, random, has_lesion)
    maps["ncct"], maps["cta"] = make_ct(anatomy, maps, random)
    raw = out / "raw_data" / case_id / "ses-01"
    derived = out / "derivatives" / case_id
    for name in ("ncct", "cta", "cbf", "cbv", "mtt", "tmax"):
        folder = {"ncct": raw, "cta": derived / "ses-01"}.get(
            name, derived / "ses-01/perfusion-maps"
        )
        space = "" if name == "ncct" else "space-ncct_"
        _save(folder / f"{case_id}_ses-01_{space}{name}.nii.gz", maps[name], STEPS[name])
    _save(derived / "ses-02" / f"{case_id}_ses-02_lesion-msk.nii.gz", lesion, None)

    volume_ml = float(lesion.sum() * SPACING_MM.prod() / 1000)
    nihss = int(np.clip(round(4 + 2.2 * volume_ml**0.4 + random.normal(0, 2)), 0, 42))
    baseline = {
        "Age": int(random.integers(38, 92)),
        "Sex": "FM"[random.integers(2)],
        "NIHSS at admission": nihss if random.random() > 0.1 else "",
        "Atrial fibrillation": int(random.random() < 0.3),
        "Wake-up": int(random.random() < 0.2),
        "Onset to door": f"0{random.integers(1, 9)}:{random.integers(10, 59)}:00",
        "Occlusion": occlusion,
        "Origin": "simulated",
    }
    outcome = {"mRS 3 months": int(np.clip(round(nihss / 6), 0, 6)), "Origin": "simulated"}
    phenotype = out / "phenotype" / case_id
    _table(phenotype / "ses-01" / f"{case_id}_ses-01_demographic_baseline.csv", baseline)
    _table(phenotype / "ses-02" / f"{case_id}_ses-01_outcome.csv", outcome)


def _save(path: Path, values: NDArray[Any], step: float | None) -> None:
    """Write a volume; `step` codes it as integers, None as a mask."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([*SPACING_MM, 1.0])
    affine[:3, 3] = ORIGIN_MM
    if step is None:
        image = nibabel.Nifti1Image(values.astype(np.uint8), affine)
    else:
        image = nibabel.Nifti1Image(np.round(values / step).astype(np.int16), affine)
        image.header.set_slope_inter(step, 0)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = b"SIMULATED by segtune phantom; not a patient"
    nibabel.save(image, path)


def _table(path: Path, row: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerow(row)
