"""`segtune export`: whole folders, used where nothing of the study is left."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
import yaml

import trainer.saved.model_package
from search.analysis.first_weights import LABEL
from search.ledger.journal import Ledger
from search.ledger.lease import Lease
from search.storage.s3 import Remote, mirror_of
from search.storage.s3_run import S3Run
from search.storage.studies import open_as_driver
from tests.search.conftest import ROOT
from tests.search.trained_study import BAD, CONTROL, FAILED, GOING_ON, GOOD, segtune
from trainer.evaluation.evaluate import evaluate
from trainer.loop import fit
from trainer.saved.model_io import load, with_settings

FILES = {"model.safetensors", "config.yaml", "metrics.json", "provenance.json"} | {
    *("README.md", "requirements.txt", "checksums.txt", "samples")
}


@pytest.fixture(scope="module")
def place(trained_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study below runs, its best model exported, and the control's."""
    place = tmp_path_factory.mktemp("export")
    shutil.copytree(trained_runs, place / "runs")
    segtune("export", "demo", "--runs", place / "runs", place / "best")
    segtune("export", "demo", "--runs", place / "runs", "--trial", CONTROL, place / "unet")
    return place


@pytest.fixture
def runs(place: Path) -> Path:
    return place / "runs"


def test_the_folder_says_what_it_is(place: Path, phantom_store: Path) -> None:
    folder = place / "best"
    assert {path.name for path in folder.iterdir()} == FILES
    check = ["sha256sum", "--check", "--strict", "--quiet", "checksums.txt"]
    subprocess.run(check, cwd=folder, check=True)
    listed = (folder / "checksums.txt").read_text().splitlines()
    assert len(listed) == sum(path.is_file() for path in folder.rglob("*")) - 1

    provenance = json.loads((folder / "provenance.json").read_text())
    assert (provenance["study"], provenance["trial"], provenance["study_uid"]) == (
        "demo",
        GOOD,
        "0",
    )
    manifest = json.loads((phantom_store / "manifest.json").read_text())
    assert provenance["store_hash"] == manifest["content_hash"]
    assert provenance["versions"]["torch"] == torch.__version__
    assert provenance["trials_compared"] == 2
    metrics = json.loads((folder / "metrics.json").read_text())
    assert LABEL in metrics["validation"]["label"]
    assert metrics["validation"]["label"].startswith(
        "validation fold 1, epoch 1, sampled as while training (steps 1, masks 1): "
    )
    best = torch.load(place / "runs/demo/trials/0001/ema.pt", weights_only=True)
    assert metrics["validation"]["metrics"]["val/dice"] == best["metrics"]["val/dice"] > 0.05
    low, high = metrics["validation"]["dice_interval"]
    assert low <= best["metrics"]["val/dice"] <= high
    value = best["metrics"]["val/dice"]
    assert metrics["ranked_by"] == {"metric": "val/dice", "value": value, "where": "epoch 1"}
    assert metrics["threshold"] is None and metrics["test_readings_by_this_run"] == 0

    card = (folder / "README.md").read_text()
    for words in ("not a medical device", LABEL, manifest["content_hash"], "segtune predict"):
        assert words in card
    pictures = [line.split("(")[1].rstrip(")") for line in card.splitlines() if "![" in line]
    assert pictures and all((folder / picture).stat().st_size > 1000 for picture in pictures)
    for text in (folder / "README.md", folder / "provenance.json", folder / "metrics.json"):
        assert str(place) not in text.read_text()


def test_the_requirements_are_what_the_trainer_imports(place: Path) -> None:
    modules = set()
    for path in (ROOT / "trainer").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules |= {name.partition(".")[0] for name in names}
    named = {"PIL": "pillow", "yaml": "pyyaml", "cc3d": "connected-components-3d"}
    foreign = {named.get(module, module) for module in modules} - sys.stdlib_module_names
    foreign -= {"trainer", "segtune_start", ""}
    foreign -= {"triton"}  # Triton comes with torch for CUDA, and is not needed
    lines = (place / "best/requirements.txt").read_text().splitlines()[1:]
    pinned = dict(line.split("==") for line in lines)
    assert pinned.keys() == foreign | {"einops"}  # which MONAI's networks need
    assert pinned["torch"] == torch.__version__.partition("+")[0]


