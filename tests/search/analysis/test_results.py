"""The leaderboard and the status of studies whose outcome is known."""

import csv
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest

from search.analysis.case_scores import DICE, dice_of, lesion_dice
from search.analysis.intervals import mean_interval
from search.analysis.ranking import best_of, pareto
from search.analysis.results import compare
from search.analysis.trial_results import TrialRows
from search.ledger.case_lists import CaseList, kept_cases
from search.ledger.journal import Ledger
from search.ledger.state import StudyState
from search.ledger.trial_state import Report, TrialState
from search.monitor.status import render, status
from search.report.csv_table import csv_table
from search.report.leaderboard import leaderboard
from search.report.page_data import gather
from search.storage.studies import read_study
from search.study.config import Objective, StudyConfig
from search.study.search_sections import Stall
from trainer.evaluation.metrics import CaseScore
from trainer.run_log import RunLog, Validation

STUDY = StudyConfig.model_validate(
    {
        "study": "demo",
        "data": {"store": "store"},
        "space": {
            "optimizer.lr": {"type": "float", "low": 1e-5, "high": 1e-3, "log": True},
            "diffusion.target": {"type": "categorical", "choices": ("x_start", "eps")},
        },
        "scheduler": {"grace_period": 3, "max_t": 9, "reduction_factor": 3},
        "trials": {"num_trials": 5},
        "enqueue": [{"optimizer.lr": 1e-4, "protected": True}],
    }
)
PARAMS = {"optimizer.lr": 2e-4, "diffusion.target": "eps"}


def score(case: int, dice: float, has_lesion: bool) -> CaseScore:
    values = dict.fromkeys(CaseScore.__dataclass_fields__, 0.0)
    return CaseScore(**values | {"case_id": f"{case}", "dice": dice, "has_lesion": has_lesion})


def write(
    folder: Path, trials: dict[int, tuple[str, list[float], str | None]], /, **changes
) -> Path:
    """Write a study: for each trial its kind, its Dice by validation, and its ending.

    Each validation has three lesion cases with Dice -0.1, +0 and +0.1 around its own, and one
    empty case that must not count. Validations are at epochs 1, 3 and 9.
    """
    config = STUDY.model_copy(update=changes)
    metric = config.objective.metric
    with Ledger.open(folder / "ledger.jsonl", writer=True) as ledger:
        ledger.append({"event": "study", "config": config.model_dump(mode="json")})
        ledger.append(
            {"event": "threshold", "modality": "tmax", "above": True, "threshold": 6, "dice": 0.31}
        )
        for number, (kind, values, ending) in trials.items():
            protected = kind in ("control", "reference")
            params = {"model.family": "unet"} if kind == "control" else PARAMS
            proposed = {"event": "proposed", "trial": number, "params": params}
            kind = "enqueued" if kind == "reference" else kind
            ledger.append(proposed | {"kind": kind, "protected": protected})
            ledger.append(
                {"event": "started", "trial": number, "attempt": 1, "host": "h", "pid": 1}
            )
            run_dir = folder / "trials" / f"{number:04d}"
            run_dir.mkdir(parents=True)
            record = RunLog(run_dir)
            for epoch, value in zip((1, 3, 9), values, strict=False):
                metrics = {"val/dice": value, metric: value}
                about = {"trial": number, "epoch": epoch}
                ledger.append({"event": "reported", **about, "value": value, "metrics": metrics})
                cases = [score(i, value + 0.1 * (i - 1), True) for i in range(3)]
                record.add(Validation(epoch, metrics), [*cases, score(9, 1.0, False)])
            if ending:
                epoch = (0, 1, 3, 9)[len(values)]
                about = {"trial": number, "epoch": epoch, "reason": "why"}
                ledger.append({"event": "ended", "ending": ending, **about})
    return folder


TRIALS = {
    0: ("control", [0.3, 0.4, 0.6], "completed"),
    1: ("reference", [0.0, 0.1, 0.2], "completed"),
    2: ("sampled", [0.2, 0.3], "stopped"),
    3: ("sampled", [0.2, 0.4, 0.5], "completed"),
    4: ("sampled", [0.1, math.nan], "diverged"),
    5: ("sampled", [], "infeasible"),
    6: ("sampled", [0.45], None),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "runs" / "demo", TRIALS)


