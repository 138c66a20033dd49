"""What `compare` says of each trial, of several studies, and as a table for programs."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy import stats

from search.analysis.case_scores import DICE, lesion_dice, volume_groups
from search.analysis.intervals import difference_interval, mean_interval
from search.analysis.ranking import rung_correlation
from search.analysis.results import compare, compare_studies
from search.analysis.trial_results import TrialRows
from search.cli.main import main
from search.ledger.state import StudyState
from search.ledger.trial_state import Report, TrialState
from search.report.csv_table import csv_table
from search.report.leaderboard import leaderboard
from search.report.leaderboard_columns import LeaderboardColumns
from search.report.settings_text import short_names
from search.report.side_by_side import side_by_side
from tests.search.analysis.test_results import STUDY, TRIALS, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "runs" / "demo", TRIALS)


def rows(folder: Path) -> dict[int, dict]:
    result = compare(folder)
    return {row["trial"]: row for row in [*result["trials"], *result["references"]]}


def test_difference_to_the_best_case_by_case_at_equal_epochs(folder):
    """Trial 2 was stopped at epoch 3 with 0.3, where the best had 0.4; every case is 0.1 behind."""
    found = rows(folder)
    assert found[3]["difference_to_best"] is None
    assert found[2]["difference_to_best"]["epoch"] == 3
    assert found[2]["difference_to_best"]["mean"] == pytest.approx(-0.1)
    assert found[2]["difference_to_best"]["interval"] is None, "all cases are equally far behind"
    assert "-0.100 cases too few or too alike to tell" in leaderboard(folder)
    assert found[0]["difference_to_best"]["mean"] == pytest.approx(0.6 - 0.5)
    assert found[6]["difference_to_best"]["mean"] == pytest.approx(0.45 - 0.2)
    assert found[4]["difference_to_best"] is None, "its cases are not finite"
    assert found[5]["difference_to_best"] is None
    assert "difference to the best: Dice minus that of demo:3, case by case" in leaderboard(folder)


def test_the_interval_of_a_difference_is_of_its_cases(folder):
    """Of unequal ones, paired by name."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / "trials" / "0003" / "cases.parquet"
    table = pq.read_table(path)
    rng = np.random.default_rng(5)
    table = table.set_column(
        table.column_names.index("dice"), "dice", pa.array(rng.uniform(size=len(table)))
    )
    pq.write_table(table, path)
    one, other = (lesion_dice(folder / "trials" / f"{n:04d}", 9) for n in (0, 3))
    found = rows(folder)[0]["difference_to_best"]
    assert found["interval"] == difference_interval(
        [one[case] for case in other], [*other.values()], DICE.scale
    )
    assert found["std_error"] == pytest.approx(stats.sem([one[case] - other[case] for case in one]))


def test_hours_changes_seed_and_pictures(tmp_path):
    study = STUDY.model_copy(update={"train": {"model.width": 16, "seed": 4}})
    study = study.model_copy(update={"trials": study.trials.model_copy(update={
        "gpus_per_trial": 2.0, "cpus_per_trial": 4})})  # fmt: skip
    state = StudyState()
    params = {"optimizer.lr": 1e-4, "diffusion.target": "eps"}
    for event in (
        {"event": "proposed", "trial": 2, "params": params, "kind": "sampled", "protected": False},
        {"event": "started", "trial": 2, "time": 1000.0, "host": "node7"},
        {"event": "reported", "trial": 2, "epoch": 1, "value": 0.2, "time": 2800.0,
         "metrics": {"val/dice": 0.2, "val/avd_ml": 3.5, "val/lesion_f1": float("nan")}},
        {"event": "painted", "trial": 2, "epoch": 1, "files": ["samples/a.png"], "seconds": 1},
    ):  # fmt: skip
        state.apply(event)
    row = TrialRows(study, state, tmp_path, 1, state.trials[2], driven=True).row(state.trials[2])
    assert (row["gpu_hours"], row["cpu_hours"]) == (1.0, 2.0)
    assert (row["avd_ml"], row["lesion_f1"]) == (3.5, None)
    assert (row["hosts"], row["seed"], row["fold"]) == (["node7"], 4, 0)
    assert row["pictures"] == ["trials/0002/samples/a.png"]
    assert row["changed"] == {
        "model.width": [32, 16],
        "diffusion.target": ["x_start", "eps"],
        "seed": [0, 4],
    }, "the learning rate is the default"


