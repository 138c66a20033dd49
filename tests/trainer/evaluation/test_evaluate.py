"""`python -m trainer evaluate`, from a run on the phantom to its table, and the sealed test set."""

import csv
import json
import shutil
import sys
from pathlib import Path
from statistics import fmean

import pytest

from tests.trainer.tiny import tiny_config
from trainer.__main__ import cli
from trainer.data.store import Store
from trainer.evaluation.metrics import CaseScore, by_volume
from trainer.evaluation.threshold_calibration import CANDIDATES
from trainer.files.documents import from_json
from trainer.loop import fit

KINDS = ("fixed", "cross-fitted")


@pytest.fixture(scope="module")
def trained_run(phantom_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 200 images: its masks are poor, but not empty."""
    run_dir = tmp_path_factory.mktemp("evaluate") / "run"
    config = tiny_config(
        phantom_store, epochs=1, epoch_images=200, optimizer__lr=3e-3, sampling__threshold=0.3
    )
    list(fit(config, run_dir))
    return run_dir


@pytest.fixture
def run(trained_run: Path, tmp_path: Path) -> Path:
    """A copy of the run that a test may write into."""
    return Path(shutil.copytree(trained_run, tmp_path / "run"))


def evaluate(*words: str | Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run the command in this process; return its exit status."""
    monkeypatch.setattr(sys, "argv", ["trainer", "evaluate", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli()
    return int(ended.value.code or 0)


def read(folder: Path) -> tuple[dict[str, list[dict[str, str]]], dict]:
    """Return the rows of cases.csv by kind, and summary.json."""
    rows = list(csv.DictReader((folder / "cases.csv").read_text().splitlines()))
    kinds = {row["kind"]: [r for r in rows if r["kind"] == row["kind"]] for row in rows}
    return kinds, json.loads((folder / "summary.json").read_text())


def test_from_a_run_to_its_table(
    run: Path,
    phantom_store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert evaluate(run, monkeypatch=monkeypatch) == 0
    printed = capsys.readouterr().out
    store = Store.open(phantom_store)
    cases = store.split(0)[1]
    assert "selected on, optimistic" in printed
    for case in cases:
        assert case.case_id in printed
    for word in ("Dice", "AVD mL", "lesion F1", "HD95 mm", "count diff", "5-20 mL", ">=20 mL"):
        assert word in printed

    kinds, summary = read(run / "evaluate_val")
    assert tuple(kinds) == KINDS
    for kind in KINDS:
        rows = kinds[kind]
        assert [row["case_id"] for row in rows] == [case.case_id for case in cases]
        lesion = [row for row in rows if row["has_lesion"] == "True"]
        mean = summary[kind]["mean"]
        assert mean["dice"] == pytest.approx(fmean(float(row["dice"]) for row in lesion))
        assert mean["hd95_mm"] == pytest.approx(fmean(float(row["hd95_mm"]) for row in rows))
        assert sum(g["n"] for g in summary[kind]["by_lesion_volume"].values()) == len(cases)
    assert {row["threshold"] for row in kinds["fixed"]} == {"0.3"}
    assert {float(row["threshold"]) for row in kinds["cross-fitted"]} <= set(CANDIDATES)
    assert summary["frozen"] == from_json((run / "threshold.json").read_text())
    # The threshold that is best for all is at least as good as any one, such as the fixed.
    assert summary["frozen"]["dice"] >= summary["fixed"]["mean"]["dice"] - 1e-9 > 0


def test_the_best_checkpoint_by_its_path_says_the_same(
    run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert evaluate(run, monkeypatch=monkeypatch) == 0
    assert evaluate(run / "ema.pt", "--out", tmp_path / "other", monkeypatch=monkeypatch) == 0
    first, second = (read(f) for f in (run / "evaluate_val", tmp_path / "other"))
    assert first[1].pop("seconds_a_case") > 0 < second[1].pop("seconds_a_case")
    assert first == second


def test_sampling_may_be_another(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--ensemble", "3", "--fuse", "staple", "--steps", "2")
    assert evaluate(run, *words, monkeypatch=monkeypatch) == 0
    sampling = json.loads((run / "threshold.json").read_text())["sampling"]
    assert (sampling["num_ensemble"], sampling["fuse"]) == (3, "staple")
    assert sampling["timestep_respacing"] == 2
    kinds, summary = read(run / "evaluate_val")
    by_members = summary["certainty"]["by_members"]
    assert [size["members"] for size in by_members] == [1, 2, 3]
    # The masks are those that were asked for, not the one by which the training was measured.
    assert by_members[0]["next_larger"]["brier"]["value"] != 0
    assert by_members[2]["means"]["dice"]["value"] == pytest.approx(
        summary["fixed"]["mean"]["dice"]
    )
    printed = capsys.readouterr().out
    for words in ("members", "calibration: ECE 0.", "risk-coverage area", "s a case, 3 masks"):
        assert words in printed
    for name in ("brier", "ece"):
        mean = summary["certainty"]["means"][name]["value"]
        assert mean == pytest.approx(fmean(float(row[name]) for row in kinds["fixed"]))


def test_the_test_set_is_sealed(
    run: Path,
    phantom_store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refused(*words: str) -> str:
        assert evaluate(run, "--split", "test", *words, monkeypatch=monkeypatch) == 2
        assert not (run / "test_readings.jsonl").exists()
        assert not (run / "evaluate_test").exists()
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert "no threshold.json: evaluate with --split val first" in refused()
    assert evaluate(run, monkeypatch=monkeypatch) == 0
    assert "frozen for sampling.num_ensemble 1, not 2" in refused("--ensemble", "2")
    frozen = json.loads((run / "threshold.json").read_text())
    other = frozen | {"weights": "0" * 16}
    (run / "threshold.json").write_text(json.dumps(other))
    assert "other weights" in refused()
    (run / "threshold.json").write_text(json.dumps(frozen))

    for reading in (1, 2):
        capsys.readouterr()
        assert evaluate(run, "--split", "test", monkeypatch=monkeypatch) == 0
        assert f"sealed test set, reading {reading} of this run" in capsys.readouterr().out
        lines = (run / "test_readings.jsonl").read_text().splitlines()
        assert len(lines) == reading
        assert json.loads(lines[-1])["threshold"] == frozen["threshold"]
    kinds, _ = read(run / "evaluate_test")
    assert tuple(kinds) == ("fixed", "frozen")
    tested = [case.case_id for case in Store.open(phantom_store).test_cases()]
    assert [row["case_id"] for row in kinds["frozen"]] == tested
    assert {float(row["threshold"]) for row in kinds["frozen"]} == {frozen["threshold"]}
    assert json.loads((run / "threshold.json").read_text()) == frozen


def test_the_test_set_is_sampled_as_its_threshold_was_frozen(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert evaluate(run, "--steps", "2", monkeypatch=monkeypatch) == 0
    assert evaluate(run, "--split", "test", monkeypatch=monkeypatch) == 0
    assert evaluate(run, "--split", "test", "--steps", "3", monkeypatch=monkeypatch) == 2
    [line] = (run / "test_readings.jsonl").read_text().splitlines()
    assert json.loads(line)["sampling"]["timestep_respacing"] == 2


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--ensemble", "0"), "command line: sampling.num_ensemble: 0: must be"),
        (("--steps", "many"), "command line: "),
        (("--store", "nowhere"), "nowhere: not a prepared store"),
    ],
)
def test_mistakes_get_one_line(
    run: Path,
    words: tuple[str, ...],
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert evaluate(run, *words, monkeypatch=monkeypatch) == 2
    (printed,) = capsys.readouterr().err.splitlines()
    assert line in printed
    assert not (run / "threshold.json").exists()


def test_another_store_and_no_model_get_one_line(
    run: Path,
    phantom_store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = Path(shutil.copytree(phantom_store, tmp_path / "other"))
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps(manifest | {"content_hash": "f" * 64}))
    assert evaluate(run, "--store", other, monkeypatch=monkeypatch) == 2
    assert "not the data that the model was trained on" in capsys.readouterr().err

    assert evaluate(tmp_path / "nothing", monkeypatch=monkeypatch) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1

    (tmp_path / "file").touch()
    assert evaluate(run, "--out", tmp_path / "file", monkeypatch=monkeypatch) == 2
    assert capsys.readouterr().err == f"{tmp_path / 'file'}: must be a folder\n"
    assert not (run / "threshold.json").exists()


@pytest.mark.parametrize(
    ("lesion_ml", "name"),
    [(0.0, "empty"), (0.1, "<5 mL"), (4.99, "<5 mL"), (5.0, "5-20 mL"), (19.9, "5-20 mL"),
     (20.0, ">=20 mL")],
)  # fmt: skip
def test_subgroups_by_volume(lesion_ml: float, name: str) -> None:
    score = CaseScore("a", 0.5, 1, 0.5, 1, 3, lesion_ml, 2, 1, lesion_ml > 0)
    assert [n for n, group in by_volume([score]).items() if group] == [name]
