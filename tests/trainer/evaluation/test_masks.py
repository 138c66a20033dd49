"""Somebody's masks, scored as a model is."""

import csv
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from scipy import ndimage

from tests.trainer.tiny import tiny_config
from trainer.__main__ import cli
from trainer.configfile import ConfigError
from trainer.data.formats.case_selector import find_case
from trainer.data.store import Case, Store
from trainer.evaluation.evaluate import evaluate
from trainer.evaluation.mask_values import _chosen
from trainer.evaluation.masks import evaluate_masks, read_masks, score_masks
from trainer.evaluation.sealed_readings import count_readings, readings_file
from trainer.loop import fit
from trainer.predict import outputs, predict_case, write
from trainer.saved.model_io import load

Change = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@pytest.fixture
def store(phantom_store: Path) -> Store:
    return Store.open(phantom_store)


def save(path: Path, values: NDArray[np.float32], affine: NDArray[np.float64]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(values, affine).to_filename(path)


def write_masks(
    folder: Path, store: Store, change: Change = lambda mask: mask, name: str = "{}.nii.gz"
) -> Path:
    """Write what is made of the references of all cases, on their native grids."""
    for case in store.cases:
        mask = change(store.native_mask(case).astype(np.float32))
        path = folder / name.format(case.case_id, fold=case.fold)
        save(path, mask, np.array(case.affine))
    return folder


def scores(folder: Path, store: Store, cases: list[Case] | None = None, labels: str = ""):
    cases = store.split(0)[1] if cases is None else cases
    masks = read_masks(folder, store, cases, labels=labels)
    return masks, score_masks(masks, store)


def shifted(mask: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.roll(mask, 2, axis=0)


def test_the_references_themselves_have_a_dice_of_1_and_are_noted(
    tmp_path: Path, store: Store
) -> None:
    folder = write_masks(tmp_path, store, name="{}_ses-02_lesion-msk.nii.gz")
    found = evaluate_masks(folder, store)
    assert [score.dice for score in found.scores] == [1.0] * len(store.split(0)[1])
    assert {score.hd95_mm for score in found.scores} == {0.0}
    assert "are the references: is it their folder?" in found.masks.said[-1]
    assert found.label.startswith("validation fold 0; perhaps not unseen: whom the weights behind")


@pytest.mark.slow  # 8 s
def test_masks_that_predict_writes_score_as_the_evaluation_of_its_model(
    tmp_path: Path, store: Store
) -> None:
    """A U-Net, which draws no noise: the way through files and back changes nothing."""
    settings = {"epochs": 1, "epoch_images": 100, "model__family": "unet"}
    config = tiny_config(store.path, **settings, optimizer__lr=3e-3, sampling__threshold=0.3)
    list(fit(config, tmp_path / "run"))
    trained = load(tmp_path / "run", "cpu")
    expected = evaluate(trained, store, tmp_path / "run", split="val").fixed
    dataset = store.path.parent / "dataset" / "raw_data"
    for case in store.split(0)[1]:
        name, images = find_case((str(dataset / case.case_id),), trained.inputs.modalities)
        path = tmp_path / "masks" / f"{name}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        paths = outputs(path, images, probability=True, uncertainty=False)
        write(predict_case(trained, images), paths)
    _, found = scores(tmp_path / "masks", store)
    assert sum(score.predicted_ml for score in found) > 0
    for mine, theirs in zip(found, expected, strict=True):
        assert asdict(mine) == pytest.approx(asdict(theirs))


def test_any_grid_with_an_affine(tmp_path: Path, store: Store) -> None:
    """Other axes are the same voxels; another grid is resampled, and noted."""
    [case, *_] = [case for case in store.split(0)[1] if case.lesion_ml > 5]
    mask = shifted(store.native_mask(case).astype(np.float32))
    affine = np.array(case.affine)
    save(tmp_path / "same" / f"{case.case_id}.nii.gz", mask, affine)
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = mask.shape[0] - 1
    save(tmp_path / "flipped" / f"{case.case_id}.nii.gz", mask[::-1], affine @ flip)
    fine = np.kron(mask, np.ones((2, 2, 1), np.float32))
    finer = affine @ np.diag([0.5, 0.5, 1, 1])
    finer[:3, 3] = affine[:3, 3] - affine[:3, :3] @ [0.25, 0.25, 0]
    save(tmp_path / "finer" / f"{case.case_id}.nii.gz", fine, finer)
    [plain], [flipped], [resampled] = (
        scores(tmp_path / name, store, [case])[1] for name in ("same", "flipped", "finer")
    )
    assert 0 < plain.dice < 1 and plain == flipped == resampled
    assert not scores(tmp_path / "flipped", store, [case])[0].said
    assert "1 mask was resampled" in scores(tmp_path / "finer", store, [case])[0].said[0]

    far = affine.copy()
    far[0, 3] += 5000
    for name, other, rule in (
        ("far", far, "does not overlap"),
        ("ones", np.eye(4), "nothing says"),
    ):
        save(tmp_path / name / f"{case.case_id}.nii.gz", mask, other)
        with pytest.raises(ConfigError, match=rf"{rule}.*{case.case_id}"):
            scores(tmp_path / name, store, [case])


def test_a_store_that_does_not_know_where_its_images_lie(tmp_path: Path, store: Store) -> None:
    """One of 0.1: the shape and the size of a voxel are compared."""
    case = replace(store.split(0)[1][0], affine=None)
    write_masks(tmp_path, store)
    assert scores(tmp_path, store, [case])[1][0].dice == 1
    mask = np.zeros((4, 4, 4), np.float32)
    save(tmp_path / f"{case.case_id}.nii.gz", mask, np.diag([2.0, 2, 2, 1]))
    with pytest.raises(ConfigError, match=r"a store of version 0\.1.*prepare it again"):
        scores(tmp_path, store, [case])


def test_probabilities_are_cut_and_logits_refused(tmp_path: Path, store: Store) -> None:
    write_masks(tmp_path / "cut", store, lambda mask: 0.1 + 0.6 * shifted(mask))
    write_masks(tmp_path / "mask", store, shifted)
    masks, found = scores(tmp_path / "cut", store)
    assert found == scores(tmp_path / "mask", store)[1]
    assert masks.said[0] == (
        "probabilities: the files have values between 0 and 1: lesion from 0.5 on"
    )
    write_masks(tmp_path / "logits", store, lambda mask: ndimage.gaussian_filter(mask, 1) * 9 - 4)
    with pytest.raises(ConfigError, match=r"nor probabilities.*of logits, save the sigmoid"):
        scores(tmp_path / "logits", store)
    rng = np.random.default_rng(0)
    write_masks(tmp_path / "image", store, lambda mask: rng.integers(0, 900, mask.shape) + mask)
    with pytest.raises(ConfigError, match="neither labels"):
        scores(tmp_path / "image", store)


def test_labels(tmp_path: Path, store: Store) -> None:
    """All but 0, said; or those that a person names; 255 alone is a mask like any other."""

    def with_edges(mask: NDArray[np.float32]) -> NDArray[np.float32]:
        return mask + (ndimage.binary_dilation(mask, iterations=2) & (mask == 0)) * np.float32(2)

    write_masks(tmp_path / "two", store, with_edges)
    write_masks(tmp_path / "255", store, lambda mask: mask * 255)
    masks, merged = scores(tmp_path / "two", store)
    assert masks.said == ["labels: 1, 2, merged to one lesion: choose with --labels 1"]
    chosen = scores(tmp_path / "two", store, labels="1")[1]
    assert chosen == scores(tmp_path / "255", store)[1] and chosen != merged
    with pytest.raises(ConfigError, match="labels: '3': the masks have the labels 1, 2"):
        scores(tmp_path / "two", store, labels="3")


def test_labels_that_a_store_was_prepared_from_are_lesion_as_there() -> None:
    """Of the core and the penumbra, say, of which the store took one."""
    store_labels = [{"value": "1", "lesion": True}, {"value": "2", "lesion": False}]
    for found, lesion in (({1, 2}, (1,)), ({1}, None), ({2}, None), ({1, 3}, None)):
        assert _chosen(found, store_labels, "", False)[0] == lesion
    assert _chosen({1, 2}, store_labels, "", False)[1] == (
        "labels: of 1, 2, 1 is lesion, as in the store; else say --labels"
    )


def test_missing_cases_are_named_and_not_scored(tmp_path: Path, store: Store) -> None:
    write_masks(tmp_path, store)
    first, *rest = store.split(0)[1]
    (tmp_path / f"{first.case_id}.nii.gz").unlink()
    masks, found = scores(tmp_path, store)
    assert [score.case_id for score in found] == [case.case_id for case in rest]
    assert masks.said == [
        f"1 of {1 + len(rest)} cases have no file, and are not scored: {first.case_id}"
    ]


def test_whom_their_model_was_trained_on(tmp_path: Path, store: Store) -> None:
    """nnU-Net's own cross-validation is unseen; one fold's model on the others' cases is not."""
    splits = store.path / "splits_final.json"
    write_masks(tmp_path / "cv", store, name="fold_{fold}/validation/{}.nii.gz")
    write_masks(tmp_path / "one", store, name="fold_0/predictions/{}.nii.gz")
    write_masks(tmp_path / "all", store, name="fold_all/validation/{}.nii.gz")
    cases = len(store.split(1)[1])
    for name, rule in (
        ("cv", ""),
        ("one", f"; not unseen: the weights behind these masks were trained on {cases} of {cases}"),
        ("all", "; not unseen"),
    ):
        found = evaluate_masks(tmp_path / name, store, fold=1, splits=splits)
        assert found.label.startswith(f"validation fold 1{rule}")
    assert evaluate_masks(tmp_path / "cv", store, fold=None, splits=splits).label == "all folds"
    names = [case.case_id for case in store.cases if case.fold is not None]
    (tmp_path / "once.json").write_text(json.dumps([{"train": names[1:], "val": names[:1]}]))
    (tmp_path / "table.csv").write_text("case,test\n" + "".join(f"{n},no\n" for n in names))
    write_masks(tmp_path / "flat", store)
    for name, rule in (
        ("once.json", f"trained on {len(names) - 1} of {len(names)}"),
        ("table.csv", "known"),
    ):
        found = evaluate_masks(tmp_path / "flat", store, fold=None, splits=tmp_path / name)
        assert rule in found.label, name


def test_each_reading_of_the_test_set_is_counted_beside_the_store(
    tmp_path: Path, phantom_store: Path
) -> None:
    store = Store.open(shutil.copytree(phantom_store, tmp_path / "store"))
    folder = write_masks(tmp_path / "masks", store)
    (tmp_path / "logits").mkdir()
    write_masks(tmp_path / "logits", store, lambda mask: mask * 7.5 - 3)
    with pytest.raises(ConfigError, match="logits"):
        evaluate_masks(tmp_path / "logits", store, split="test")
    assert count_readings(store.path) == 0
    for number in (1, 2):
        found = evaluate_masks(folder, store, split="test")
        assert found.label.startswith(f"sealed test set, reading {number} of this store; ")
    assert {score.case_id for score in found.scores} == {c.case_id for c in store.test_cases()}
    line = json.loads(readings_file(store.path).read_text().splitlines()[0])
    assert line["masks"] == str(folder) and line["store_hash"] == store.content_hash
    readings_file(store.path).unlink()
    readings_file(store.path).mkdir()  # as root, who may write what nobody may
    with pytest.raises(ConfigError, match="it keeps how often the test set is read"):
        evaluate_masks(folder, store, split="test")


def run(*words: str | Path, status: int = 0) -> str:
    result = CliRunner().invoke(cli, ["evaluate", *map(str, words)])
    assert result.exit_code == status, result.output
    return result.output


def test_the_command(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_masks(tmp_path / "masks", store, shifted)
    printed = run("masks", store.path)
    assert "validation fold 0; perhaps not unseen" in printed and "HD95 mm" in printed
    rows = list(csv.DictReader(Path("masks-evaluate_val/cases.csv").read_text().splitlines()))
    assert [row["case_id"] for row in rows] == [case.case_id for case in store.split(0)[1]]
    summary = json.loads(Path("masks-evaluate_val/summary.json").read_text())
    assert 0 < summary["masks"]["mean"]["dice"] < 1 and summary["folder"] == str(folder)
    assert "the masks are labels, no probabilities" in printed
    assert (summary["certainty"], rows[0]["brier"]) == (None, "")
    write_masks(tmp_path / "soft", store, lambda mask: 0.1 + 0.6 * mask)
    assert "calibration: ECE 0." in run("soft", store.path)
    rows = list(csv.DictReader(Path("soft-evaluate_val/cases.csv").read_text().splitlines()))
    for row, case in zip(rows, store.split(0)[1], strict=True):  # 0.7 where 1, 0.1 where 0
        brain = store.native_brain(case)
        share = np.count_nonzero(store.native_mask(case) & brain) / np.count_nonzero(brain)
        assert float(row["brier"]) == pytest.approx(share * 0.09 + (1 - share) * 0.01, rel=1e-4)
        assert float(row["ece"]) == pytest.approx(share * 0.3 + (1 - share) * 0.1, rel=1e-4)
    run("masks", store.path, "--fold", "all", "--out", "all")
    rows = list(csv.DictReader(Path("all/cases.csv").read_text().splitlines()))
    assert len(rows) == len(store.cases) - len(store.test_cases())


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("masks",), "masks: has no segtune checkpoint; of masks say whose they are"),
        (("STORE", "masks"), "is a prepared store: give the masks first"),
        (("masks", "STORE", "--steps", "3"), "steps: 3: says nothing of masks"),
        (("masks", "STORE", "--fold", "0", "--split", "test"), "not together with --split test"),
        (("masks", "nowhere"), "nowhere: not a prepared store"),
        (("nowhere", "STORE"), "nowhere: no such file or folder"),
    ],
)
def test_bad_words_get_one_line(
    words: tuple[str, ...],
    line: str,
    tmp_path: Path,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "masks").mkdir()
    given = [str(store.path) if word == "STORE" else word for word in words]
    printed = run(*given, status=2)
    assert line in printed and len(printed.splitlines()) == 1
    assert os.listdir(tmp_path) == ["masks"]