def test_what_all_have_is_said_once(tmp_path):
    text = leaderboard(write(tmp_path / "demo", TRIALS, train={"model.width": 16}))
    assert "all trials, with the defaults in (): model.width 16 (32)" in text


def test_dice_by_lesion_volume(folder):
    """Three groups of known means, one without a lesion."""
    case = {"case_id": "a", "false_positive_ml": 1.0, "has_lesion": True}
    cases = [
        case | {"lesion_ml": 4.9, "dice": 0.1},
        case | {"lesion_ml": 2.0, "dice": 0.3},
        case | {"lesion_ml": 20.0, "dice": 0.8},
        case | {"lesion_ml": 0.0, "dice": 1.0, "has_lesion": False, "false_positive_ml": 7.0},
    ]
    found = {group["name"]: group for group in volume_groups(cases)}
    assert {name: group["num_cases"] for name, group in found.items()} == {
        "empty": 1, "<5 mL": 2, "5-20 mL": 0, ">=20 mL": 1,
    }  # fmt: skip
    assert found["<5 mL"]["dice"] == pytest.approx(0.2)
    assert found["<5 mL"]["dice_interval"] == mean_interval([0.1, 0.3], DICE.scale)
    assert (found[">=20 mL"]["dice"], found["5-20 mL"]["dice"]) == (0.8, None)
    assert found[">=20 mL"]["dice_interval"] is None, "of one case"
    assert (found["empty"]["dice"], found["empty"]["false_positive_ml"]) == (None, 7.0)
    roles = {row["role"]: row["trial"] for row in compare(folder)["subgroups"]}
    assert roles == {"best": 3, "control": 0, "reference": 1}
    best = next(row for row in compare(folder)["subgroups"] if row["role"] == "best")
    assert best["intervals"]["val/dice"] == rows(folder)[3]["dice_interval"]
    assert (
        "Dice by lesion volume at the last epoch, of (cases), selected on, optimistic:"
        in leaderboard(folder)
    )


def complete(at_rung: list[float], at_end: list[float]) -> list[TrialState]:
    trials = []
    for number, values in enumerate(zip(at_rung, at_rung, at_end, strict=True)):
        reports = [Report(e, v, {}) for e, v in zip((1, 3, 9), values, strict=True)]
        trials.append(TrialState(number, {}, "sampled", False, reports=reports))
    return trials


def test_what_is_not_ranked_has_a_heading_where_there_is_any(folder):
    result = compare(folder)
    assert "not ranked:" in LeaderboardColumns(result).plain()
    assert "not ranked:" not in LeaderboardColumns(result | {"references": []}).plain()


def test_the_correlation_of_a_rung_is_spearmans():
    """Spearman's by the formula without ties: 1 - 6 sum(d^2) / (n (n^2 - 1))."""
    end = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    rung = [0.2, 0.1, 0.3, 0.5, 0.4, 0.6, 0.8, 0.7]
    squares = sum((round(10 * a) - round(10 * b)) ** 2 for a, b in zip(rung, end, strict=True))
    [found] = rung_correlation(STUDY, complete(rung, end))
    expected = 1 - 6 * squares / (8 * 63)
    assert found == {"epoch": 3, "spearman": pytest.approx(expected), "num_trials": 8}
    assert rung_correlation(STUDY, complete(rung, end)[1:]) == [], "too few"
    assert rung_correlation(STUDY, complete([0.5] * 8, end)) == [], "all the same"


def test_importance_is_said_to_need_more(folder):
    assert compare(folder)["importance"]["missing"] == 3
    assert "what mattered: 3 more trials are needed" in leaderboard(folder)


