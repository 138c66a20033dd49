"""The phantom: the same bytes for a seed, says what it is, and is neither too easy nor hopeless."""

import csv
import hashlib
from pathlib import Path

import nibabel
import numpy as np
import pytest

from trainer.configfile import ConfigError
from trainer.data.files import Source
from trainer.data.formats import find_cases
from trainer.data.nifti import read_volume
from trainer.data.phantom import write_phantom
from trainer.data.prepare import prepare
from trainer.data.store import Store
from trainer.evaluation.threshold_baseline import best_threshold

FOLD = 0


@pytest.fixture(scope="session")
def cohort(phantom_store: Path) -> Path:
    """Ten cases of seed 0."""
    return phantom_store.parent / "dataset"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("cohort")
    write_phantom(folder / "dataset", num_cases=32, seed=0)
    return prepare(folder / "dataset", folder / "store", image_size=64)


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


@pytest.mark.slow
def test_the_same_seed_writes_the_same_bytes_and_more_cases_keep_the_first(tmp_path, cohort):
    write_phantom(tmp_path / "again", num_cases=2, seed=0)
    write_phantom(tmp_path / "other", num_cases=2, seed=1)

    ten = _hashes(cohort)
    again, other = _hashes(tmp_path / "again"), _hashes(tmp_path / "other")
    images = [name for name in again if name.endswith(".nii.gz")]
    assert len(images) == 2 * 7
    assert all(again[name] == ten[name] for name in images)
    assert other.keys() == again.keys()
    assert all(other[name] != again[name] for name in images)


def test_the_tree_is_isles24s_challenge_tree(cohort):
    case, name = "sub-stroke0001", "sub-stroke0001_ses-01"
    expected = [
        f"raw_data/{case}/ses-01/{name}_ncct.nii.gz",
        f"derivatives/{case}/ses-01/{name}_space-ncct_cta.nii.gz",
        *(
            f"derivatives/{case}/ses-01/perfusion-maps/{name}_space-ncct_{modality}.nii.gz"
            for modality in ("cbf", "cbv", "mtt", "tmax")
        ),
        f"derivatives/{case}/ses-02/{case}_ses-02_lesion-msk.nii.gz",
        f"phenotype/{case}/ses-01/{name}_demographic_baseline.csv",
        f"phenotype/{case}/ses-02/{name}_outcome.csv",
    ]
    of_case = {path for path in _hashes(cohort) if case in path}

    assert of_case == {*expected}
    assert find_cases(cohort)[0] == "isles24"


def test_it_says_everywhere_that_it_is_simulated(cohort):
    assert (cohort / "README").read_text().startswith("SIMULATED")
    for path in cohort.rglob("*.nii.gz"):
        assert b"SIMULATED" in bytes(nibabel.load(path).header["descrip"])
    for path in cohort.rglob("*.csv"):
        with path.open() as file:
            assert next(csv.DictReader(file))["Origin"] == "simulated"


def test_a_second_call_does_nothing_and_another_cohort_is_refused(cohort):
    before = {path: path.stat().st_mtime_ns for path in cohort.rglob("*")}

    write_phantom(cohort, num_cases=10, seed=0)
    with pytest.raises(ConfigError, match="exists and holds something else"):
        write_phantom(cohort, num_cases=8, seed=0)

    assert before == {path: path.stat().st_mtime_ns for path in cohort.rglob("*")}


def test_the_hypoperfused_region_is_larger_than_the_infarct(cohort):
    ratios = []
    for case in find_cases(cohort)[1].cases[:8]:
        tmax = read_volume(case.images["tmax"]).data
        lesion = read_volume(Source(case.mask.path)).data > 0.5
        assert np.mean(tmax[lesion] > 4) > 0.8, "the infarct is late"
        x = np.arange(len(tmax)) < len(tmax) / 2
        side = lesion[x].sum() > lesion[~x].sum()
        ratios.append((tmax[x == side] > 5).sum() / lesion.sum())

    assert min(ratios) > 1.5


