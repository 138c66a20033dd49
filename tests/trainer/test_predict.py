"""`predict`: the validator's mask, from files, on the file's own grid; or one clear line."""

import gzip
import json
import re
import sys
from pathlib import Path

import nibabel
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from nibabel import orientations
from numpy.typing import NDArray

from tests.trainer.saved.test_model_io import save, shaken_state
from tests.trainer.tiny import tiny_config
from trainer.__main__ import cli
from trainer.data.case_file import read_reference
from trainer.data.files import Source
from trainer.data.formats.case_selector import find_case
from trainer.data.store import Store
from trainer.evaluation.validate import Validator
from trainer.loop import fit
from trainer.predict import content_number, predict_case, predict_slices
from trainer.randomness import generator
from trainer.saved.model_io import load, with_settings

MODALITIES = ("ncct", "tmax")
FIRST = "sub-stroke0001"


@pytest.fixture(scope="module")
def dataset(phantom_store: Path) -> Path:
    return phantom_store.parent / "dataset"


@pytest.fixture(scope="module")
def run(phantom_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learned something: a small U-Net, which draws no noise."""
    folder = tmp_path_factory.mktemp("run")
    config = tiny_config(
        phantom_store, model__family="unet", data__modalities=MODALITIES, data__context_slices=1,
        epochs=2, epoch_images=240, optimizer__lr=3e-3, sampling__threshold=0.2,
    )  # fmt: skip
    assert max(v.metrics["val/dice"] for v in fit(config, folder)) > 0.1
    return folder


@pytest.fixture(scope="module")
def diffusion(phantom_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    state = shaken_state(phantom_store, data__modalities=MODALITIES, sampling__threshold=0.5)
    assert state.ema.head.bias is not None
    state.ema.head.bias.data += 4  # from the lesions' share to the middle
    state.ema.head.weight.data *= 5
    return save(state, tmp_path_factory.mktemp("model") / "model.pt")


def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object
) -> tuple[int, str]:
    """Run `python -m trainer predict`; return its status and what it wrote to stderr."""
    monkeypatch.setattr(sys, "argv", ["trainer", "predict", *map(str, words), "--device", "cpu"])
    with pytest.raises(SystemExit) as ended:
        cli()
    return int(ended.value.code or 0), capsys.readouterr().err


def files(dataset: Path, case_id: str = FIRST) -> dict[str, Path]:
    _, images = find_case([f"{dataset}:{case_id}"], MODALITIES)
    return {modality: source.path for modality, source in images.items()}


def canonical(path: Path) -> NDArray:
    return np.asarray(nibabel.as_closest_canonical(nibabel.load(path)).dataobj)


def reorient(path: Path, axes: str, out: Path) -> Path:
    image = nibabel.load(path)
    # Not as integers, which would be given a new slope and round.
    image = nibabel.Nifti1Image(image.get_fdata(dtype=np.float32), image.affine)
    change = orientations.ornt_transform(
        orientations.io_orientation(image.affine), orientations.axcodes2ornt(axes)
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image.as_reoriented(change), out)
    return out


def test_files_score_what_the_validation_scored(
    run: Path,
    dataset: Path,
    phantom_store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """From NIfTI to NIfTI, against the truth as a stranger would read it."""
    store = Store.open(phantom_store)
    epoch = torch.load(run / "ema.pt", weights_only=True)["epoch"]
    recorded = [row for row in pq.read_table(run / "cases.parquet").to_pylist()
                if row["epoch"] == epoch]  # fmt: skip
    assert recorded
    for row in recorded:
        case = next(case for case in store.cases if case.case_id == row["case_id"])
        out = tmp_path / f"{case.case_id}.nii.gz"
        folder = dataset / "raw_data" / case.case_id
        assert command(monkeypatch, capsys, run, folder, out) == (0, "")
        image = nibabel.load(out)
        reference = nibabel.load(files(dataset, case.case_id)["ncct"])
        assert image.get_data_dtype() == np.uint8
        assert image.shape == reference.shape
        assert np.array_equal(image.affine, reference.affine)
        predicted = canonical(out) > 0
        truth = store.native_mask(case) & store.native_brain(case)
        overlap = 2 * (predicted & truth).sum() / (predicted.sum() + truth.sum())
        assert overlap == pytest.approx(row["dice"], abs=1e-9)
        assert not (predicted & ~store.native_brain(case)).any()


def test_the_same_noise_gives_the_validators_probability(
    diffusion: Path, dataset: Path, phantom_store: Path
) -> None:
    store, trained = Store.open(phantom_store), load(diffusion)
    trained = with_settings(
        trained, {"sampling.num_ensemble": 2, "sampling.eta": 0.5, "validation.steps": "sampling"}
    )
    case = next(case for case in store.cases if case.case_id == FIRST)
    validator = Validator(store, [case], trained.config, trained.process, trained.device)
    expected = validator.probabilities(trained.model, 3, batch_size=16, autocast=trained.autocast)
    found = predict_slices(
        trained,
        store.images(case.rows, MODALITIES),
        lambda member, index: generator(0, "validate", FIRST, index, 3, member),
    )
    assert expected.std() > 0.01
    np.testing.assert_allclose(found.probability.numpy(), expected, atol=1e-6)
    assert found.uncertainty.max() > 0.01
    # And from files: what prepare stored, and the way back to the native grid.
    _, images = find_case([f"{dataset}:{FIRST}"], MODALITIES)
    content = content_number(read_reference(images, {})[0].data)
    predicted = predict_case(trained, images)
    own = predict_slices(
        trained,
        store.images(case.rows, MODALITIES),
        lambda member, index: generator(0, "predict", content, index, member),
    )
    native = store.to_native(case, own.probability.numpy()) * store.native_brain(case)
    np.testing.assert_array_equal(predicted.probability, native)


def test_the_same_images_under_other_names_have_the_same_mask(
    diffusion: Path, dataset: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Also uncompressed; and another patient's images, and another seed, draw other noise."""
    own = {name: path for name, path in files(dataset).items() if name in MODALITIES}
    copies = {name: tmp_path / f"patient-7-{name}.nii" for name in own}
    for name, path in own.items():
        copies[name].write_bytes(gzip.decompress(path.read_bytes()))
    masks = []
    for out, paths in (("own.nii", own), ("copies.nii", copies)):
        words = [f"{name}={path}" for name, path in paths.items()]
        assert command(monkeypatch, capsys, diffusion, *words, tmp_path / out) == (0, "")
        masks.append(canonical(tmp_path / out))
    assert masks[0].any() and np.array_equal(*masks)
    voxels = read_reference({"ncct": Source(own["ncct"])}, {})[0].data
    changed = voxels.copy()
    changed[0, 0, 0] += 1
    assert content_number(voxels) != content_number(changed)


@pytest.mark.parametrize(("ncct", "tmax"), [("LAS", "RAS"), ("LPS", "PSR"), ("SAR", "ILP")])
def test_a_turned_copy_has_the_same_mask_in_the_patient(
    diffusion: Path, dataset: Path, tmp_path: Path, ncct: str, tmax: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    paths = files(dataset)
    turned = [
        reorient(paths["ncct"], ncct, tmp_path / "turned" / paths["ncct"].name),
        reorient(paths["tmax"], tmax, tmp_path / "turned" / paths["tmax"].name),
    ]
    for out, (first, second) in (
        ("plain.nii.gz", paths.values()),
        ("turned.nii", turned),
    ):
        words = (f"ncct={first}", f"tmax={second}", tmp_path / out, "--probability")
        assert command(monkeypatch, capsys, diffusion, *words) == (0, "")
    mask = nibabel.load(tmp_path / "turned.nii")
    assert "".join(nibabel.aff2axcodes(mask.affine)) == ncct
    assert np.array_equal(mask.affine, nibabel.load(turned[0]).affine)
    assert 0.01 < canonical(tmp_path / "turned.nii").mean() < 0.5
    assert np.array_equal(canonical(tmp_path / "turned.nii"), canonical(tmp_path / "plain.nii.gz"))
    both = [canonical(tmp_path / f"{name}") for name in
            ("turned_probability.nii", "plain_probability.nii.gz")]  # fmt: skip
    np.testing.assert_allclose(*both, atol=1e-6)
    assert both[0].dtype == np.float32


def test_the_same_command_writes_the_same_bytes_and_options_have_an_effect(
    diffusion: Path, dataset: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def mask(name: str, *options: object) -> bytes:
        out = tmp_path / f"{name}.nii.gz"
        words = (dataset / "derivatives" / FIRST, out, *options)
        assert command(monkeypatch, capsys, diffusion, *words) == (0, "")
        return out.read_bytes()

    first = mask("a")
    assert first == mask("b")
    assert first != mask("c", "--threshold", 0.9)
    assert first != mask("d", "--steps", 2)
    ensemble = mask("e", "--ensemble", 3, "--uncertainty", "--probability")
    assert first != ensemble
    uncertainty = canonical(tmp_path / "e_uncertainty.nii.gz")
    assert uncertainty.dtype == np.float32
    assert 0 < uncertainty.max() <= 0.5
    probability = canonical(tmp_path / "e_probability.nii.gz")
    assert np.array_equal(probability >= 0.5, canonical(tmp_path / "e.nii.gz") > 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.nii.gz", "b.nii.gz", "c.nii.gz", "d.nii.gz",
        "e.nii.gz", "e_probability.nii.gz", "e_uncertainty.nii.gz",
    ]  # fmt: skip


def test_a_single_mask_says_that_its_uncertainty_is_zero(
    run: Path, dataset: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    words = (run, f"{dataset}:{FIRST}", tmp_path / "m.nii.gz", "--uncertainty")
    status, said = command(monkeypatch, capsys, *words)
    assert status == 0
    assert "uncertainty of 0" in said
    assert not canonical(tmp_path / "m_uncertainty.nii.gz").any()


def four_d(dataset: Path, out: Path, order: tuple[str, ...] = MODALITIES) -> Path:
    paths = files(dataset)
    data = np.stack([nibabel.load(paths[name]).get_fdata(dtype=np.float32) for name in order], -1)
    out.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(data, nibabel.load(paths["ncct"]).affine), out)
    return out


def test_channels_of_one_file_go_by_the_data_sets_names_else_by_the_models_order(
    run: Path, dataset: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    paths = files(dataset)
    named = [f"{name}={path}" for name, path in paths.items()]
    bare = four_d(dataset, tmp_path / "case.nii.gz")
    image = four_d(dataset, tmp_path / "msd" / "imagesTs" / "c.nii.gz", ("tmax", "ncct"))
    names = {"modality": {"0": "Tmax", "1": "NCCT"}}
    (tmp_path / "msd" / "dataset.json").write_text(json.dumps(names))
    nnunet = tmp_path / "nnunet" / "imagesTs" / "c_0000.nii.gz"
    reorient(paths["tmax"], "RAS", nnunet.with_name("c_0001.nii.gz"))
    reorient(paths["ncct"], "RAS", nnunet)
    names = {"channel_names": {"0": "NCCT", "1": "Tmax"}}
    (tmp_path / "nnunet" / "dataset.json").write_text(json.dumps(names))
    masks = []
    for words in (named, [bare], [nnunet]):
        out = tmp_path / "mask.nii.gz"
        assert command(monkeypatch, capsys, run, *words, out) == (0, "")
        assert nibabel.load(out).shape == nibabel.load(paths["ncct"]).shape
        masks.append(canonical(out))
    assert masks[0].any()
    assert np.array_equal(masks[1], masks[0])
    assert np.array_equal(masks[2], masks[0])
    _, images = find_case([str(image)], MODALITIES)
    # The reference is the data set's first, as when it is prepared.
    assert list(images) == ["tmax", "ncct"]
    assert (images["tmax"].channel, images["ncct"].channel) == (0, 1)
    out = tmp_path / "image.nii.gz"
    assert command(monkeypatch, capsys, run, image, out) == (0, "")
    assert nibabel.load(out).shape == nibabel.load(image).shape[:3]


def test_the_reference_may_be_a_modality_that_the_model_does_not_see(
    dataset: Path, phantom_store: Path, tmp_path: Path
) -> None:
    state = shaken_state(phantom_store, data__modalities=["tmax"], sampling__threshold=0.5)
    trained = load(save(state, tmp_path / "m.pt"))
    _, images = find_case([str(dataset / "raw_data" / FIRST / "ses-01")], ["tmax"])
    content = content_number(read_reference(images, {})[0].data)
    assert list(images) == ["ncct", "tmax"]
    found = predict_case(trained, images)
    store = Store.open(phantom_store)
    case = next(case for case in store.cases if case.case_id == FIRST)
    own = predict_slices(
        trained,
        store.images(case.rows, ["tmax"]),
        lambda member, index: generator(0, "predict", content, index, member),
    )
    native = store.to_native(case, own.probability.numpy()) * store.native_brain(case)
    np.testing.assert_array_equal(found.probability, native)


@pytest.mark.parametrize(
    ("case", "line"),
    [
        ("{raw}/sub-stroke0099", "no such file"),
        ("{data}", "no case: must be a subject's folder"),
        ("{data}:sub-stroke0099", "no case 'sub-stroke0099'; did you mean sub-stroke00"),
        ("{tmp}/none.nii.gz", "no such file"),
        ("{tmp}/text.txt", r"must be a NIfTI file \(.nii or .nii.gz\)"),
        ("{tmp}/text.nii.gz", "not a NIfTI file"),
        ("{tmp}/empty.nii.gz", "is empty"),
        ("{ncct}", "has 1 channel, but the model sees 2: ncct, tmax"),
        ("{ncct} {tmax}", "several files must each be MODALITY=FILE"),
        ("ncct={ncct}", "no tmax: the model sees ncct, tmax, but this is ncct"),
        ("ncct={ncct} tmxa={tmax}", "no tmax: .*; did you mean tmxa"),
        ("ncct={ncct} ncct={tmax}", "ncct is given twice"),
        ("ncct={ncct} tmax={tmp}/none.nii.gz", "none.nii.gz: is missing"),
        ("ncct={ncct} tmax={tmp}/cut.nii.gz", "cut.nii.gz: is truncated or damaged"),
        ("ncct={ncct} tmax={tmp}/far.nii.gz", "far.nii.gz: .* shows 0% of the brain"),
        ("ncct={ncct} tmax={tmp}/nan.nii.gz", "nan.nii.gz: tmax has 1 non-finite voxels"),
    ],
)
def test_inputs_that_cannot_be_used_are_one_line(
    run: Path, dataset: Path, tmp_path: Path, case: str, line: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    paths = files(dataset)
    (tmp_path / "text.txt").write_text("hello")
    (tmp_path / "text.nii.gz").write_text("hello")
    (tmp_path / "empty.nii.gz").touch()
    content = paths["tmax"].read_bytes()
    (tmp_path / "cut.nii.gz").write_bytes(content[: len(content) // 2])
    image = nibabel.load(paths["tmax"])
    values, far = image.get_fdata(dtype=np.float32), image.affine.copy()
    far[:3, 3] += 1000
    nibabel.save(nibabel.Nifti1Image(values, far), tmp_path / "far.nii.gz")
    values[tuple(size // 2 for size in values.shape)] = np.nan
    nibabel.save(nibabel.Nifti1Image(values, image.affine), tmp_path / "nan.nii.gz")
    words = case.format(data=dataset, raw=dataset / "raw_data", tmp=tmp_path, **paths).split(" ")
    out = tmp_path / "mask.nii.gz"
    status, said = command(monkeypatch, capsys, run, *words, out)
    assert status == 2
    assert len(said.splitlines()) == 1
    assert re.search(line, said)
    assert not out.exists()


@pytest.mark.parametrize(
    ("out", "options", "line"),
    [
        ("nowhere/mask.nii.gz", (), "no such folder"),
        ("mask.png", (), "must end in .nii.gz or .nii"),
        ("mask", (), "must end in .nii.gz or .nii"),
        ("folder.nii", (), "is a folder"),
        ("mask.nii", ("--threshold", "1.5"), "sampling.threshold: 1.5: must be less than 1"),
        ("mask.nii", ("--ensemble", "0"), "sampling.num_ensemble: 0: must be greater than"),
        ("mask.nii", ("--steps", "many"), "many"),
    ],
)
def test_outputs_and_options_that_cannot_be_are_one_line(
    run: Path, dataset: Path, tmp_path: Path, out: str, options: tuple[str, ...], line: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "folder.nii").mkdir()
    words = (run, f"{dataset}:{FIRST}", tmp_path / out, *options)
    status, said = command(monkeypatch, capsys, *words)
    assert status == 2
    assert len(said.splitlines()) == 1
    assert line in said


def test_an_input_is_not_written_over(
    run: Path, dataset: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    copy = four_d(dataset, tmp_path / "case.nii.gz")
    before = copy.read_bytes()
    status, said = command(monkeypatch, capsys, run, copy, tmp_path / "." / "case.nii.gz")
    assert (status, said.splitlines()[1:]) == (2, [])
    assert "is an input" in said
    assert copy.read_bytes() == before


def test_only_a_prediction_is_written_over_unless_forced(
    run: Path, dataset: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """An expert's mask, a note, and what is no prediction beside one that is."""
    expert = tmp_path / "mask.nii.gz"
    expert.write_bytes(next(dataset.rglob("*lesion-msk.nii.gz")).read_bytes())
    beside = tmp_path / "new_probability.nii.gz"
    beside.write_text("not mine", encoding="utf-8")
    before = expert.read_bytes()
    case = f"{dataset}:{FIRST}"
    for words in ((expert,), (tmp_path / "new.nii.gz", "--probability")):
        status, said = command(monkeypatch, capsys, run, case, *words)
        assert (status, said.splitlines()[1:]) == (2, [])
        assert said.endswith("exists and is no prediction: choose another name, or --force\n")
    assert expert.read_bytes() == before
    assert not (tmp_path / "new.nii.gz").exists()
    for force in (("--force",), ()):  # the second replaces a prediction
        assert command(monkeypatch, capsys, run, case, expert, *force) == (0, "")
    assert expert.read_bytes() != before


def test_a_case_of_real_quirks(
    run: Path, shared_data: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    root = shared_data / "isles24_like"
    axes = set()
    for folder in sorted((root / "raw_data").iterdir())[:4]:
        out = tmp_path / f"{folder.name}.nii.gz"
        assert command(monkeypatch, capsys, run, folder, out) == (0, "")
        reference = nibabel.load(files(root, folder.name)["ncct"])
        image = nibabel.load(out)
        assert image.shape == reference.shape
        assert np.array_equal(image.affine, reference.affine)
        axes.add(nibabel.aff2axcodes(image.affine))
    assert len(axes) > 1