def test_csv_as_pandas_reads_it(folder, tmp_path):
    other = write(tmp_path / "runs" / "b", {2: ("sampled", [0.2], None)}, study="b")
    table = pd.read_csv(io.StringIO(csv_table(compare(f) for f in (folder, other))))
    assert table["study"].tolist() == ["demo"] * 7 + ["b"]
    assert table["trial"].tolist() == [3, 6, 2, 4, 5, 0, 1, 2]
    assert table["kind"].tolist()[5:7] == ["control", "enqueued"]
    assert table["rank"][:3].tolist() == [1, 2, 3] and np.isnan(table["rank"][3])
    assert table["dice"][0] == 0.5 and table["dice_low"][0] == pytest.approx(0.2321, abs=1e-4)
    assert table["optimizer.lr"][0] == 2e-4 and table["diffusion.target"][0] == "eps"
    assert table["model.family"][5] == "unet" and table["model.family"].isna()[0]
    assert set(table["label"]) == {"selected on, optimistic"}
    assert table["val/dice"][1] == 0.45


def test_studies_side_by_side(folder, tmp_path):
    other = write(tmp_path / "runs" / "b", {2: ("sampled", [0.2], None)}, study="b")
    text = side_by_side([folder, other])
    lines = text.splitlines()
    assert "selected on, optimistic" in lines[0]
    first = ["demo", "trial", "3", "0.5000", "[0.232,", "0.730]", "9", "0.6000", "0.3100", "5"]
    assert lines[3].split()[:10] == first and "17%" in lines[3]
    assert lines[4].split()[:3] == ["b", "trial", "2"]
    assert "same store and validation fold; differences between" in text
    assert "demo:3 is best: lr 0.0002, target eps" in lines and "  not confirmed" in lines
    data = STUDY.data.model_copy(update={"store": "/elsewhere", "fold": 2})
    far = write(tmp_path / "runs" / "c", {2: ("sampled", [0.2], None)}, study="c", data=data)
    text = side_by_side([folder, far])
    assert "numbers are not comparable between them: other stores, validation folds" in text
    result = compare_studies([folder, far])
    assert [study["study"] for study in result["studies"]] == ["demo", "c"]
    assert result["incomparable"] == ["stores", "validation folds"]
    json.dumps(result, allow_nan=False)


def test_forms_on_the_command_line(folder, tmp_path):
    write(tmp_path / "runs" / "b", {2: ("sampled", [0.2], None)}, study="b")

    def run(*words: str):
        return CliRunner().invoke(main, ["compare", *words, "--runs", str(folder.parent)])

    assert json.loads(run("demo", "--json").stdout)["study"] == "demo"
    several = json.loads(run("demo", "b", "--json").stdout)
    assert [study["study"] for study in several["studies"]] == ["demo", "b"]
    assert run("demo", "b", "--csv").stdout.count("\n") == 1 + 7 + 1
    assert "2 studies" in run("demo", "b").stdout
    for words, line in {
        ("--json", "--csv"): "--json and --csv: give one of them",
        ("--csv", "--html", "x.html"): "--csv and --html: give one of them",
    }.items():
        refused = run("demo", *words)
        assert (refused.exit_code, refused.stderr) == (2, f"{line}\n")
    refused = run("demo", "bb")
    assert refused.exit_code == 2 and "bb: no such study; did you mean b?" in refused.stderr


def test_words_passed_on_to_a_cluster(monkeypatch):
    passed = []
    monkeypatch.setattr("search.cli.look.elsewhere", lambda *words: exit(passed.append(words)))
    CliRunner().invoke(main, ["compare", "a", "b", "--csv", "--submit", "http://head"])
    assert passed == [("http://head", "a", ["compare", "b", "--csv"])]


SPACE = {
    f"{section}.{name}": {"type": "float", "low": 0.001, "high": 1.0}
    for section, names in {
        "loss": ("dice", "bce", "focal", "tversky", "boundary", "noise"),
        "optimizer": ("lr", "weight_decay", "clip_norm"),
        "diffusion": ("input_scale",),
    }.items()
    for name in names
}


