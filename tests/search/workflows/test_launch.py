"""Real Ray, real Optuna, real MLflow; only the trainer is a toy."""

import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search.ledger.journal import Ledger
from search.monitor.status import status
from search.storage.studies import read_study
from search.study.load import load_study
from search.workflows.launch import _create_or_continue, launch
from tests.search.conftest import Driver, events, write_study
from tests.search.toy import dice
from trainer.configfile import ConfigError

Drive = Callable[..., Driver]


def results(folder: Path) -> list[tuple[Any, ...]]:
    """Return all that a study found out, without times, attempts and interruptions."""
    keys = ("event", "trial", "params", "epoch", "value", "action", "reason", "ending")
    kinds = ("proposed", "reported", "decided", "ended")
    return [
        tuple(str(event.get(key)) for key in keys)
        for event in events(folder)
        if event["event"] in kinds
    ]


def reported(folder: Path) -> dict[int, list[tuple[int, float]]]:
    """Return each trial's (epoch, Dice) in the ledger, in its order."""
    found: dict[int, list[tuple[int, float]]] = {}
    for event in events(folder, "reported"):
        found.setdefault(event["trial"], []).append((event["epoch"], event["value"]))
    return found


def curves(
    folder: Path, mlflow_uri: str, metric: str = "val/dice"
) -> dict[int, list[tuple[int, float]]]:
    """Return each trial's (epoch, value) in MLflow; a trial with two runs is an error."""
    from mlflow import MlflowClient

    client = MlflowClient(mlflow_uri)
    experiment = client.get_experiment_by_name(folder.name)
    uid = events(folder, "study")[0]["uid"]
    ours = f"tags.trial_uid LIKE '{uid}/%'"
    found = {}
    for run in client.search_runs([experiment.experiment_id], ours):
        trial = int(run.data.tags["trial_uid"].split("/")[1])
        assert trial not in found, f"trial {trial} has two runs"
        history = client.get_metric_history(run.info.run_id, metric)
        found[trial] = sorted((metric.step, metric.value) for metric in history)
    return found


def check(folder: Path, mlflow_uri: str) -> dict[int, str]:
    """Check a finished study's reports, and return the ending of each trial.

    Every epoch is there once, in order, and has the value that it must have; MLflow has the same.
    """
    lr = {e["trial"]: e["params"].get("optimizer.lr", 1e-4) for e in events(folder, "proposed")}
    for trial, reports in reported(folder).items():
        assert reports == [(t, dice(lr[trial], t)) for t in range(1, len(reports) + 1)]
    shown = {trial: curve for trial, curve in curves(folder, mlflow_uri).items() if curve}
    assert shown == reported(folder)
    endings = [(event["trial"], event["ending"]) for event in events(folder, "ended")]
    assert sorted(trial for trial, _ in endings) == sorted(lr)
    return dict(endings)


def test_all_that_happens_is_on_record(calm: Driver, mlflow_uri: str) -> None:
    """The control first, then enqueued, then sampled trials; ASHA stops some; all is on record."""
    endings = check(calm.folder, mlflow_uri)
    assert {*endings.values()} == {"completed", "stopped"}
    kinds = [(e["kind"], e["protected"]) for e in calm.events("proposed")]
    assert kinds == [
        ("control", True), ("enqueued", True), ("enqueued", False), *[("sampled", False)] * 7
    ]  # fmt: skip
    assert endings[0] == endings[1] == "completed"
    threshold = calm.events("threshold")
    assert len(threshold) == 1 and 0 < threshold[0]["dice"] <= 1
    out = calm.log.read_text()
    assert "rank" in out and str(calm.folder) in out and "Traceback" not in out


def test_all_trials_run_in_one_process(calm: Driver) -> None:
    """All trials ran in one process."""
    assert len({event["pid"] for event in calm.events("started")}) == 1
    [begun] = calm.events("study")
    for event in calm.events("started"):
        assert (event["commit"], event["versions"]) == (begun["commit"], begun["versions"])