@pytest.mark.slow  # 12 s
def test_a_unet_that_was_trained_elsewhere(tmp_path: Path, store: Store) -> None:
    """MONAI's U-Net in a loop of its own on NIfTI files, which writes masks in native space."""
    import torch
    from monai.networks.nets import UNet

    torch.manual_seed(0)
    dataset = store.path.parent / "dataset"

    def image(case: Case) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        [path] = dataset.glob(f"derivatives/{case.case_id}/**/*_tmax.nii.gz")
        nifti = nibabel.load(path)
        return np.asarray(nifti.dataobj, np.float32) / 10, nifti.affine

    def truth(case: Case) -> NDArray[np.float32]:
        [path] = dataset.glob(f"derivatives/{case.case_id}/**/*msk.nii.gz")
        return np.asarray(nibabel.load(path).dataobj, np.float32)

    def slices(volume: NDArray[np.float32]) -> torch.Tensor:
        at_once = torch.from_numpy(np.moveaxis(volume, 2, 0)[:, None].copy())
        height, width = at_once.shape[2:]
        return torch.nn.functional.pad(at_once, (0, -width % 8, 0, -height % 8))

    training, validation = store.split(0)
    model = UNet(2, 1, 1, channels=(8, 16, 32, 64), strides=(2, 2, 2), norm="BATCH")
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    seen = torch.cat([slices(image(case)[0]) for case in training])
    wanted = torch.cat([slices(truth(case)) for case in training])
    with_lesion = torch.nonzero(wanted.sum((1, 2, 3)))[:, 0]
    for _ in range(150):
        rows = with_lesion[torch.randperm(len(with_lesion))[:8]]
        logits = model(seen[rows])
        share = torch.sigmoid(logits)
        overlap = 2 * (share * wanted[rows]).sum() / (share.sum() + wanted[rows].sum())
        loss = (
            1 - overlap + torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted[rows])
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    for case in validation:
        volume, affine = image(case)
        with torch.no_grad():
            share = torch.sigmoid(model(slices(volume)))[:, 0, : volume.shape[0], : volume.shape[1]]
        values = np.moveaxis(share.numpy(), 0, 2)
        name = f"fold_0/validation/{case.case_id}.nii.gz"
        save(tmp_path / name, values, affine)
    found = evaluate_masks(tmp_path, store, splits=store.path / "splits_final.json")
    assert found.label == "validation fold 0"
    by_hand = []
    for case, score in zip(validation, found.scores, strict=True):
        predicted = nibabel.load(tmp_path / f"fold_0/validation/{case.case_id}.nii.gz")
        mask = np.asarray(nibabel.as_closest_canonical(predicted).dataobj) >= 0.5
        mask &= store.native_brain(case)
        lesion = store.native_mask(case) & store.native_brain(case)
        by_hand.append(2 * (mask & lesion).sum() / (mask.sum() + lesion.sum()))
        assert score.dice == pytest.approx(by_hand[-1])
    assert max(by_hand) > 0.2