def test_a_run_of_version_0_1_exports_its_best_validation_and_says_so(
    place: Path, tmp_path: Path
) -> None:
    shutil.copytree(place / "runs/demo/trials/0001", tmp_path / "old")
    (tmp_path / "old/ema.pt").rename(tmp_path / "old/best.pt")
    said = segtune("export", tmp_path / "old", tmp_path / "out")
    assert f"note: {tmp_path}/old/best.pt: of version 0.1" in said
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert "best epoch" in metrics["validation"]["label"] and metrics["ranked_by"] is None


def test_it_is_the_averaged_weights_of_the_last_validation(place: Path) -> None:
    exported, run = load(place / "best"), load(place / "runs/demo/trials/0001")
    assert exported.config == run.config
    assert (exported.inputs, exported.epoch) == (run.inputs, run.epoch)
    theirs = run.model.state_dict()
    assert exported.model.state_dict().keys() == theirs.keys()
    for name, value in exported.model.state_dict().items():
        assert torch.equal(value, theirs[name])


BLOCKED = """
import sys

SEARCH = {"ray", "optuna", "mlflow", "selenium"}

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in SEARCH:  # as where it is not installed
            raise ModuleNotFoundError(name)
        if name.startswith("search.") and not f"{name}.".startswith("search.cli."):
            raise AssertionError(f"{name} is imported")

sys.meta_path.insert(0, Block())
"""
PREDICT = (
    BLOCKED
    + """
import json
from search.cli.main import main as segtune
from trainer.__main__ import cli as trainer

for program, words in json.loads(sys.argv[1]):
    sys.argv = [program, "predict", *words]
    try:
        {"segtune": segtune, "trainer": trainer}[program]()
    except SystemExit as ended:
        assert not ended.code
"""
)


@pytest.mark.slow
def test_elsewhere_it_draws_the_same_mask_bit_for_bit(
    place: Path, phantom_store: Path, tmp_path: Path
) -> None:
    """The study is gone, the process new, and nothing of the search can be imported."""
    case = str(phantom_store.parent / "dataset" / "raw_data" / "sub-stroke0001")
    always = ["--threshold", "0.02", "--probability", "--device", "cpu"]
    models = {
        "best": (GOOD, "segtune", ["--ensemble", "3", "--uncertainty", *always]),
        "unet": (CONTROL, "trainer", always),
    }
    jobs = []
    for name, (trial, program, options) in models.items():
        run_dir = place / f"runs/demo/trials/{trial:04d}"
        segtune("predict", run_dir, case, tmp_path / f"{name}.nii.gz", *options)
        shutil.copytree(place / name, tmp_path / name)
        out = str(tmp_path / f"{name}-again.nii.gz")
        jobs.append([program, [str(tmp_path / name), case, out, *options]])
    hidden = (place / "runs").rename(place / "hidden")
    try:
        command = [sys.executable, "-c", PREDICT, json.dumps(jobs)]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    finally:
        hidden.rename(place / "runs")
    assert result.returncode == 0, result.stderr
    ends = {"best": ("", "_probability", "_uncertainty"), "unet": ("", "_probability")}
    for name, kinds in ends.items():
        for kind in kinds:
            files = (tmp_path / f"{name}{again}{kind}.nii.gz" for again in ("", "-again"))
            one, other = (np.asarray(nibabel.load(file).dataobj) for file in files)
            assert one.dtype == other.dtype and np.array_equal(one, other)
            assert np.ptp(one) > 0


