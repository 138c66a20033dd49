"""The best trials trained again, and judged."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

import search.workflows.confirming.confirm
from search.analysis.ranking import ranked
from search.analysis.results import compare
from search.report.leaderboard import leaderboard
from search.storage.studies import read_study
from search.tracking.tracker import send_rest
from search.workflows.confirming.confirm import confirm
from search.workflows.confirming.plan import cost, describe, kept_to, make_plan, proposals
from tests.search import offline, toy
from tests.search.conftest import Driver, events
from tests.search.toy import dice
from tests.search.workflows.confirmed_study import (
    confirming,
    folder,
    newest,
    no_weights_and_no_mlflow,
    words,
)
from tests.search.workflows.test_resume import cli, copied, driver
from trainer.configfile import ConfigError

__all__ = ["copied", "folder", "no_weights_and_no_mlflow"]


def test_what_is_trained(folder: Path) -> None:
    """The best two, the control and the reference, on the same seeds and other folds."""
    before = events(folder)
    assert confirm(folder, top=2, seeds=3) == 0
    assert events(folder)[: len(before)] == before
    trials = confirming(folder)
    pairs = [(2, 1), (3, 2), (4, 3)]
    assert [(t.of, (t.seed, t.fold)) for t in trials] == [
        (of, pair) for pair in pairs for of in (4, 6, 0, 1)
    ]
    assert {t.epochs for t in trials} == {3} and all(t.protected for t in trials)
    study, state = read_study(folder)
    for trial in trials:
        again = state.trials[trial.of]
        config, before = trial.config(study), again.config(study)
        assert (config.seed, config.data.fold) == (trial.seed, trial.fold)
        assert config.model_dump(exclude={"seed", "data"}) == before.model_dump(
            exclude={"seed", "data"}
        )
        assert trial.ending == "completed"


def test_one_candidate_meets_the_runner_up(folder: Path) -> None:
    confirm(folder, top=1, seeds=5)
    assert [t.of for t in confirming(folder)[:4]] == [4, 6, 0, 1]
    assert [t.fold for t in confirming(folder)[::4]] == [1, 2, 3, 4, 1], "never the search's own"
    assert ("runner-up", 4, 6) in words(newest(folder))


def test_the_verdicts_follow_from_the_known_dice(folder: Path) -> None:
    """The toy's Dice is known: the best are better than the control, and those are 0.015 apart."""
    confirm(folder, top=2, seeds=3)
    verdict = newest(folder)
    assert [row["trial"] for row in verdict["scores"]] == [4, 6, 0, 1]
    for row in verdict["scores"]:
        lr = read_study(folder)[1].trials[row["trial"]].params.get("optimizer.lr", 1e-4)
        assert row["by_seed"] == pytest.approx([dice(lr, 3, fold) for fold in (1, 2, 3)])
        assert row["interval"][0] < row["mean"] < row["interval"][1]
        assert row["num_cases"] == [6, 6, 6]
    assert words(verdict) == {
        ("control", 4, 0): "better",
        ("control", 6, 0): "better",
        ("reference", 4, 1): "better",
        ("reference", 6, 1): "better",
        ("runner-up", 4, 6): "not distinguishable",
    }
    against = {(c["family"], c["trial"]): c for c in verdict["comparisons"]}
    for comparison in against.values():
        assert comparison["mean"] == pytest.approx(np.mean(comparison["by_seed"]))
    levels = sorted(against["control", trial]["level"] for trial in (4, 6))
    assert levels == pytest.approx([0.95, 0.975]), "Holm over the two candidates"
    assert verdict["margin"] is None and verdict["seeds"] == [2, 3, 4]


def test_equivalent_within_a_margin(folder: Path) -> None:
    confirm(folder, top=2, seeds=4, margin=0.3)
    assert words(newest(folder))["runner-up", 4, 6] == "equivalent"