def test_trials_rank_by_their_result_and_failures_have_no_rank(folder):
    result = compare(folder)
    rows = [(row["rank"], row["trial"], row["ending"], row["epochs"]) for row in result["trials"]]
    assert rows == [
        (1, 3, "completed", 9),
        (2, 6, None, 1),
        (3, 2, "stopped", 3),
        (None, 4, "diverged", 3),
        (None, 5, "infeasible", 0),
    ]
    assert [row["trial"] for row in result["references"]] == [0, 1]
    assert result["references"][0]["dice"] == 0.6
    assert result["threshold"]["dice"] == 0.31
    assert result["label"] == "selected on, optimistic"


def test_smaller_is_better_with_min(tmp_path):
    objective = STUDY.objective.model_copy(update={"metric": "val/avd_ml", "mode": "min"})
    result = compare(write(tmp_path / "demo", TRIALS, objective=objective))
    assert [row["trial"] for row in result["trials"]] == [2, 6, 3, 4, 5]


def test_the_interval_is_of_the_last_epochs_lesion_cases(folder):
    rows = {row["trial"]: row for row in compare(folder)["trials"]}
    assert rows[3]["dice_interval"] == mean_interval([0.4, 0.5, 0.6], DICE.scale)
    assert rows[3]["num_cases"] == 3
    assert rows[5]["dice_interval"] is rows[5]["num_cases"] is None
    (folder / "trials" / "0003" / "cases.parquet").unlink()
    row = {r["trial"]: r for r in compare(folder)["trials"]}[3]
    assert row["dice_interval"] is row["num_cases"] is None


def test_epochs_saved_counts_what_was_stopped_alone(folder):
    """Of 4 ended trials to epoch 9, one was stopped at 3; others' shortfall is no saving."""
    assert compare(folder)["epochs_saved"] == (9 - 3) / (4 * 9)


def test_stalled_trials_saved_epochs_too(tmp_path):
    trials = TRIALS | {2: ("sampled", [0.2, 0.3], "stalled")}
    folder = write(tmp_path / "demo", trials, stall=Stall(patience=3))
    assert compare(folder)["epochs_saved"] == (9 - 3) / (4 * 9)
    text = leaderboard(folder)
    assert "stalled" in text and "ASHA and the stall rule saved 17%" in text


def test_single_seeds_are_exploratory(folder, tmp_path):
    line = "differences between trials, of one seed on one fold each, are exploratory"
    assert f"{line}: `segtune confirm demo` judges them" in leaderboard(folder)
    assert line not in leaderboard(write(tmp_path / "one", {2: ("sampled", [0.2], None)}))


def test_epochs_at_which_trials_compare(folder, tmp_path):
    """The last epoch of every trial trained to max_t; while there is none, of the best few."""
    result = compare(folder)
    assert result["equal_epoch"] == 9
    values = {row["trial"]: row["value_at_equal"] for row in result["trials"]}
    assert values == {3: 0.5, 6: None, 2: None, 4: None, 5: None}
    assert "at epoch 9: " not in leaderboard(folder), "it would repeat the Dice at the end"
    young = {
        2: ("sampled", [0.2, 0.5], None),
        3: ("sampled", [0.3], None),
        4: ("sampled", [0.9], "failed"),
    }
    result = compare(write(tmp_path / "young", young))
    assert result["equal_epoch"] == 1
    ranks = {row["trial"]: (row["rank"], row["rank_at_equal"]) for row in result["trials"]}
    assert ranks == {2: (1, 2), 3: (2, 1), 4: (None, None)}


def test_after_a_resume_trials_compare_where_the_control_has_come(tmp_path):
    """Trial 3 alone completed, at epoch 3, and was resumed to 9: the control has nothing there."""
    scheduler = STUDY.scheduler.model_copy(update={"max_t": 3})
    trials = {
        0: ("control", [0.3, 0.4], "completed"),
        2: ("sampled", [0.2], "stopped"),
        3: ("sampled", [0.2, 0.5, 0.6], "completed"),
    }
    result = compare(write(tmp_path / "demo", trials, scheduler=scheduler))
    assert result["equal_epoch"] == 3
    assert result["trials"][0]["value_at_equal"] == 0.5
    assert result["references"][0]["value_at_equal"] == 0.4