def test_values_are_plausible(cohort):
    case = find_cases(cohort)[1].cases[0]
    volumes = {name: read_volume(source).data for name, source in case.images.items()}
    brain = volumes["cbv"] > 0

    assert volumes["ncct"].min() < -900
    assert volumes["ncct"].max() > 900
    for name, low, high in (("ncct", 20, 40), ("cbf", 15, 60), ("cbv", 1.5, 4), ("mtt", 4, 8)):
        assert low < np.median(volumes[name][brain]) < high
    # The central volume theorem, up to noise: CBF = 60 CBV / MTT.
    theory = 60 * volumes["cbv"] / np.maximum(volumes["mtt"], 0.1)
    assert np.corrcoef(theory[brain], volumes["cbf"][brain])[0, 1] > 0.9


@pytest.mark.slow
def test_lesions_lie_in_one_hemisphere_and_one_case_in_twelve_has_none(store):
    assert [case.lesion_ml > 0 for case in store.cases] == [n % 12 != 0 for n in range(1, 33)]
    for case in store.cases:
        if case.lesion_ml:
            x = np.nonzero(store.native_mask(case))[0]
            right = np.mean(x > case.native_shape[0] / 2)
            assert min(right, 1 - right) < 0.35


def test_the_brain_mask_finds_the_brain_inside_the_skull(cohort, phantom_store):
    store = Store.open(phantom_store)
    truth = read_volume(find_cases(cohort)[1].cases[0].images["cbv"]).data > 0
    mask = store.native_brain(store.cases[0])

    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("fold", range(5))
def test_the_best_threshold_on_one_modality_is_not_enough(store, fold):
    assert 0.1 < best_threshold(store, fold)["dice"] < 0.35


@pytest.mark.slow
def test_a_small_unet_goes_well_beyond_the_threshold(store):
    import torch

    from trainer.evaluation.metrics import score_case
    from trainer.model_config import ModelConfig
    from trainer.models import build_model

    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several threads on busy cores are many times slower
    random = np.random.default_rng(0)
    training, validation = store.split(FOLD)
    low, high = np.array([store.windows[name] for name in store.modalities]).T[
        :, None, :, None, None
    ]

    def windowed(rows: np.ndarray) -> torch.Tensor:
        scaled = np.clip((store.images(rows) - low) / (high - low), 0, 1) * 2 - 1
        return torch.from_numpy(scaled.astype(np.float32))

    def logits(rows: np.ndarray) -> torch.Tensor:
        cond = windowed(rows)
        t = torch.zeros(len(rows), dtype=torch.int64)
        return model(torch.zeros_like(cond[:, :1]), t, model.condition(cond))

    rows = np.concatenate([case.rows for case in training])
    lesions = rows[store.lesion_slice[rows]]
    config = ModelConfig(family="unet", width=16, depth=4)
    model = build_model(
        config, in_channels=len(store.modalities), image_size=store.image_size, outputs_logits=True
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=200)
    for _ in range(200):
        batch = np.concatenate([random.choice(lesions, 4), random.choice(rows, 4)])
        truth = torch.from_numpy(store.masks(batch)).float()[:, None]
        z = logits(batch)
        prob = z.sigmoid()
        overlap = 2 * (prob * truth).sum((1, 2, 3)) + 1
        dice_loss = 1 - overlap / (prob.sum((1, 2, 3)) + truth.sum((1, 2, 3)) + 1)
        bce = torch.nn.functional.binary_cross_entropy_with_logits(z, truth)
        optimizer.zero_grad()
        (dice_loss.mean() + bce).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()

    torch.set_num_threads(threads)
    model.eval()
    scores = []
    for case in validation:
        with torch.no_grad():
            prob = logits(np.array(case.rows)).sigmoid()[:, 0].numpy()
        native = store.to_native(case, prob) >= 0.5
        masks = store.native_mask(case), native, store.native_brain(case)
        scores.append(score_case(case.case_id, *masks, case.native_spacing_mm))
    dice = np.mean([score.dice for score in scores if score.has_lesion])

    assert dice > best_threshold(store, FOLD)["dice"] + 0.1