def test_the_same_again_and_more_seeds(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is trained twice; an interrupted one goes on; seeds are added; MLflow has all."""
    monkeypatch.setattr(search.workflows.confirming.confirm, "send_rest", send_rest)

    def killed(session, address, only, fit):
        offline.train(session, session.state.live()[0])
        raise KeyboardInterrupt

    monkeypatch.setattr(search.workflows.confirming.confirm, "run_study", killed)
    with pytest.raises(KeyboardInterrupt):
        confirm(folder, top=2, seeds=3)
    monkeypatch.setattr(search.workflows.confirming.confirm, "run_study", offline.run_study)
    confirm(folder, top=2, seeds=3)
    confirm(folder, top=2, seeds=3)
    assert len(confirming(folder)) == len(events(folder, "started")) - 7 == 12
    assert len(events(folder, "verdict")) == 1, "the same verdict is recorded once"
    confirm(folder, top=2, seeds=4)
    assert len(confirming(folder)) == 16
    assert newest(folder)["seeds"] == [2, 3, 4, 5]
    confirm(folder, top=1, seeds=3)
    assert len(confirming(folder)) == 16, "all of it was there"


def test_not_all_have_ended(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(search.workflows.confirming.confirm, "run_study", lambda *_, **__: 0)
    assert confirm(folder, top=1, seeds=3) == 0
    assert "the same command again continues" in capsys.readouterr().out
    assert not events(folder, "verdict")


def test_a_dry_run_shows_the_plan_and_writes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (folder / "ledger.jsonl").read_bytes()
    assert confirm(folder, top=1, seeds=3, dry_run=True) == 0
    out = capsys.readouterr().out
    assert "candidate 4, runner-up 6, control 0, reference 1" in out
    assert "12 of 3 epochs, 0 of them begun before" in out
    assert (folder / "ledger.jsonl").read_bytes() == before


def test_epochs_are_the_longest_goal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a resumed trial, its new one; and everything is compared at equal epochs."""
    monkeypatch.setattr(search.workflows.resume, "run_study", offline.run_study)
    search.workflows.resume.resume(folder, top=1, epochs=6)
    confirm(folder, top=2, seeds=3)
    assert {(t.epochs, t.epoch) for t in confirming(folder)} == {(6, 6)}
    confirm(folder, top=2, seeds=3, epochs=4)
    assert {t.epochs for t in confirming(folder)[12:]} == {4}
    assert newest(folder)["epochs"] == 4


def test_confirming_trials_stay_apart(folder: Path) -> None:
    """They are in no ranking and no reference; the leaderboard shows what they found."""
    before = compare(folder)
    confirm(folder, top=2, seeds=3)
    after = compare(folder)
    for key in ("trials", "references", "epochs_saved", "equal_epoch"):
        assert after[key] == before[key]
    json.dumps(after, allow_nan=False)
    [verdict] = after["verdicts"]
    assert verdict["on"] == "validation"
    text = leaderboard(folder)
    assert "confirmed on folds 1, 2, 3, which did not select them:" in text
    assert "trial 4 is better than the control (trial 0): Dice +0." in text
    assert "trial 4 and the runner-up (trial 6) are not distinguishable" in text
    assert "are exploratory: the verdicts below say more" in text
    study, state = read_study(folder)
    assert [t.number for t in ranked(study, state.searched())] == [4, 6, 2, 3, 5]


def test_readable_without_the_folders(folder: Path) -> None:
    confirm(folder, top=2, seeds=3)
    text = leaderboard(folder)
    shutil.rmtree(folder / "trials")
    assert leaderboard(folder)[-800:] == text[-800:]


def test_zero_epochs_keep_the_fold_and_vary_the_seed(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fold stays and only the seed varies; there is no control."""
    monkeypatch.setattr(search.workflows.confirming.confirm, "run_study", lambda *_, **__: 0)
    scheduler = {"type": "none", "max_t": 0}
    train = {"init_from": "somewhere"}
    config = offline.study(store, scheduler=scheduler, train=train)
    with offline.opened(config, tmp_path / "toy") as session:
        offline.propose(session)
        for trial in session.state.live():
            value = dice(trial.params["optimizer.lr"], 1)
            about = {"trial": trial.number, "epoch": 0, "value": value}
            session.record({"event": "reported", **about, "metrics": {"val/dice": value}})
            offline.end(session, trial, "completed")
    confirm(tmp_path / "toy", top=1, seeds=3)
    trials = confirming(tmp_path / "toy")
    assert {(t.fold, t.epochs) for t in trials} == {(0, 0)}
    assert [t.of for t in trials] == [3, 5, 0] * 3
    assert [t.seed for t in trials[::3]] == [2, 3, 4]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--seeds", "2"], "--seeds 2: must be at least 3"),
        (["--top", "6"], "--top 6: only 5 searched trials have a result"),
        (["--trial", "0"], "toy:0: no searched trial with a result"),
        (["--margin", "1.5"], "--margin 1.5: must lie between 0 and 1"),
        (["--gpu-hours", "-1"], "--gpu-hours -1.0: must be above 0"),
        (["--gpu-hours", "9"], "--gpu-hours 9: toy's trials run on the CPU (gpus_per_trial 0)"),
        (["--epochs", "4"], "--epochs 4: must be a multiple of train.validation.every (3)"),
    ],
)
def test_what_cannot_be_confirmed_is_refused(
    tmp_path: Path, store: Path, words: list[str], line: str
) -> None:
    offline.finished(tmp_path / "runs" / "toy", store, train={"validation.every": 3})
    assert line in cli(tmp_path / "runs" / "toy", "confirm", *words)


def test_what_did_not_get_on_is_no_candidate(folder: Path, tmp_path: Path, store: Path) -> None:
    """The best by its last value, but failed: the next ones are."""
    config = offline.study(store)
    with offline.opened(config, tmp_path / "other") as session:
        offline.propose(session)
        for trial in session.state.live():
            ending = {4: "failed", 6: "diverged"}.get(trial.number)
            if ending is None:
                offline.train(session, trial)
                continue
            value = dice(trial.params["optimizer.lr"], 2)
            about = {"trial": trial.number, "epoch": 2, "value": value}
            session.record({"event": "reported", **about, "metrics": {"val/dice": value}})
            offline.end(session, trial, ending)
        assert make_plan(config, session.state, top=2, num_seeds=3).candidates == [2, 3]
        with pytest.raises(ConfigError, match=r"toy:4: failed \(why\): no candidate"):
            make_plan(config, session.state, top=1, trials=[4], num_seeds=3)


def test_no_configuration_is_trained_twice(
    tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second best is the best once more, and the reference is the third."""
    config = offline.study(store, enqueue=[{"optimizer.lr": 3e-4, "protected": True}])
    folder = tmp_path / "toy"
    with offline.opened(config, folder) as session, pytest.MonkeyPatch.context() as patch:
        patch.setattr(offline, "LR", (3e-4, 1e-2, 9e-4, 9e-4, 2e-3))
        offline.propose(session)
        for trial in session.state.live():
            offline.train(session, trial)
        plan = make_plan(config, session.state, top=3, num_seeds=3)
        assert plan.trials == [4, 6, 2, 0], "as the ranking has them"
        assert plan.equals == {1: 2, 5: 4}
        assert make_plan(config, session.state, top=0, trials=[5], num_seeds=3).candidates == [4]
        assert make_plan(config, session.state, top=1, num_seeds=3).references == [1]
    confirm(folder, top=3, seeds=3, dry_run=True)
    assert "not again  trial 1 has the configuration of trial 2" in capsys.readouterr().out


def test_hours_are_shown_and_kept_to(tmp_path: Path, store: Path) -> None:
    """Three trainings of 3 quarters of an hour for a seed: 3 GPU-hours have room for one."""
    config = offline.study(store, trials={"num_trials": 5, "gpus_per_trial": 1})
    with offline.opened(config, tmp_path) as session:
        offline.propose(session)
        for trial in session.state.live():
            offline.train(session, trial)
        state = session.state
        state.meter.by_trial = dict.fromkeys(state.trials, 2700.0)
        plan = make_plan(config, state, top=2, num_seeds=4)
        assert cost(plan, config, state, plan.pairs) == pytest.approx(4 * 4 * 0.75)
        kept = kept_to(plan, config, state, 7.0)
        assert kept.pairs == plan.pairs[:2]
        state.trials[4].reports[-1].metrics["time/validate_s"] = 45.0
        lines = describe(plan, config, state, kept).splitlines()
        trained = "cost       about 6 GPU-hours of training, at the pace of these trials so far"
        used = "2 models of the best as they are used, 80 validations each: about 2 GPU-hours more"
        assert f"{trained}; {used}" in lines
        assert trained in describe(plan, config, state, kept, as_used=False).splitlines()
        assert lines[-1] == "left out   4 on 3, 5 on 4: about 6 GPU-hours more"
        with pytest.raises(ConfigError, match=r"2\.9: is not enough .* about 3 GPU-hours"):
            kept_to(plan, config, state, 2.9)
        for hours in (0.0, -1.0, math.nan, math.inf):
            with pytest.raises(ConfigError, match=r"--gpu-hours .*: must be above 0"):
                kept_to(plan, config, state, hours)
        control = state.trials[0]
        reports, control.reports = control.reports, []
        assert cost(plan, config, state, plan.pairs) == pytest.approx(4 * 4 * 0.75)
        control.reports = reports
        session.record(*proposals(kept, state))
        again = state.confirming()
        for trial in again[:4]:
            offline.train(session, trial)
            state.meter.by_trial[trial.number] = 1350.0  # twice as fast as it was in the search
        assert cost(plan, config, state, plan.pairs) == pytest.approx(3 * 4 * 0.375)
        assert kept_to(plan, config, state, 3.1).pairs == plan.pairs[:3]
        state.meter.by_trial.clear()
        assert "cost       not known" in describe(plan, config, state, plan)
        with pytest.raises(ConfigError, match="nobody knows"):
            kept_to(plan, config, state, 5.0)


def test_what_takes_longer_than_it_should_is_interrupted(tmp_path: Path, store: Path) -> None:
    """GPU-hours that are spent end trials that were asked for by name, as a budget ends others."""
    config = offline.study(store, trials={"num_trials": 5, "gpus_per_trial": 1})
    with offline.opened(config, tmp_path) as session:
        offline.propose(session)
        session.only = frozenset({2})
        assert session.overspent() is None
        session.most_hours = 1.0
        session.state.meter._by_size = {None: {2: 3599.0}}
        assert session.overspent() is None
        session.state.meter._by_size = {None: {2: 3600.0}}
        spent = session.overspent()
        assert spent and (spent["what"], spent["limit"]) == ("gpu_hours", 1.0)


def test_the_objective_is_judged_with_dice_beside(
    tmp_path: Path, store: Path, empty_database: Path, plain_pictures: None,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The official Dice, which averages the empty case as well."""
    monkeypatch.setattr(search.workflows.confirming.confirm, "run_study", offline.run_study)
    measured = toy._metrics

    def metrics(*about):
        return (found := measured(*about)) | {"val/dice_official": found["val/dice"]}

    monkeypatch.setattr(toy, "_metrics", metrics)
    folder = tmp_path / "runs" / "toy"
    offline.finished(folder, store, objective={"metric": "val/dice_official"})
    shutil.copy(empty_database, tmp_path / "runs" / "mlflow.db")
    confirm(folder, top=1, seeds=3)
    verdict = newest(folder)
    assert verdict["metric"] == "val/dice_official"
    best = verdict["scores"][0]
    assert best["num_cases"] == [7, 7, 7]
    assert best["dice"]["mean"] == pytest.approx(np.mean([dice(9e-4, 3, f) for f in (1, 2, 3)]))
    assert best["mean"] != pytest.approx(best["dice"]["mean"])
    out = capsys.readouterr().out
    assert "val/dice_official 95 % interval Dice 95 % interval" in " ".join(out.split())
    assert "objective  val/dice_official, max" in out
    assert "is better than the control (trial 0): val/dice_official +" in leaderboard(folder)


def test_an_objective_that_is_no_mean_over_cases(tmp_path: Path, store: Path) -> None:
    objective = {"metric": "train/loss", "mode": "min"}
    offline.finished(tmp_path / "runs" / "toy", store, objective=objective)
    line = "toy: objective: train/loss: is no mean over cases, of which verdicts are"
    assert line in cli(tmp_path / "runs" / "toy", "confirm", "--dry-run")


def test_refused_before_the_end_of_the_search(tmp_path: Path, store: Path) -> None:
    with offline.opened(offline.study(store), tmp_path / "toy") as session:
        offline.propose(session)
    with pytest.raises(ConfigError, match="the search is not finished"):
        confirm(tmp_path / "toy", top=1, seeds=3)


def test_others_beside_the_best(folder: Path) -> None:
    study, state = read_study(folder)
    for top, trials, candidates in ((1, [3], [4, 3]), (2, [3, 4], [4, 6, 3]), (1, [4], [4])):
        plan = make_plan(study, state, top=top, trials=trials, num_seeds=3)
        assert plan.candidates == candidates
        assert plan.runner_up == (6 if candidates == [4] else None)


def test_a_spent_budget_ends_the_search(tmp_path: Path, store: Path) -> None:
    """What has a result by then is confirmed; no more of the plan is trained."""
    config = offline.study(store, budget={"epochs": 12})
    with offline.opened(config, tmp_path) as session:
        offline.propose(session)
        for trial in session.state.live()[:4]:
            offline.train(session, trial)
        assert make_plan(config, session.state, top=1, num_seeds=3).trials == [2, 3, 0, 1]


def test_weights_from_elsewhere_may_have_seen_the_other_folds(tmp_path: Path, store: Path) -> None:
    config = offline.study(store)
    with offline.opened(config, tmp_path) as session:
        offline.propose(session)
        for trial in session.state.live():
            offline.train(session, trial)
        config = offline.study(store, train={"init_from": "runs/one"})
        with pytest.raises(ConfigError, match=r"train\.init_from: those weights"):
            make_plan(config, session.state, top=1, num_seeds=3)
    config = offline.study(store, control={"init_from": "/elsewhere/model.pt"})
    with offline.opened(config, tmp_path / "control") as session:
        offline.propose(session)
        for trial in session.state.live():
            offline.train(session, trial)
        with pytest.raises(ConfigError, match="toy:0: init_from: its first weights may have been"):
            make_plan(config, session.state, top=1, num_seeds=3)


def test_cases_of_another_disk(folder: Path) -> None:
    confirm(folder, top=1, seeds=3)
    (folder / "trials" / "0007" / "cases.parquet").unlink()
    with pytest.raises(ConfigError, match=r"0007/cases\.parquet: val/dice is not at hand"):
        confirm(folder, top=1, seeds=3)


@pytest.mark.slow
def test_ray_and_mlflow_as_far_as_a_verdict(copied: Path, cluster: str, calm: Driver) -> None:
    """Real Ray and MLflow, as far as a verdict."""
    from mlflow import MlflowClient

    process = driver(copied, cluster, confirm, top=1, seeds=3)
    assert process.wait(720) == 0, process.log.read_text()
    out = process.log.read_text()
    assert "confirmed on folds 1, 2, 3" in out and "Traceback" not in out
    trials = confirming(copied)
    assert len(trials) == 12 and {t.ending for t in trials} == {"completed"}
    client = MlflowClient(f"sqlite:///{copied.parent / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("toy").experiment_id
    shown = client.search_runs([experiment], "tags.kind = 'confirm'")
    assert {run.data.params["data.fold"] for run in shown} == {"1", "2", "3"}
    assert {run.data.tags["seed"] for run in shown} == {"2", "3", "4"}
    assert sorted(int(run.data.tags["confirms"]) for run in shown) == sorted(t.of for t in trials)
    searched = calm.events("proposed")
    proposed = [event for event in events(copied) if event["event"] == "proposed"]
    assert proposed[: len(searched)] == searched