def test_the_chosen_sampling_and_threshold_go_along(
    place: Path, phantom_store: Path, tmp_path: Path
) -> None:
    from trainer.data.store import Store

    run_dir = shutil.copytree(place / "runs/demo/trials/0001", tmp_path / "run")
    chosen = {"sampling.timestep_respacing": 1, "sampling.num_ensemble": 1}
    trained = with_settings(load(run_dir), chosen)
    frozen = evaluate(trained, Store.open(phantom_store), run_dir, split="val").frozen
    segtune("export", run_dir, tmp_path / "out")
    sampling = yaml.safe_load((tmp_path / "out/config.yaml").read_text())["sampling"]
    assert (sampling["timestep_respacing"], sampling["num_ensemble"]) == (1, 1)
    assert sampling["threshold"] == frozen.threshold != trained.config.sampling.threshold
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert metrics["threshold"]["dice"] == frozen.dice
    assert LABEL in metrics["threshold"]["label"]
    assert "sampled as this model is used" in (tmp_path / "out/README.md").read_text()
    # Without options the run itself is sampled so, too; and not where they suit other weights.
    case = phantom_store.parent / "dataset" / "raw_data" / "sub-stroke0001"
    for model, out in ((run_dir, "a.nii"), (tmp_path / "out", "b.nii")):
        segtune("predict", model, case, tmp_path / out, "--device", "cpu")
    assert (tmp_path / "a.nii").read_bytes() == (tmp_path / "b.nii").read_bytes()
    values = json.loads((run_dir / "threshold.json").read_text())
    (run_dir / "threshold.json").write_text(json.dumps(values | {"weights": "0" * 16}))
    segtune("export", run_dir / "ema.pt", tmp_path / "plain")
    assert load(tmp_path / "plain").config.sampling == load(run_dir).config.sampling


def test_without_its_data_it_has_no_picture_and_says_so(
    place: Path, phantom_store: Path, tmp_path: Path
) -> None:
    saved = torch.load(place / "runs/demo/trials/0001/ema.pt", weights_only=True)
    saved["config"]["data"]["store"] = str(tmp_path / "nowhere")
    torch.save(saved, tmp_path / "model.pt")
    said = segtune("export", tmp_path / "model.pt", tmp_path / "out")
    assert "no pictures" in said and "not a prepared store" in said
    assert not (tmp_path / "out/samples").exists()
    assert "No picture: the data" in (tmp_path / "out/README.md").read_text()
    load(tmp_path / "out")


def test_a_run_begins_with_exported_weights(
    place: Path, phantom_store: Path, tmp_path: Path
) -> None:
    found = []
    for source in (place / "best", place / "runs/demo/trials/0001"):
        config = load(source).config.model_copy(update={"epochs": 0, "init_from": str(source)})
        [validation] = fit(config, tmp_path / source.name)
        found.append(validation.metrics["val/dice"])
    assert found[0] == found[1] > 0.05


def tamper(folder: Path, kind: str) -> None:
    weights, sums = folder / "model.safetensors", folder / "checksums.txt"
    match kind:
        case "a bit of the weights":
            content = bytearray(weights.read_bytes())
            content[-5] ^= 1
            weights.write_bytes(content)
        case "weights cut off":
            weights.write_bytes(weights.read_bytes()[:-100])
        case "no weights":
            weights.unlink()
        case "another threshold":
            text = (folder / "config.yaml").read_text()
            (folder / "config.yaml").write_text(text.replace("threshold: 0.02", "threshold: 0.9"))
        case "better metrics":
            (folder / "metrics.json").write_text("{}")
        case "no checksums":
            sums.unlink()
        case "torn checksums":
            sums.write_bytes(sums.read_bytes()[:100])
        case "checksums of something else":
            sums.write_text("")
        case "weights of another program":
            weights.write_bytes(b"\x10\0\0\0\0\0\0\0" + b'{"a":1}         ')
            sums.unlink()
            trainer.saved.model_package.write_checksums(folder)


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("a bit of the weights", "model.safetensors: is not as it was exported"),
        ("weights cut off", "model.safetensors: is not as it was exported"),
        ("no weights", "model.safetensors: No such file or directory: checksums.txt names it"),
        ("another threshold", "config.yaml: is not as it was exported"),
        ("better metrics", "metrics.json: is not as it was exported"),
        ("no checksums", "no readable checksums.txt: not a whole export"),
        ("torn checksums", "checksums.txt: damaged"),
        ("checksums of something else", "checksums.txt: damaged"),
        ("weights of another program", "model.safetensors: not weights that segtune exported"),
    ],
)
def test_what_was_changed_is_refused_in_one_line(
    place: Path, tmp_path: Path, kind: str, line: str
) -> None:
    copy = shutil.copytree(place / "best", tmp_path / "copy")
    tamper(copy, kind)
    case = tmp_path / "sub-stroke0001"
    said = segtune("predict", copy, case, tmp_path / "mask.nii", status=2)
    assert len(said.splitlines()) == 1 and line in said and str(copy) in said


