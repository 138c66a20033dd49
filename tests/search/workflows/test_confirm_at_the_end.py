"""The section `confirm` of a study: its best told apart at a launch's end, within a share."""

import itertools
import json
import shutil
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.analysis.case_scores import case_metric
from search.analysis.intervals import ALPHA, Scale
from search.analysis.results import compare
from search.analysis.verdicts.significance import difference
from search.ledger.confirming import share_of
from search.ledger.journal import Event
from search.ledger.session import StudySession
from search.monitor.status import render, status
from search.monitor.study_list import list_studies
from search.report.leaderboard import leaderboard
from search.report.page_html import write_html
from search.report.side_by_side import side_by_side
from search.storage.studies import read_study
from search.study.config import StudyConfig
from search.study.load import load_study
from search.study.search_sections import Confirm
from search.workflows.archive.pseudonymous_files import ledger_lines
from search.workflows.archive.pseudonyms import Pseudonyms
from search.workflows.confirming.at_the_end import DRAWS, confirm_best
from search.workflows.confirming.looks import look_at, rounds
from search.workflows.preview.dry_run import preview
from tests.search import offline, trained_study
from tests.search.conftest import Driver, events, write_study
from trainer.configfile import ConfigError
from trainer.data.store import Store
from trainer.evaluation.validation_noise import validation_noise
from trainer.saved.model_io import load

UNBOUNDED = Scale(float("inf"), "max", float("-inf"))


def test_looks_come_when_every_fold_has_one_seed_more() -> None:
    assert [rounds(seeds) for seeds in (3, 4, 5, 8, 9)] == [[3], [4], [4, 5], [4, 8], [4, 8, 9]]


def looked(scores: dict[int, np.ndarray], better: str = "max", **about: Any) -> Any:
    scale = UNBOUNDED._replace(better=better)
    if better == "min":
        scale = Scale(float("inf"), "min", float("-inf"))

    def compare_two(one: int, other: int) -> Any:
        return difference([scores[one]], [scores[other]], scale)

    return look_at([*scores], compare_two, better, **about)


@pytest.mark.parametrize("better", ["max", "min"])
def test_a_look_tells_the_best_only_within_the_loss(better: str) -> None:
    """Another whose interval reaches further down than the loss stays open."""
    rng = np.random.default_rng(1)
    base = rng.normal(0.5, 0.1, (10, 30))
    sign = 1 if better == "max" else -1
    scores = {n: base + sign * up for n, up in {7: 0.0, 3: 0.3, 5: 0.29}.items()}
    scores = {n: values + rng.normal(0, 0.05, (1, 30)) for n, values in scores.items()}
    found = looked(scores, better, loss=0.001, num_looks=1, num_others=2)
    assert {found.best, found.closest} == {3, 5} and found.open == [found.closest]
    assert found.level == pytest.approx(1 - ALPHA / 2)
    ends = found.interval
    assert ends[0] < found.mean < ends[1]
    wide = looked(scores, better, loss=0.2, num_looks=1, num_others=2)
    assert wide.open == [] and wide.interval == ends
    corrected = looked(scores, better, loss=0.2, num_looks=3, num_others=40)
    assert corrected.level == pytest.approx(1 - ALPHA / 120)
    assert corrected.interval[1] - corrected.interval[0] > ends[1] - ends[0]


def test_a_choice_that_is_told_is_seldom_wrong() -> None:
    """The truly best is 0.05 better in a case's mean, which 12 cases of sd 0.1 often hide."""
    rng = np.random.default_rng(0)
    told = wrong = 0
    for _ in range(300):
        truth = {0: 0.5, 1: 0.45, 2: 0.45}
        scores = {n: rng.normal(mean, 0.1, (1, 12)).repeat(2, 0) for n, mean in truth.items()}
        found = looked(scores, loss=0.02, num_looks=1, num_others=2)
        told += not found.open
        wrong += not found.open and found.best != 0
    assert told > 10 and wrong <= 0.05 * 300


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the ledger's clock is a second after the one before."""
    clock = itertools.count()
    monkeypatch.setattr("search.ledger.journal.steady_s", lambda: float(next(clock)))


