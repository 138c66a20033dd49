"""The best trials get more epochs."""

import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

import search.workflows.resume
from search.analysis.results import compare
from search.cli.main import main
from search.ledger.journal import Ledger
from search.report.leaderboard import leaderboard
from search.storage.studies import read_study
from search.workflows.resume import resume
from tests.search import offline
from tests.search.conftest import ROOT, Driver, events
from tests.search.forked import Forked
from tests.search.toy import dice
from tests.trainer.tiny import tiny_config
from trainer.configfile import ConfigError
from trainer.loop import fit
from trainer.training.optimizer import learning_rate_share


@pytest.fixture
def folder(
    tmp_path: Path,
    store: Path,
    empty_database: Path,
    plain_pictures: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A study whose trials ended: trial 3 stalled, 5 failed; the best is 4, then 6, then 2."""
    monkeypatch.setattr(search.workflows.resume, "run_study", offline.run_study)
    folder = tmp_path / "runs" / "toy"
    folder.mkdir(parents=True)
    shutil.copy(empty_database, folder.parent / "mlflow.db")
    config = offline.study(store)
    with offline.opened(config, folder) as session:
        offline.propose(session)
        for trial in session.state.live():
            if trial.number == 3:
                trial_dir = session.trial_dir(3) / "checkpoints"
                trial_dir.mkdir(parents=True)
                (trial_dir / "1.pt").touch()
                metrics = {"val/dice": dice(1e-2, 1)}
                about = {"trial": 3, "epoch": 1}
                value = metrics["val/dice"]
                session.record({"event": "reported", **about, "value": value, "metrics": metrics})
                offline.end(session, trial, "stalled")
            elif trial.number == 5:
                offline.end(session, trial, "failed", "RuntimeError: no")
            else:
                offline.train(session, trial)
    return folder


def test_the_best_go_on(folder: Path) -> None:
    """From their checkpoints, to the new goal; the others and the ledger's past stay."""
    before = events(folder)
    assert resume(folder, top=2, epochs=9) == 0
    after = events(folder)
    assert after[: len(before)] == before
    chosen, *_ = events(folder, "resume")
    assert (chosen["top"], chosen["epochs"], chosen["trials"]) == (2, 9, [4, 6])
    resumed = [(e["trial"], e["epoch"], e["epochs"]) for e in events(folder, "resumed")]
    assert resumed == [(4, 3, 9), (6, 3, 9)]
    _, state = read_study(folder)
    for number in (4, 6):
        trial = state.trials[number]
        assert (trial.ending, trial.segments) == ("completed", [(3, 9)])
        lr = trial.params["optimizer.lr"]
        assert [(r.epoch, r.value) for r in trial.reports] == [
            (epoch, dice(lr, epoch)) for epoch in range(1, 10)
        ]
    assert all(state.trials[number].epoch <= 3 for number in (0, 1, 2, 3))


def test_the_same_again_continues(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after the first report of the first: nothing is chosen anew and nothing is lost."""

    def killed(session, address, only, fit):
        trial = session.state.live()[0]
        metrics = {"val/dice": 9.0}  # as if it were far better than all, or far worse
        session.record(
            {"event": "reported", "trial": trial.number, "epoch": 4, "value": 9.0}
            | {"metrics": metrics}
        )
        (session.trial_dir(trial.number) / "checkpoints" / "4.pt").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(search.workflows.resume, "run_study", killed)
    with pytest.raises(KeyboardInterrupt):
        resume(folder, top=1, epochs=9)
    monkeypatch.setattr(search.workflows.resume, "run_study", offline.run_study)
    resume(folder, top=1, epochs=9)
    resume(folder, top=1, epochs=9)
    assert len(events(folder, "resume")) == len(events(folder, "resumed")) == 1
    _, state = read_study(folder)
    assert [r.epoch for r in state.trials[4].reports] == [*range(1, 10)]
    assert state.trials[4].ending == "completed"


def test_again_and_further(folder: Path) -> None:
    """A resumed trial can be resumed; what was stalled too, and the control when it is named."""
    resume(folder, top=1, epochs=6)
    resume(folder, top=1, epochs=9)
    resume(folder, trials=[3, 0, 3], epochs=4, fit="unused")
    _, state = read_study(folder)
    assert state.trials[4].segments == [(3, 6), (6, 9)]
    assert (state.trials[3].segments, state.trials[3].ending) == ([(1, 4)], "completed")
    assert state.trials[0].segments == [(3, 4)]
    assert events(folder, "resume")[-1]["trials"] == [0, 3]


def test_the_leaderboard_of_resumed_trials(folder: Path) -> None:
    """At the end a resumed trial leads; at equal epochs the order is the old one."""
    resume(folder, trials=[2], epochs=27)
    result = compare(folder)
    assert [row["trial"] for row in result["trials"]][:3] == [2, 4, 6]
    assert result["equal_epoch"] == 3
    at_equal = {row["trial"]: row["rank_at_equal"] for row in result["trials"]}
    assert at_equal == {4: 1, 6: 2, 2: 3, 3: None, 5: None}
    text = leaderboard(folder)
    first = next(line for line in text.splitlines() if line.startswith("1 "))
    assert "3 -> 27" in first and f"{dice(3e-4, 3):.4f} (3)" in first
    assert "at epoch 3: val/dice at the last that all have that came to epoch 3, with" in text


def cli(folder: Path, *words: str) -> str:
    """Run a command that must be refused; return its one line."""
    before = (folder / "ledger.jsonl").read_bytes()
    kinds = [event["event"] for event in events(folder)]
    result = CliRunner().invoke(main, [words[0], "toy", *words[1:], "--runs", str(folder.parent)])
    assert result.exit_code == 2, result.output
    [line] = result.stderr.splitlines()
    now = [event["event"] for event in events(folder)]
    assert now[: len(kinds)] == kinds and set(now[len(kinds) :]) <= {"driver"}, "nothing was done"
    assert (folder / "ledger.jsonl").read_bytes().startswith(before)
    return line


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--top", "5", "--epochs", "9"], "--top 5: only 4 searched trials ended with a result"),
        (["--top", "1", "--epochs", "3"], "toy:4: is at epoch 3 already: --epochs must be"),
        (["--trial", "5", "--epochs", "9"], "toy:5: failed (RuntimeError: no): more epochs"),
        (["--trial", "9", "--epochs", "9"], "toy:9: no such trial"),
        (["--epochs", "9"], "resume: needs either --top K or a trial, as in toy:7"),
        (["--top", "1", "--trial", "4", "--epochs", "9"], "resume: needs either"),
    ],
)
def test_what_cannot_be_resumed_is_refused(folder: Path, words: list[str], line: str) -> None:
    assert line in cli(folder, "resume", *words)


def test_refused_without_checkpoints(folder: Path) -> None:
    """Trained on another disk: said before anything is recorded, a line for each trial."""
    shutil.rmtree(folder / "trials" / "0004" / "checkpoints")
    assert "0004/checkpoints: no checkpoint here" in cli(
        folder, "resume", "--top", "2", "--epochs", "9"
    )


@pytest.mark.parametrize("ending", ["diverged", "infeasible", None])
def test_refused_after_other_endings(tmp_path: Path, store: Path, ending: str | None) -> None:
    folder = tmp_path / "toy"
    with offline.opened(offline.study(store), folder) as session:
        offline.propose(session)
        if ending:
            offline.end(session, session.state.trials[2], ending)
    said = cli(folder, "resume", "--trial", "2", "--epochs", "9")
    assert (f"{ending} (why): more epochs cannot help" if ending else "has not ended") in said


def test_refused_by_what_the_study_is(tmp_path: Path, store: Path) -> None:
    """N must be validated; a study that trains nothing has nothing to train on."""
    config = offline.finished(tmp_path / "a", store, train={"validation.every": 3})
    assert config.train_config({}).validation.every == 3
    with pytest.raises(ConfigError, match=r"--epochs 10: must be a multiple of .*every \(3\)"):
        resume(tmp_path / "a", top=1, epochs=10)
    scheduler = {"type": "none", "max_t": 0}
    train = {"init_from": "somewhere"}
    offline.finished(tmp_path / "b", store, scheduler=scheduler, train=train, enqueue=[])
    with pytest.raises(ConfigError, match="train nothing"):
        resume(tmp_path / "b", top=1, epochs=9)


def test_refused_while_it_runs(folder: Path) -> None:
    with Ledger.open(folder / "ledger.jsonl", writer=True):
        assert "is being run by" in cli(folder, "resume", "--top", "1", "--epochs", "9")


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_shares_of_training_go_on_as_in_the_longer_run(
    tmp_path: Path, store: Path, schedule: str
) -> None:
    """From the first resumed step on, the learning rate is that of a run of N epochs, so it rises
    again; and so is the weight of losses that are warmed in, which falls back."""
    settings = {
        "optimizer__lr_schedule": schedule,
        "optimizer__warmup_images": 0,
        "loss__weighting": "warm_in",
        "loss__warm_in_fraction": 0.8,
        "epoch_images": 8,
    }
    short = tiny_config(store, epochs=2, **settings)
    longer = tiny_config(store, epochs=4, **settings)
    ended = [v.metrics for v in fit(short, tmp_path)][-1]
    resumed = {v.epoch: v.metrics for v in fit(longer, tmp_path, received=2)}
    assert [*resumed] == [3, 4]
    optimizer, batch = longer.optimizer, longer.batch.effective
    for epoch, metrics in resumed.items():
        steps = range((epoch - 1) * 8, epoch * 8, batch)
        shares = [learning_rate_share(optimizer, images, batch, 4 * 8) for images in steps]
        assert metrics["train/lr"] == pytest.approx(optimizer.lr * sum(shares) / len(shares))
    assert resumed[3]["train/lr"] > ended["train/lr"]

    weights = [m["train/dice_weighted"] / m["train/dice"] for m in (ended, resumed[3])]
    assert short.loss.dice * 0.5 / 0.8 < weights[0] < short.loss.dice * 0.75 / 0.8
    assert short.loss.dice * 0.5 / 0.8 < weights[1] < short.loss.dice * 0.625 / 0.8
    assert weights[1] < weights[0]


@pytest.fixture
def copied(calm: Driver, tmp_path: Path) -> Path:
    """The undisturbed study that real Ray carried out, in a folder of its own."""
    folder = tmp_path / "runs" / "toy"
    shutil.copytree(calm.folder, folder)
    database = shutil.copy(calm.folder.parent / "mlflow.db", folder.parent / "mlflow.db")
    places = str(calm.folder.parent), str(folder.parent)
    with closing(sqlite3.connect(database)) as connection, connection:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            # Else the copy's artifacts would go where the original's are.
            connection.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", places)
    (folder / "mlflow.json").unlink()
    return folder


def driver(folder: Path, cluster: str, call: Callable[..., int], **options: object) -> Forked:
    """Start `call`, a function of the search, on a study in a process of its own."""
    given = {"address": cluster, "fit": "tests.search.toy:fit", **options}
    env = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"}
    env["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder.parent / 'mlflow.db'}"
    log = folder.parent / f"driver-{time.monotonic_ns()}.log"
    return Forked(partial(call, folder, **given), log=log, env=env)


@pytest.mark.slow
def test_with_ray_killed_and_again(copied: Path, cluster: str) -> None:
    """Real Ray and MLflow: SIGKILL in the middle; then one curve in one run, and 1 to N."""
    from mlflow import MlflowClient

    (copied / "toy").mkdir(exist_ok=True)
    (copied / "toy" / "slow").write_text("0.1")
    first = driver(copied, cluster, resume, top=2, epochs=13)
    give_up_s = time.monotonic() + 240
    before = len(events(copied, "reported"))
    while len(events(copied, "reported")) < before + 2:
        assert first.poll() is None and time.monotonic() < give_up_s, first.log.read_text()
        time.sleep(0.02)
    first.kill()
    first.wait()
    second = driver(copied, cluster, resume, top=2, epochs=13)
    assert second.wait(480) == 0, second.log.read_text()
    out = second.log.read_text()
    assert "9 -> 13" in out and "Traceback" not in out
    assert len(events(copied, "resume")) == 1 and len(events(copied, "resumed")) == 2
    _, state = read_study(copied)
    client = MlflowClient(f"sqlite:///{copied.parent / 'mlflow.db'}")
    for event in events(copied, "resumed"):
        trial = state.trials[event["trial"]]
        lr = trial.params["optimizer.lr"]
        curve = [(epoch, dice(lr, epoch)) for epoch in range(1, 14)]
        assert [(r.epoch, r.value) for r in trial.reports] == curve
        assert trial.ending == "completed"
        uid = f"{state.study['uid']}/{trial.number:04d}"
        [run] = client.search_runs(
            [client.get_experiment_by_name("toy").experiment_id], f"tags.trial_uid = '{uid}'"
        )
        history = client.get_metric_history(run.info.run_id, "val/dice")
        assert sorted((m.step, m.value) for m in history) == curve
        assert run.info.status == "FINISHED" and run.data.tags["ending"] == "completed"
        assert run.data.tags["resumed_from"] == f"epoch {event['epoch']} to 13"