def test_what_cannot_be_exported_is_one_line(runs: Path, place: Path, tmp_path: Path) -> None:
    def refused(*words: str | Path) -> str:
        said = segtune("export", *words, "--runs", runs, status=2)
        assert len(said.splitlines()) == 1
        assert not list(tmp_path.iterdir())
        return said

    out = tmp_path / "out"
    assert f"{place / 'best'}: exists" in refused("demo", place / "best")
    assert "no such folder" in refused("demo", tmp_path / "a" / "b")
    assert "did you mean demo?" in refused("dmo", out)
    assert "demo:9: no such trial; there are 0 to 4" in refused("demo", "--trial", "9", out)
    assert "demo:3: has not ended" in refused("demo", "--trial", str(GOING_ON), out)
    assert "demo:4: failed: no ema.pt" in refused("demo", "--trial", str(FAILED), out)
    assert "is exported already" in refused(place / "best", out)
    assert "is a trial already" in refused(runs / "demo/trials/0001", "--trial", "2", out)
    assert "is no study" in refused(runs / "demo/trials/0001/ema.pt", "--trial", "2", out)
    held = Lease.take(runs / "demo")
    try:
        assert "its best may change" in refused("demo", out)
    finally:
        held.release()


def test_a_trials_folder_is_that_trial(runs: Path, tmp_path: Path) -> None:
    segtune("export", runs / "demo/trials/0002", tmp_path / "out", "--runs", runs)
    assert json.loads((tmp_path / "out/provenance.json").read_text())["trial"] == BAD


def test_it_appears_whole_or_not_at_all(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path) -> None:
        raise OSError(28, "No space left on device", str(folder / "checksums.txt"))

    monkeypatch.setattr(trainer.saved.model_package, "write_checksums", full)
    said = segtune("export", "demo", tmp_path / "out", "--runs", runs, status=75)
    assert "No space left on device" in said
    assert not list(tmp_path.iterdir())


def test_a_trial_in_s3_is_fetched(
    trained_runs: Path, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a machine that has seen nothing of the study; its respacing needs the export."""
    study = mirror_of(Remote.parse(s3)) / "demo"
    with open_as_driver(study) as ledger:
        kept = Ledger.open(trained_runs / "demo/ledger.jsonl", writer=False).events
        ledger.append(*[event for event in kept if event["event"] != "driver"])
    work, local = tmp_path / "work", trained_runs / "demo/trials/0001"
    with S3Run(Remote.parse(s3) / "demo", work, 1, (1, 1), {}) as run:
        shutil.copytree(local, work, dirs_exist_ok=True)
        run.send()
    monkeypatch.setenv("SEGTUNE_CACHE", str(tmp_path / "elsewhere"))
    segtune("export", "demo", tmp_path / "out", "--runs", s3)
    theirs = load(local).model.state_dict()
    exported = load(tmp_path / "out")
    assert all(torch.equal(v, theirs[k]) for k, v in exported.model.state_dict().items())
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert metrics["validation"]["dice_interval"]
    said = segtune("export", "demo", tmp_path / "bad", "--trial", "2", "--runs", s3, status=2)
    assert "demo:2: completed: no ema.pt of it is here" in said
    said = segtune("respace", "demo", "--runs", s3, status=2)
    assert len(said.splitlines()) == 1 and "segtune export demo OUT" in said