def ended(folder: Path, store: Path, **confirm: Any) -> StudyConfig:
    """Write a study whose search has ended: 4, 6, 2, 3, 5 from the best to the worst."""
    return offline.finished(folder, store, confirm={"budget_share": 0.9} | confirm)


def redrawn(session: StudySession, scores: dict[int, Any], seconds: float = 0.1) -> None:
    """Record validations with other noise, draws of six cases."""
    if not session.state.case_lists:
        names = [f"case{n}" for n in range(6)]
        session.record({"event": "cases", "case_list": 0, "names": names, "of": 6})
    for number, draws in scores.items():
        about = {"trial": number, "epoch": session.state.trials[number].epoch, "case_list": 0}
        session.record(
            {"event": "redrawn", **about, "draws": np.asarray(draws).tolist(), "seconds": seconds}
        )


def tell(config: StudyConfig, folder: Path, scores: dict[int, Any] | None = None) -> list[int]:
    """Tell the best of a study apart, and return which trials were trained for it."""
    trained: list[int] = []
    with offline.opened(config, folder) as session:
        redrawn(session, scores or {})

        def train(numbers: Iterable[int]) -> None:
            trained.extend(numbers := [*numbers])
            offline.run_study(session, only=numbers)

        confirm_best("local", session, train)
    return trained


def newest(folder: Path) -> Event:
    return events(folder, "confirmed")[-1]


def noisy(mean: float, seed: int) -> np.ndarray:
    """Ten draws of six cases, each with its own Dice."""
    rng = np.random.default_rng(seed)
    return np.clip(mean + np.linspace(-0.02, 0.02, 6) + rng.normal(0, 0.004, (10, 6)), 0, 1)