def test_trials_rank_by_the_mean_that_asha_judges_with_the_last_epoch_beside(tmp_path):
    """Trial 2 was lucky once, at its end; trial 3 is better on average."""
    trials = {
        0: ("control", [0.1, 0.2, 0.3], "completed"),
        2: ("sampled", [0.1, 0.2, 0.6], "completed"),
        3: ("sampled", [0.4, 0.5, 0.45], "completed"),
        4: ("sampled", [0.42], "stopped"),
    }
    scheduler = STUDY.scheduler.model_copy(update={"smoothing": 2})
    folder = write(tmp_path / "demo", trials, scheduler=scheduler)
    result = compare(folder)
    assert [row["trial"] for row in result["trials"]] == [3, 4, 2]
    first, alone, lucky = result["trials"]
    assert first["value"] == pytest.approx(0.475) and first["value_epochs"] == [3, 9]
    assert (first["last_value"], first["dice"], first["epochs"]) == (0.45, 0.45, 9)
    assert (alone["value"], alone["value_epochs"]) == (0.42, [1])
    assert lucky["value"] == pytest.approx(0.4) and lucky["dice"] == 0.6
    line = next(line for line in leaderboard(folder).splitlines() if line.startswith("1 "))
    assert line.split()[:7] == ["1", "3", "completed", "9", "0.4750", "(3,", "9)"]
    assert line.split()[7] == "0.4500"
    assert "the last 2 validations" in leaderboard(folder)
    assert f"the weights of {result['weights_of']} stand for a trial" in leaderboard(folder)
    rows = list(csv.DictReader(io.StringIO(csv_table([result]))))
    told = [rows[0][key] for key in ("value_first_epoch", "value_last_epoch", "last_value")]
    assert told == ["3", "9", "0.45"] and float(rows[0]["value"]) == pytest.approx(0.475)
    assert status(folder)["best"]["value"] == first["value"]
    assert "val/dice 0.4750, mean of epochs 3, 9, demo:3" in render(status(folder))


def test_the_best_is_a_searched_trial_with_a_finite_value():
    state = StudyState()
    for number, value in enumerate((0.9, math.inf, 0.2, 0.1)):
        trial = TrialState(number, {}, "sampled" if number else "control", protected=not number)
        trial.reports.append(Report(1, value, {}))
        state.trials[number] = trial
    low = STUDY.model_copy(update={"objective": Objective(metric="val/avd_ml", mode="min")})
    assert best_of(STUDY, state) is state.trials[2] and best_of(low, state) is state.trials[3]
    assert best_of(STUDY, StudyState()) is None


def test_the_page_rounds_once_and_as_the_terminal(tmp_path):
    """0.46514999 is 0.4651; by way of five digits it would be 0.4652."""
    folder = write(tmp_path / "demo", {2: ("sampled", [0.46514999], "stopped")})
    assert "  0.4651  " in leaderboard(folder)
    [row] = gather(folder)["trials"]
    assert row["value"] == row["dice"] == 0.46514999


@pytest.mark.parametrize("ending", ["failed", "diverged", "infeasible"])
def test_a_trial_that_came_to_nothing_has_no_rank_whatever_it_reported(tmp_path, ending):
    trials = {2: ("sampled", [0.2, 0.9], ending), 3: ("sampled", [0.3, 0.4], "stopped")}
    folder = write(tmp_path / "demo", trials)
    rows = [(row["rank"], row["trial"], row["value"]) for row in compare(folder)["trials"]]
    assert rows == [(1, 3, 0.4), (None, 2, 0.9)]
    assert status(folder)["best"]["trial"] == 3


def test_equal_epochs_are_smoothed(tmp_path):
    """As ASHA ranks: the mean of the last `smoothing` validations."""
    scheduler = STUDY.scheduler.model_copy(update={"smoothing": 2})
    result = compare(write(tmp_path / "demo", TRIALS, scheduler=scheduler))
    assert result["trials"][0]["value_at_equal"] == pytest.approx((0.4 + 0.5) / 2)