@pytest.mark.slow
def test_killed_again_and_again(
    tmp_path: Path, store: Path, drive: Drive, calm: Driver, mlflow_uri: str
) -> None:
    """SIGKILL of the driver loses and doubles nothing, and changes no proposal and no decision."""
    study = write_study(tmp_path, store, toy={"slow": 0.1})
    for num_reports in (1, 12, 20):
        driver = drive(study)
        driver.wait_for(lambda n=num_reports, d=driver: len(d.events("reported")) >= n)
        driver.kill()
    driver = drive(study)
    assert "continued" in driver.finish()
    assert results(driver.folder) == results(calm.folder)
    check(driver.folder, mlflow_uri)


@pytest.mark.slow  # 22 s
def test_stopped_and_continued(
    tmp_path: Path, store: Path, drive: Drive, calm: Driver, mlflow_uri: str
) -> None:
    """SIGTERM and the stop file: checkpoints, exit 0, and the study goes on as if nothing was."""
    study = write_study(tmp_path, store, toy={"slow": 0.1})
    driver = drive(study)
    driver.wait_for(lambda: len(driver.events("reported")) >= 2)
    driver.process.send_signal(signal.SIGTERM)
    out = driver.finish()
    resolved = driver.folder / "study.yaml"
    again = f"to continue: segtune launch {resolved} --runs {tmp_path}"
    assert "SIGTERM" in out and again in out.splitlines()[-1]
    assert len(driver.events("interrupted")) == 1

    driver = drive(study)
    driver.wait_for(lambda: len(driver.events("reported")) >= 12)
    (driver.folder / "stop").touch()
    assert "stop file" in driver.finish()

    driver = drive(resolved, runs=tmp_path)
    driver.finish()
    assert results(driver.folder) == results(calm.folder)
    check(driver.folder, mlflow_uri)


@pytest.mark.slow
def test_a_budget_survives_launches_and_can_be_raised(
    tmp_path: Path, store: Path, drive: Drive, calm: Driver
) -> None:
    study = write_study(tmp_path, store, budget={"epochs": 12}, toy={"slow": 0.1})
    for _ in range(2):  # the second starts nothing
        driver = drive(study)
        out = driver.finish()
        assert "the budget of 12 epochs is spent" in out
        assert f"--runs {tmp_path} budget.epochs=MORE" in out.splitlines()[-1]
        epochs = len(driver.events("reported"))
        assert 12 <= epochs < 20
        [spent] = driver.events("budget")
        assert (spent["what"], spent["limit"]) == ("epochs", 12) and spent["spent"] >= 12
    study.write_text(study.read_text().replace("epochs: 12", "epochs: 10000"))
    driver = drive(study)
    driver.finish()
    assert results(driver.folder) == results(calm.folder)


@pytest.mark.slow
def test_endings_and_dead_workers(
    tmp_path: Path, store: Path, drive: Drive, mlflow_uri: str
) -> None:
    """Divergence, lack of memory, a trial that always fails, and a worker that is killed."""
    study = write_study(
        tmp_path,
        store,
        toy={"diverge": "2", "oom": "3", "raise": "4", "slow": 0.2},
        trials={"num_trials": 5},
        enqueue=[{"optimizer.lr": 1e-4, "protected": True}],
        scheduler={"type": "none", "max_t": 4},
    )
    driver = drive(study)
    driver.wait_for(lambda: any(e["trial"] == 1 for e in driver.events("reported")))
    assert "Traceback" not in driver.log.read_text()
    [started] = [event for event in driver.events("started") if event["trial"] == 1]
    os.kill(started["pid"], signal.SIGKILL)
    driver.finish()
    assert check(driver.folder, mlflow_uri) == {
        0: "completed", 1: "completed", 2: "diverged", 3: "infeasible", 4: "failed",
        5: "completed", 6: "completed",
    }  # fmt: skip
    reasons = {event["trial"]: event["reason"] for event in driver.events("ended")}
    assert reasons[2] == "step 7: dice is nan"
    assert reasons[3] == "one image does not fit"
    assert reasons[4] == "RuntimeError: trial 4 is broken"
    attempts = Counter(event["trial"] for event in driver.events("started"))
    assert attempts[1] == 2 and attempts[4] == 1 + 3 - 1