@pytest.mark.usefixtures("seconds")
def test_other_noise_alone_may_tell_it(
    tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is trained; corrected for all five that competed, and for both looks."""
    config = ended(tmp_path / "toy", store, loss=0.5)
    assert (
        tell(config, tmp_path / "toy", {4: noisy(0.6, 1), 6: noisy(0.7, 2), 2: noisy(0.5, 3)}) == []
    )
    found = newest(tmp_path / "toy")
    assert (found["told"], found["by"], found["best"], found["draws"]) == (True, "noise", 6, 10)
    assert found["candidates"] == [6, 4, 2] and found["level"] == pytest.approx(1 - 0.05 / 2 / 4)
    assert "confirm    the best 3, for at most" in capsys.readouterr().out
    study, state = read_study(tmp_path / "toy")
    assert state.finished(study) and not state.confirming()
    assert share_of(study, state.meter).spent == pytest.approx(0.3 / 3600)


@pytest.mark.usefixtures("seconds")
def test_what_noise_does_not_tell_is_trained_again(tmp_path: Path, store: Path) -> None:
    """Only those that are open; on other folds, and another launch trains nothing.

    Of the four other folds the share pays for three.
    """
    folder = tmp_path / "toy"
    config = ended(folder, store, loss=0.25)
    scores = {4: noisy(0.7, 1), 6: noisy(0.7, 2), 2: noisy(0.1, 3)}
    assert len(tell(config, folder, scores)) == 6
    state = read_study(folder)[1]
    assert {trial.of for trial in state.confirming()} == {4, 6}
    assert [(t.seed, t.fold) for t in state.confirming()[::2]] == [(2, 1), (3, 2), (4, 3)]
    found = newest(folder)
    assert (found["told"], found["by"], found["best"], found["other"]) == (True, "seeds", 4, 6)
    assert found["spent"] <= found["limit"]
    [verdict] = state.verdicts
    assert [row["trial"] for row in verdict["scores"]] == [4, 6] and verdict["margin"] == 0.25
    assert tell(config, folder) == [] and len(events(folder, "verdict")) == 1


@pytest.mark.usefixtures("seconds")
def test_the_share_is_kept_to(tmp_path: Path, store: Path) -> None:
    """Of three candidates two are trained, on as many folds as it pays for; then that is said."""
    folder = tmp_path / "toy"
    config = ended(folder, store, loss=1e-4, seeds=12)
    trained = tell(config, folder)
    study, state = read_study(folder)
    share, found = share_of(study, state.meter), newest(folder)
    assert 6 <= len(trained) < 36
    assert found["spent"] == share.spent <= share.limit
    assert not found["told"] and "do not pay for more seeds" in found["why"]
    assert state.finished(study)
    more = config.model_copy(update={"confirm": config.confirm.model_copy(update={"seeds": 11})})
    assert not state.finished(more), "other settings are another question"


@pytest.mark.usefixtures("seconds")
def test_too_small_a_share_trains_nothing(tmp_path: Path, store: Path) -> None:
    folder = tmp_path / "toy"
    config = ended(folder, store, budget_share=0.01)
    assert tell(config, folder) == []
    found = newest(folder)
    study, state = read_study(folder)
    assert "of the share do not pay for more seeds" in found["why"] and found["by"] is None
    assert f"{found['limit']:.3g}" in found["why"]
    assert share_of(study, state.meter).limit == pytest.approx(found["limit"])


@pytest.mark.usefixtures("seconds")
def test_a_kill_pays_nothing_twice(tmp_path: Path, store: Path) -> None:
    folder = tmp_path / "toy"
    config = ended(folder, store, loss=1e-4)
    with offline.opened(config, folder) as session:

        def killed(numbers: Iterable[int]) -> None:
            offline.run_study(session, only=[*numbers][:3])
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            confirm_best("local", session, killed)
    study, state = read_study(folder)
    assert not state.finished(study) and not events(folder, "confirmed")
    [about] = list_studies(tmp_path, [folder])["studies"]
    assert about["state"] == "not confirmed yet"
    again = tell(config, folder)
    assert len({*again}) == len(again) and not {*again} & {
        t.number for t in state.confirming() if t.ending
    }
    state = read_study(folder)[1]
    assert len(state.confirming()) == len(events(folder, "started")) - 7
    assert newest(folder)["spent"] <= newest(folder)["limit"]


@pytest.mark.usefixtures("seconds")
def test_a_study_that_is_told_to_stop_concludes_nothing(tmp_path: Path, store: Path) -> None:
    folder = tmp_path / "toy"
    config = ended(folder, store)
    with offline.opened(config, folder) as session:

        def stopped(numbers: Iterable[int]) -> None:
            session.stopping = "the stop file"

        confirm_best("local", session, stopped)
    assert not events(folder, "confirmed") and not events(folder, "verdict")


@pytest.mark.usefixtures("seconds")
def test_the_budget_of_the_study_counts(tmp_path: Path, store: Path) -> None:
    """What is redrawn is paid for, and confirming trials end with the study's budget."""
    config = ended(tmp_path / "toy", store)
    with offline.opened(config, tmp_path / "toy") as session:
        before = session.state.meter.spent(config.trials)["cpu_hours"]
        by_trial = {**session.state.meter.by_trial}
        redrawn(session, {4: noisy(0.5, 1)}, seconds=36.0)
        assert session.state.meter.spent(config.trials)["cpu_hours"] == pytest.approx(before + 0.01)
        assert session.state.meter.by_trial == by_trial
        session.only, session.shares = frozenset({99}), True
        session.most_hours = before + 0.02
        assert session.overspent() is None
        redrawn(session, {6: noisy(0.5, 1)}, seconds=36.0)
        assert session.overspent() == {
            "event": "budget", "what": "cpu_hours", "share": True,
            "spent": round(before + 0.02, 4), "limit": round(before + 0.02, 4),
        }  # fmt: skip
        session.study = config.model_copy(
            update={"budget": config.budget.model_copy(update={"epochs": 1})}
        )
        spent = session.overspent()
        assert spent and spent["what"] == "epochs" and "share" not in spent


@pytest.mark.usefixtures("seconds")
def test_a_trial_that_ends_later_asks_again(tmp_path: Path, store: Path) -> None:
    """Of a search that goes on (enqueue, resume, more trials), what was told is of before."""
    folder = tmp_path / "toy"
    config = ended(folder, store, budget_share=0.01)
    tell(config, folder)
    with offline.opened(config, folder) as session:
        assert session.finished
        about = {"trial": 5, "epoch": 3}
        session.record({"event": "resumed", **about, "epochs": 4})
        assert not session.state.searched_out(config)
        offline.end(session, session.state.trials[5], "stopped")
        assert session.state.searched_out(config) and not session.finished
        assert session.state.confirmed is None


def test_confirming_trials_wait_while_the_search_runs(tmp_path: Path, store: Path) -> None:
    """With the section a launch's search does not train them; without it it goes on with all."""
    config = ended(tmp_path / "toy", store)
    proposed = {"event": "proposed", "trial": 7, "params": {}, "kind": "confirm", "protected": True}
    with offline.opened(config, tmp_path / "toy") as session:
        session.record(proposed | {"of": 4, "seed": 2, "fold": 1, "epochs": 3})
        assert session.live() == [] and session.state.searched_out(config)
        session.study = config.model_copy(update={"confirm": None})
        assert [trial.number for trial in session.live()] == [7] and not session.finished


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"confirm": {"budget_share": 1}}, "confirm.budget_share: 1"),
        ({"confirm": {"budget_share": 0}}, "confirm.budget_share: 0"),
        ({"confirm": {"budget_share": 0.2, "seeds": 2}}, "confirm.seeds: 2"),
        ({"confirm": {"budget_share": 0.2, "top": 1}}, "confirm.top: 1"),
        ({"confirm": {"budget_share": 0.2, "loss": -1}}, "confirm.loss: -1"),
        ({"confirm": {"budget_shares": 0.2}}, "did you mean confirm.budget_share?"),
        ({"confirm": 0.2}, "confirm"),
        (
            {
                "confirm": {"budget_share": 0.2},
                "objective": {"metric": "val/hd95_mm", "mode": "min"},
            },
            "confirm.loss: required for val/hd95_mm, which is no score between 0 and 1",
        ),
        (
            {
                "confirm": {"budget_share": 0.2},
                "objective": {"metric": "train/loss", "mode": "min"},
            },
            "confirm: objective.metric train/loss is no mean over cases",
        ),
        (
            {"confirm": {"budget_share": 0.2}, "train": {"init_from": "somewhere"}},
            "confirm: train.init_from: those weights were trained on the folds",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    tmp_path: Path, store: Path, given: dict[str, Any], line: str
) -> None:
    path = write_study(tmp_path, store, enqueue=[], **given)
    with pytest.raises(ConfigError) as error:
        load_study(path)
    assert line in str(error.value)
    assert all(each.startswith(f"{path}: ") for each in str(error.value).splitlines())