SEVERAL = (Objective(metric="time/case_s", mode="min"),)


def several(folder: Path, scores: dict[int, tuple[float, float]]) -> Path:
    """Write a study of two objectives: for each trial its Dice and its seconds a case."""
    config = STUDY.model_copy(update={"further_objectives": SEVERAL})
    with Ledger.open(folder / "ledger.jsonl", writer=True) as ledger:
        ledger.append({"event": "study", "config": config.model_dump(mode="json")})
        for number, (dice, case_s) in scores.items():
            about = {"trial": number, "epoch": 1}
            metrics = {"val/dice": dice, "time/case_s": case_s}
            ledger.append(
                {"event": "proposed", "trial": number, "params": PARAMS, "kind": "sampled"}
                | {"protected": False},
                {"event": "reported", **about, "value": dice, "metrics": metrics},
                {"event": "ended", **about, "ending": "completed", "reason": "why"},
            )
    return folder


def test_the_pareto_set_is_the_one_by_hand(tmp_path):
    """By hand: 3 is beaten by 2 and 5 by all; 6 equals 2, which beats neither."""
    scores = {2: (0.5, 1.0), 3: (0.4, 1.0), 4: (0.6, 9.0), 5: (0.1, math.nan), 6: (0.5, 1.0)}
    scores |= {7: (0.2, 0.5), 8: (math.nan, 0.1)}
    folder = several(tmp_path / "demo", scores)
    assert compare(folder)["pareto"] == [4, 2, 6, 7]
    lines = leaderboard(folder).splitlines()
    assert lines[3].split()[:2] == ["1*", "4"]
    begin = next(i for i, line in enumerate(lines) if line.startswith("* Pareto set"))
    assert [line.split()[:3] for line in lines[begin + 2 : begin + 6]] == [
        ["4", "0.6000", "9.0000"],
        ["2", "0.5000", "1.0000"],
        ["6", "0.5000", "1.0000"],
        ["7", "0.2000", "0.5000"],
    ]


@pytest.mark.parametrize("repeat", range(5))
def test_pareto_set_as_optunas(repeat):
    import optuna

    values = np.random.default_rng(repeat).integers(0, 6, size=(15, 3)).astype(float)
    objectives = [
        Objective(metric="val/dice", mode="max"),
        Objective(metric="val/avd_ml", mode="min"),
        Objective(metric="time/case_s", mode="min"),
    ]
    trials = []
    theirs = optuna.create_study(directions=["maximize", "minimize", "minimize"])
    for number, row in enumerate(values):
        trial = TrialState(number, {}, "sampled", False)
        metrics = dict(zip([o.metric for o in objectives], row, strict=True))
        trial.reports.append(Report(1, row[0], metrics))
        trials.append(trial)
        theirs.add_trial(optuna.create_trial(values=row))
    study = STUDY.model_copy(
        update={"objective": objectives[0], "further_objectives": objectives[1:]}
    )
    ours = {trial.number for trial in pareto(study, trials)}
    assert ours == {trial.number for trial in theirs.best_trials}


def test_one_objective_has_no_pareto_set(folder):
    assert compare(folder)["pareto"] == []
    assert "Pareto" not in leaderboard(folder)


def test_json_is_strict(folder):
    for result in (compare(folder), status(folder)):
        json.loads(json.dumps(result, allow_nan=False))


def test_leaderboard_for_a_pipe(folder, capsys):
    text = leaderboard(folder)
    lines = text.splitlines()
    assert "selected on, optimistic" in lines[0]
    assert lines[2].split() == [
        "rank", "trial", "status", "epochs", "Dice", "95", "%", "interval", "AVD", "mL", "lesion",
        "F1", "CPU-h", "difference", "to", "the", "best", "optimizer.lr", "diffusion.target",
    ]  # fmt: skip
    first = ["1", "3", "completed", "9", "0.5000", "[0.232,", "0.730]"]
    assert lines[3].split()[:7] == first and lines[3].split()[-2:] == ["0.0002", "eps"]
    assert lines.index("not ranked:") > lines.index(next(s for s in lines if "infeasible" in s))
    below = text[text.index("not ranked:") :]
    assert "control" in below and "tmax >= 6" in below and "0.3100" in below
    assert "ASHA saved 17% of the epochs of training all 4 ended trials to epoch 9" in lines
    assert text.isascii() or "\x1b" not in text