@pytest.mark.parametrize("width", [80, 120, 200])
def test_ten_parameters_on_a_terminal(tmp_path, monkeypatch, width):
    """All settings are there, no line is too long, and no trial takes more than a few lines."""
    config = STUDY.model_validate(STUDY.model_dump() | {"space": SPACE, "enqueue": ()})
    trials = {n: ("sampled", [0.1, 0.2, 0.3 + n / 100], "completed") for n in range(2, 8)}
    monkeypatch.setattr("tests.search.analysis.test_results.PARAMS", dict.fromkeys(SPACE, 0.123456))
    folder = write(tmp_path / "demo", trials, space=config.space, enqueue=())
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in leaderboard(folder).splitlines()]
    begin = next(i for i, line in enumerate(lines) if "──" in line)
    board = lines[begin + 1 : next(i for i, line in enumerate(lines) if line.startswith("thre"))]
    assert max(map(len, lines)) <= width
    assert len(board) <= 3 * len(trials) + 1
    assert board[0].startswith("1 ") and "0.3700" in board[0]
    names = {name.rpartition(".")[2] for name in SPACE}
    below = {name for line in board[:3] for name in re.findall(r"([a-z_]+)=0\.123", line)}
    assert below == (names if width < 200 else set())
    assert names < {*lines[begin - 1].split()} or width < 200


def test_settings_come_before_what_there_may_be_no_room_for(tmp_path, monkeypatch):
    """Those that differ alone: as columns, else below; AVD and the rest only then."""
    params = {n: {"optimizer.lr": n / 1000, "diffusion.target": "eps"} for n in range(8)}
    folder = write(tmp_path / "demo", TRIALS)
    result = compare(folder)
    for row in [*result["trials"], *result["references"]]:
        row |= {"params": params[row["trial"]], "avd_ml": 1.5, "lesion_f1": 0.5}

    def board(width: int) -> list[str]:
        text, left_out = LeaderboardColumns(result).rich(width)
        lines = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()
        assert max(map(len, lines)) <= width
        return [*lines, " ".join(left_out)]

    assert board(67)[0].split()[-1] == "lr" and "AVD mL" in board(67)[-1]
    assert board(80)[0].split()[-3:] == ["lr", "AVD", "mL"] and board(80)[2].split()[-2] == "0.003"
    assert "target" not in "".join(board(200))
    for row in result["trials"]:
        row["params"] = row["params"] | {"diffusion.target": f"{'t' * 20}{row['trial']}"}
    lines = board(80)
    assert lines[0].split()[-4:] == ["AVD", "mL", "lesion", "F1"]
    assert lines[3].strip() == f"lr=0.003  target={'t' * 20}3"


def test_a_narrow_terminal_has_whole_columns(folder):
    text, left_out = LeaderboardColumns(compare(folder)).rich(40)
    assert "…" not in text and left_out[:2] == ["95 % interval", "status"]


def test_names_are_shortened_to_what_tells_them_apart():
    names = ["loss.dice", "optimizer.lr", "control.optimizer.lr", "lr", "a.dice"]
    assert short_names(names) == {
        "loss.dice": "loss.dice",
        "a.dice": "a.dice",
        "optimizer.lr": "optimizer.lr",
        "control.optimizer.lr": "control.optimizer.lr",
        "lr": "lr",
    }
    assert short_names(["loss.dice", "optimizer.lr"]) == {
        "loss.dice": "dice",
        "optimizer.lr": "lr",
    }


def test_nothing_heavy_is_imported_for_a_small_study(folder):
    """The forest only where it is grown; torch and Ray never."""
    code = (
        "import sys; from search.cli.main import main; sys.argv[1:] = "
        f"['compare', 'demo', '--runs', {str(folder.parent)!r}]\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'ray', 'mlflow', 'sklearn', 'optuna') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