@pytest.mark.nightly
def test_trials_that_all_fail_alike_end_the_study(
    tmp_path: Path, store: Path, drive: Drive
) -> None:
    """Trials that all fail the same way end the study, with the reason and a status of its own."""
    study = write_study(tmp_path, store, trials={"num_trials": 8})
    driver = drive(study, fit="tests.search.toy:broken")
    assert driver.wait() == 3
    out = driver.log.read_text()
    assert "RuntimeError: no such thing" in out.splitlines()[-1]
    assert len(driver.events("proposed")) <= 4


@pytest.mark.slow
def test_a_hung_process_is_ended_and_its_trial_goes_on(
    tmp_path: Path, store: Path, drive: Drive, mlflow_uri: str
) -> None:
    """A process that lives and does nothing is ended; its trial loses nothing but the time."""
    study = write_study(
        tmp_path,
        store,
        toy={"hang": "1"},
        trials={"num_trials": 1, "hang_timeout_s": 4},
        scheduler={"type": "none", "max_t": 3},
    )
    driver = drive(study)
    driver.finish()
    assert check(driver.folder, mlflow_uri) == {0: "completed", 1: "completed", 2: "completed"}
    [interrupted] = driver.events("interrupted")
    assert (interrupted["trial"], interrupted["epoch"], interrupted["cause"]) == (1, 1, "hung")
    assert interrupted["reason"] == "no sign of life: its process was ended"


@pytest.mark.slow
def test_trials_share_a_gpu(tmp_path: Path, store: Path, drive: Drive) -> None:
    """Two at a time on the cluster's one GPU, each with half of its memory."""
    study = write_study(
        tmp_path,
        store,
        toy={"slow": 0.3},
        trials={"num_trials": 2, "gpus_per_trial": 0.5},
        scheduler={"type": "none", "max_t": 3},
    )
    driver = drive(study)
    driver.finish()
    spans = [
        (started["time"], ended["time"])
        for started, ended in zip(
            *(
                sorted(driver.events(kind), key=lambda e: e["trial"])
                for kind in ("started", "ended")
            ),
            strict=True,
        )
    ]
    at_once = [sum(begin <= other < end for begin, end in spans) for other, _ in spans]
    assert max(at_once) == 2
    for path in driver.folder.glob("trials/*/begun"):
        assert path.read_text().split()[1:] == ["0.5", "auto", "0"]


@pytest.mark.slow
def test_too_large_for_every_node(tmp_path: Path, store: Path, drive: Drive) -> None:
    """Resources that no node has are refused before the first trial; then they may be changed."""
    study = write_study(
        tmp_path, store, trials={"num_trials": 1, "cpus_per_trial": 3, "gpus_per_trial": 3}
    )
    driver = drive(study)
    assert driver.wait() == 2
    assert "no node has them" in driver.log.read_text().splitlines()[-1]
    assert not driver.events("proposed")

    settings = load_study(
        study, ["trials.gpus_per_trial=0", "trials.workers_per_trial=1", "seed=2"]
    )
    with Ledger.open(driver.folder / "ledger.jsonl", writer=True) as ledger:
        _create_or_continue(settings, "another store", driver.folder, ledger, [])
    assert driver.events("study")[-1]["config"]["seed"] == 2