def test_leaderboard_on_a_terminal(folder, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "140")
    text = leaderboard(folder)
    assert "───" in text and "control" in text and "[0.232, 0.730]" in text


def test_a_study_with_nothing_in_it_yet(tmp_path):
    folder = write(tmp_path / "demo", {})
    assert compare(folder)["trials"] == []
    assert compare(folder)["epochs_saved"] is None
    assert "\nnothing reported yet\n" in leaderboard(folder)
    assert status(folder)["best"] is None
    assert "nothing reported yet" in render(status(folder))


def test_a_ledger_without_settings(tmp_path):
    Ledger.open(tmp_path / "ledger.jsonl", writer=True).close()
    with pytest.raises(ValueError, match="has no settings"):
        compare(tmp_path)


def test_status_counts_trials_by_ending(folder):
    result = status(folder)
    assert result["trials"] == {
        "completed": 1,
        "diverged": 1,
        "infeasible": 1,
        "stopped": 1,
        "waiting": 1,
    }
    assert result["references"] == {"completed": 2} and result["confirming"] == {}
    assert (
        "5 of 5 searched: 1 completed, 1 diverged, 1 infeasible, 1 stopped, 1 waiting; "
        "control completed; references: 1 completed" in render(result)
    )
    assert (result["searched"], result["num_trials"]) == (5, 5)
    assert (result["epochs"], result["max_epochs"]) == (9 + 9 + 3 + 9 + 3 + 0 + 1, 7 * 9)
    assert result["best"] == {"trial": 3, "epoch": 9, "value": 0.5, "epochs": [9]}
    assert result["control"] == {"trial": 0, "epoch": 9, "value": 0.6, "epochs": [9]}
    assert result["threshold_dice"] == 0.31
    assert 0 <= result["idle_s"] < 60
    assert (result["driver"], result["finished"]) == (None, False)
    assert "\nproblem " in render(result) and "segtune launch" in result["problem"]["line"]


def test_status_while_it_runs(folder):
    with Ledger.open(folder / "ledger.jsonl", writer=True) as ledger:
        assert status(folder)["trials"]["waiting"] == 1  # what ran before has lost its driver
        ledger.append({"event": "started", "trial": 6, "attempt": 2, "host": "h", "pid": 1})
        result = status(folder)
        assert result["trials"]["running"] == 1
        assert result["driver"].startswith("pid ")
        ledger.append({"event": "ended", "trial": 6, "ending": "failed", "epoch": 1, "reason": ""})
    result = status(folder)
    assert (result["driver"], result["finished"]) == (None, False)
    assert result["standing"].startswith("ended, 1 failed")
    assert "none; ended, 1 failed" in render(result)


def test_differences_are_the_ledgers_where_it_has_the_cases_and_the_parquets_elsewhere(tmp_path):
    folder = write(tmp_path / "demo", TRIALS)
    before = {row["trial"]: row["difference_to_best"] for row in compare(folder)["trials"]}
    study, state = read_study(folder)
    for trial in state.searched():
        run_dir = folder / "trials" / f"{trial.number:04d}"
        for index, report in enumerate(trial.reports):
            kept = kept_cases(lesion_dice(run_dir, report.epoch) or {})
            if kept:
                trial.reports[index] = report._replace(cases=kept[0], scores=kept[1])
        (run_dir / "cases.parquet").unlink(missing_ok=True)
    best = state.trials[3]
    rows = TrialRows(study, state, folder, None, best, driven=False)
    after = {trial.number: rows.row(trial)["difference_to_best"] for trial in state.searched()}
    assert after[2] == pytest.approx(before[2]) and after[6] == pytest.approx(before[6])
    assert after[2]["interval"] == pytest.approx(before[2]["interval"], abs=1e-4)
    best.reports[-1] = best.reports[-1]._replace(cases=CaseList(("a",), 2), scores=[0.5])
    assert dice_of(study, best, 9, tmp_path) is None  # not all cases, and no parquet
