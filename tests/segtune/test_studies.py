"""What a notebook reads of a study is what the commands say of it."""

import csv
import io
import json
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import segtune
from search.ledger.journal import Ledger
from search.storage.studies import read_study
from tests.fixtures.copies import segtune as command

ROOT = Path(segtune.__file__).parents[1]


def test_trials_are_those_of_the_leaderboard(work: Path) -> None:
    table = segtune.study("runs/mine").trials()
    said = [*csv.DictReader(io.StringIO(command("compare", "mine", "--csv")))]
    assert [str(number) for number in table.index] == [row["trial"] for row in said]
    for number, row in zip(table.index, said, strict=True):
        assert table.loc[number, "ending"] == row["ending"]
        assert table.loc[number, "optimizer.lr"] == float(row["optimizer.lr"])
        assert table.loc[number, "val/dice"] == float(row["val/dice"])
        assert table.loc[number, "cpu_hours"] == float(row["cpu_hours"]) > 0
    assert table.loc[table.kind == "control", "model.family"].item() == "unet"
    best = json.loads(command("compare", "mine", "--json"))["trials"][0]
    assert (segtune.study("mine").best().number, table["rank"].idxmin()) == (best["trial"],) * 2
    assert segtune.study("mine").best().value == best["value"] == table["value"].iloc[0]


def test_curves_and_cases_are_what_was_reported(work: Path) -> None:
    study = segtune.study(work / "runs" / "mine")
    _, state = read_study(work / "runs" / "mine")
    curves = study.curves().set_index(["trial", "epoch"])
    reports = {(t.number, r.epoch): r for t in state.trials.values() for r in t.reports}
    assert [*curves.index] == [*reports]
    for at, report in reports.items():
        assert curves.loc[at, "value"] == report.value
        assert curves.loc[at, "val/avd_ml"] == report.metrics["val/avd_ml"]
    means = study.cases().groupby("trial").dice.mean()
    for number, trial in state.trials.items():
        assert means[number] == pytest.approx(trial.reports[-1].metrics["val/dice"])


def test_a_study_without_a_trial_has_empty_tables(work: Path) -> None:
    whole = Ledger.open("runs/mine/ledger.jsonl", writer=False).path.read_text().splitlines()
    begun = [line for line in whole if '"event":"study"' in line or '"event":"driver"' in line]
    (work / "runs" / "mine" / "ledger.jsonl").write_text("\n".join(begun) + "\n")
    study = segtune.study("mine")
    assert len(study.trials()) == len(study.curves()) == len(study.cases()) == 0
    assert not study.optuna().trials
    with pytest.raises(ValueError, match=r"^runs/mine: no trial has a result$"):
        study.best()


def test_what_is_not_there_is_a_line(work: Path) -> None:
    with pytest.raises(ValueError, match=r"^runs: mime: no such study; did you mean mine\?$"):
        segtune.study("mime")
    with pytest.raises(ValueError, match=r"^mine:99: no such trial; there are 0 to 6$"):
        segtune.study("mine").trial(99)
    with pytest.raises(ValueError, match=r"mine:6: stopped: no ema.pt of it is here"):
        (work / "runs/mine/trials/0006/ema.pt").unlink()
        segtune.study("mine").trial(6).model()
    with pytest.raises(ValueError, match=r"no such file"):
        segtune.model("exported").predict("datasets/nobody")


def test_a_model_predicts_what_the_command_predicts(work: Path) -> None:
    import nibabel

    case = "datasets/mine/raw_data/sub-stroke0001"
    trial = segtune.study("mine").best()
    predicted = trial.model(device="cpu").predict(case, "python.nii.gz", ensemble=2)
    command("predict", trial.name, case, "command.nii.gz", "--device", "cpu", "--ensemble", "2")
    masks = [np.asarray(nibabel.load(f"{name}.nii.gz").dataobj) for name in ("python", "command")]
    assert np.array_equal(*masks) and masks[0].sum() == predicted.mask.sum() > 0
    files = {path.name.split("space-ncct_")[-1]: path for path in Path(case).rglob("*.nii.gz")}
    tmax = next(Path("datasets/mine/derivatives").rglob("*tmax.nii.gz"))
    by_name = {"ncct": next(iter(files.values())), "tmax": tmax}
    exported = segtune.model("exported", device="cpu").predict(by_name, ensemble=2)
    assert np.array_equal(exported.mask, predicted.mask)


LIGHT = """
import os, sys
before = {*os.listdir("."), *os.listdir("runs/mine")}
sys.dont_write_bytecode = True
import segtune
heavy = {"torch", "monai", "ray", "mlflow", "optuna", "pandas"} & {*sys.modules}
assert not heavy, heavy
assert len(segtune.study("mine").trials()) == 7
heavy = {"torch", "monai", "ray", "mlflow", "optuna"} & {*sys.modules}
assert not heavy, heavy
assert before == {*os.listdir("."), *os.listdir("runs/mine")}
"""


def test_it_is_light_and_works_where_nothing_can_be_written(work: Path) -> None:
    """Beside a `trainer` and a `search` of somebody else's, too."""
    for name in ("trainer", "search"):
        (work / f"{name}.py").write_text("raise RuntimeError('the wrong one')\n")
    folders = [work, *(path for path in work.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    code = f"import sys; sys.path.append({str(ROOT)!r})\n{LIGHT}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    for folder in folders:
        folder.chmod(stat.S_IRWXU)
    assert done.returncode == 0, done.stderr