def test_a_finished_study_shows_its_leaderboard_without_ray(
    calm: Driver, capsys: pytest.CaptureFixture[str]
) -> None:
    """A finished study shows its leaderboard and does nothing, without Ray."""
    before = calm.events()
    assert launch(load_study(calm.study), calm.folder.parent) == 0
    assert "rank" in capsys.readouterr().out
    [driver] = calm.events()[len(before) :]
    assert driver["event"] == "driver"


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("scheduler.max_t=10", "scheduler.max_t: 10: this study was begun with 9"),
        ("space.optimizer.lr.low=1e-6", "space.optimizer.lr.low: 1e-06"),
        ("trials.num_trials=3", "trials.num_trials: 3: this study was begun with 8; can only be"),
        ("seed=5", "seed: 5: this study was begun with 1"),
    ],
)
def test_a_changed_setting_is_refused_by_name(calm: Driver, override: str, line: str) -> None:
    """A study is not continued with other settings; the line names the changed one."""
    with pytest.raises(ConfigError) as error:
        launch(load_study(calm.study, [override]), calm.folder.parent)
    assert len(error.value.lines) == 1 and line in error.value.lines[0]


def test_where_trials_run_may_change_and_is_recorded(
    calm: Driver,
    tmp_path: Path,
    mlflow_uri: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With a note; what was spent before stays what it was, and the next launch says nothing."""
    copied = tmp_path / "runs"
    shutil.copytree(calm.folder, copied / "toy")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_uri)
    before = status(copied / "toy")["spent"]["cpu_hours"]
    study = load_study(calm.study, ["trials.cpus_per_trial=5", "train.num_threads=2"])
    assert launch(study, copied) == 0
    said = capsys.readouterr().out
    assert "note: trials.cpus_per_trial: 5, was " in said
    assert "note: train.num_threads: 2, was " in said and "to the last bit" in said
    read, state = read_study(copied / "toy")
    assert (read.trials.cpus_per_trial, read.train_config({}).num_threads) == (5, 2)
    assert state.study and state.study["config"]["train"]["num_threads"] == 2
    assert status(copied / "toy")["spent"]["cpu_hours"] == pytest.approx(before)
    assert launch(study, copied) == 0
    again = capsys.readouterr().out
    assert "note: reference lies in the space and is better than " in again
    assert again.count("note: ") == 1


def test_a_moved_store_is_taken_and_another_content_refused(
    calm: Driver, tmp_path: Path, store: Path, mlflow_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that moved is the same; one with other content is refused."""
    import json

    moved = tmp_path / "moved"
    shutil.copytree(store, moved)
    study = load_study(calm.study, [f"data.store={moved}"])
    copied = tmp_path / "runs"
    shutil.copytree(calm.folder, copied / "toy")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_uri)
    assert launch(study, copied) == 0

    manifest = json.loads((moved / "manifest.json").read_text())
    (moved / "manifest.json").write_text(json.dumps(manifest | {"content_hash": "0" * 64}))
    with pytest.raises(ConfigError, match="has the content 000000000000, but"):
        launch(study, copied)


def test_ray_client_is_refused(calm: Driver) -> None:
    """Ray Client would run the searcher elsewhere, and write the ledger there."""
    with pytest.raises(ConfigError, match="Ray Client"):
        launch(load_study(calm.study), calm.folder.parent, "ray://head:10001")


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, marks=pytest.mark.nightly),
        pytest.param(signal.SIGHUP, marks=pytest.mark.nightly),
    ],
)
def test_signal_to_the_whole_group(
    tmp_path: Path, store: Path, mlflow_uri: str, number: signal.Signals
) -> None:
    """Its own Ray is in the driver's process group, and must outlive the trials all the same."""
    study = write_study(tmp_path, store, toy={"slow": 0.3})
    driver = Driver(study, tmp_path, env={"MLFLOW_TRACKING_URI": mlflow_uri})
    driver.wait_for(lambda: len(driver.events("reported")) >= 2)
    os.killpg(driver.process.pid, number)
    assert "Not finished; to continue: segtune launch" in driver.finish()
    assert len(driver.events("interrupted")) == 1
    with pytest.raises(ProcessLookupError):
        os.killpg(driver.process.pid, 0)