def test_metrics_without_cases_are_those_that_confirm_refuses() -> None:
    from search.analysis.case_scores import CASE_METRICS
    from search.study.own_checks import METRICS, SCORES, WITHOUT_CASES

    assert {*WITHOUT_CASES} == METRICS.keys() - CASE_METRICS.keys()
    assert {*SCORES} == {n for n in CASE_METRICS if case_metric(n).scale.most == 1}


def test_a_study_without_the_section_is_as_before(tmp_path: Path, store: Path) -> None:
    with_it = offline.study(store, confirm={"budget_share": 0.2})
    without = offline.study(store)
    assert "confirm" not in without.model_dump()
    assert with_it.config_hash() == without.config_hash()
    assert with_it.confirm and with_it.confirm.tolerated == 0.01


@pytest.mark.usefixtures("seconds")
def test_every_surface_says_it(tmp_path: Path, store: Path) -> None:
    folder = tmp_path / "toy"
    config = ended(folder, store, loss=0.25)
    assert "the best 3, for at most 0.9 of the search's CPU-hours, as about 19" in preview(config)
    assert "0 of 0.00" in status(folder)["confirm"]["line"]
    tell(config, folder, {4: noisy(0.7, 1), 6: noisy(0.7, 2), 2: noisy(0.1, 3)})
    said = "trial 4 is told from trial 6: Dice +0."
    result = compare(folder)
    json.dumps(result, allow_nan=False)
    assert result["confirmation"]["best"] == 4
    assert f"confirmed: {said}" in leaderboard(folder)
    assert said in render(status(folder))
    assert said in side_by_side([folder, folder])
    write_html([folder], tmp_path / "page.html")
    assert said in (tmp_path / "page.html").read_text()


@pytest.mark.usefixtures("seconds")
def test_pseudonyms_keep_scores_with_their_cases(tmp_path: Path, store: Path) -> None:
    folder = tmp_path / "toy"
    config = ended(folder, store)
    draws = [[0.1 * place for place in range(6)], [0.05 + 0.1 * place for place in range(6)]]
    with offline.opened(config, folder) as session:
        redrawn(session, {4: draws})
    names = {f"case{n}" for n in range(6)}
    pseudonyms = Pseudonyms(names, b"key")
    lines = [*ledger_lines((folder / "ledger.jsonl").read_bytes(), pseudonyms)]
    found = [json.loads(line) for line in lines]
    listed = next(each["names"] for each in found if each["event"] == "cases")
    there = next(each["draws"] for each in found if each["event"] == "redrawn")
    by_name = dict(zip(listed, there[0], strict=True))
    assert {by_name[pseudonyms.text(f"case{n}", key="names")]: n for n in range(6)} == {
        0.1 * n: n for n in range(6)
    }


@pytest.mark.slow
def test_real_weights_are_validated_with_other_noise(
    trained_runs: Path, tmp_path: Path, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `validation_noise` does it; what the ledger has is not drawn again."""
    joined = "search.workflows.confirming.models.ray_session"
    monkeypatch.setattr(joined, lambda address: nullcontext())  # this process has joined already
    shutil.copytree(trained_runs / "demo", tmp_path / "demo")
    settings = {"budget_share": 0.99, "loss": 0.99, "top": 2}
    study = read_study(tmp_path / "demo")[0]
    config = study.model_copy(update={"confirm": Confirm(**settings)})

    def train(numbers: Iterable[int]) -> None:
        raise AssertionError("nothing needs to be trained")

    with offline.opened(config, tmp_path / "demo") as session:
        offline.end(session, session.state.trials[trained_study.GOING_ON], "stopped")
        confirm_best(cluster, session, train)
        confirm_best(cluster, session, train)
    drawn = events(tmp_path / "demo", "redrawn")
    assert {each["trial"] for each in drawn} == {trained_study.GOOD, trained_study.BAD}
    assert len(drawn) == 2 and all(2 <= len(each["draws"]) <= DRAWS for each in drawn)
    for each in drawn:
        run_dir = tmp_path / "demo" / "trials" / f"{each['trial']:04d}"
        trained, store = load(run_dir, "cpu"), Store.open(config.data.store)
        cases = store.split(config.data.fold)[1]
        spread = validation_noise(trained, store, cases, len(each["draws"]))["val/dice"]
        assert np.mean(each["draws"]) == pytest.approx(spread.mean, abs=1e-4)
        assert np.std(np.mean(each["draws"], axis=1), ddof=1) == pytest.approx(spread.std, abs=1e-4)
    found = newest(tmp_path / "demo")
    assert found["by"] == "noise" and found["best"] in (trained_study.GOOD, trained_study.BAD)


@pytest.mark.slow
def test_a_killed_driver_goes_on_within_the_share(
    tmp_path: Path, store: Path, cluster: str, empty_database: Path
) -> None:
    runs = tmp_path / "runs"
    path = write_study(
        runs,
        store,
        {"slow": 0.2},
        scheduler={"type": "none", "max_t": 3},
        trials={"num_trials": 6, "cpus_per_trial": 1},
        confirm={"budget_share": 0.95, "loss": 1e-4, "top": 2, "seeds": 3},
    )
    shutil.copy(empty_database, runs / "mlflow.db")
    driver = Driver(path, runs, cluster)

    def one_has_ended() -> bool:
        again = {e["trial"] for e in driver.events("proposed") if e["kind"] == "confirm"}
        return any(e["trial"] in again for e in driver.events("ended"))

    try:
        driver.wait_for(one_has_ended, timeout_s=960)
    finally:
        driver.kill()
    assert not driver.events("confirmed")
    out = Driver(path, runs, cluster).finish()
    [found] = driver.events("confirmed")
    study, state = read_study(driver.folder)
    assert len(state.confirming()) == 6 and state.finished(study)
    assert "completed" in {trial.ending for trial in state.confirming()}
    seconds = state.meter.by_trial
    longest = max(seconds.get(trial.number, 0) for trial in state.confirming()) / 3600
    assert found["spent"] <= found["limit"] + longest
    assert not found["told"] and found["why"] in out
    assert f"confirm    the best 2, for at most {found['limit']:.3g} CPU-hours" in out
    started = len(driver.events("started"))
    assert found["why"] in Driver(path, runs, cluster).finish()
    assert len(driver.events("started")) == started and len(driver.events("confirmed")) == 1
