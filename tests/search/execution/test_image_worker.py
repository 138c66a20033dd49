"""Pictures while a study runs: what is painted, when, for how much, and what cannot harm it."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from search.analysis.ranking import best_of
from search.analysis.validation_noise import noise_of, to_measure
from search.execution.image_worker import (
    FIRST_S,
    SHARE,
    ImageWorker,
    PaintQueue,
)
from search.ledger.session import StudySession
from search.ledger.state import StudyState
from search.report.leaderboard import leaderboard
from search.storage.s3 import Remote, mirror_of
from search.storage.s3_run import S3Run
from search.storage.trials.images import fetch_pictures, paint_trial
from search.storage.trials.noise import measure_noise
from search.study.frozen import study_of
from tests.search import offline
from tests.search.conftest import Driver, write_study
from tests.search.execution import hands
from tests.search.toy import dice
from tests.trainer.tiny import tiny_config
from trainer.data.store import Store
from trainer.saved import checkpoint
from trainer.training.train_state import TrainState


@contextmanager
def begun(store: Path, folder: Path, trials: int = 4, **settings: Any) -> Iterator[StudySession]:
    """A study whose trials are proposed: 0 the control, 1 a reference, the others searched."""
    config = offline.study(store, **settings)
    with offline.opened(config, folder) as session:
        if not session.state.trials:
            offline.propose(session)
        yield session


def report(session: StudySession, trial: int, epoch: int, value: float) -> None:
    metrics = {"val/dice": value, "val/avd_ml": 1 - value}
    value = metrics[session.study.objective.metric]
    about = {"trial": trial, "epoch": epoch, "value": value, "metrics": metrics}
    session.record({"event": "reported", **about})


def end(session: StudySession, trial: int, ending: str = "completed") -> None:
    offline.end(session, session.state.trials[trial], ending)


def listening(session: StudySession, attempt_s: float = 1e6) -> PaintQueue:
    queue = PaintQueue(session)
    session.listeners.append(queue.observe)
    session.state.meter.attempt_s = attempt_s
    return queue


def all_of(queue: PaintQueue) -> list[int]:
    return [*iter(queue.take_next, None)]


def paint(session: StudySession, trial: int, epoch: int, seconds: float = 1.0) -> None:
    files = [f"samples/epoch{epoch:04d}-a.png"]
    about = {"trial": trial, "epoch": epoch, "files": files, "seconds": seconds}
    session.record({"event": "painted", **about})


def test_the_best_so_far_and_what_completed(store: Path, tmp_path: Path) -> None:
    with begun(store, tmp_path) as session:
        queue = listening(session)
        report(session, 0, 1, 0.9)
        assert all_of(queue) == [], "the control is no searched trial"
        report(session, 2, 1, 0.3)
        report(session, 3, 1, 0.2)
        report(session, 4, 1, 0.4)
        assert all_of(queue) == [4], "the newest best takes the place of the one before"
        end(session, 0)
        end(session, 2, "stopped")
        end(session, 3)
        report(session, 4, 2, 0.5)
        assert all_of(queue) == [4, 3, 0], "the newest first, and stopped trials not at all"
        paint(session, 4, 2)
        report(session, 4, 3, 0.45)
        assert all_of(queue) == [4], "the last weights stand for it"
        paint(session, 4, 3)
        end(session, 4)
        assert all_of(queue) == []


def test_the_smallest_is_the_best(store: Path, tmp_path: Path) -> None:
    objective = {"metric": "val/avd_ml", "mode": "min"}
    with begun(store, tmp_path, objective=objective) as session:
        queue = listening(session)
        report(session, 2, 1, 0.8)
        report(session, 3, 1, 0.3)
        assert all_of(queue) == [2]


def test_a_continued_study_goes_on(store: Path, tmp_path: Path) -> None:
    with begun(store, tmp_path) as session:
        for trial in (2, 3, 4):
            report(session, trial, 1, trial / 10)
        paint(session, 2, 1, seconds=4.0)
        end(session, 2)
        end(session, 3)
    with begun(store, tmp_path) as session:
        queue = listening(session)
        assert queue.spent_s == 4.0
        assert all_of(queue) == [4, 3]
        assert session.state.trials[2].pictures == ["samples/epoch0001-a.png"]


def test_resumed_trials_but_no_confirming_ones(store: Path, tmp_path: Path) -> None:
    with begun(store, tmp_path) as session:
        report(session, 2, 1, 0.3)
        end(session, 2)
        confirming = {"trial": 9, "params": {}, "kind": "confirm", "protected": True, "of": 2}
        session.record({"event": "proposed", **confirming, "seed": 1, "fold": 0, "epochs": 1})
        session.record({"event": "resumed", "trial": 2, "epoch": 1, "epochs": 5})
        session.only = frozenset({2, 9})
        queue = listening(session)
        report(session, 9, 1, 0.9)
        end(session, 9)
        assert all_of(queue) == []
        report(session, 2, 2, 0.5)
        assert all_of(queue) == [2]


def test_nothing_where_nothing_is_trained(store: Path, tmp_path: Path) -> None:
    settings = {"train": {"init_from": "model.pt"}, "scheduler": {"type": "none", "max_t": 0}}
    with begun(store, tmp_path, enqueue=[], **settings) as session:
        queue = listening(session)
        report(session, 0, 0, 0.3)
        end(session, 0)
        assert all_of(queue) == [] and queue.take_best() is None


@pytest.mark.parametrize("seed", range(20))
def test_within_its_share_of_the_attempts_seconds(store: Path, tmp_path: Path, seed: int) -> None:
    """A night in simulated time: two attempts, pictures that take from a second to minutes."""
    rng = random.Random(seed)
    with begun(store, tmp_path, scheduler={"type": "none", "max_t": 1000}) as session:
        queue = PaintQueue(session)
        session.listeners.append(queue.observe)
        cost_s, start_s, painted, given_up = rng.choice([0.5, 5.0, 60.0]), 6.0, 0, 0
        session.state.meter._running = {2: 0.0, 3: 0.0}
        session.state.meter._size_of = {2: None, 3: None}
        now, busy_until, epochs = 0.0, 0.0, {2: 0, 3: 0}
        while now < 20_000:
            now += rng.uniform(5, 60)
            trial = rng.choice([2, 3])
            epochs[trial] += 1
            session.state.meter._last = now
            session.state.meter._pay(trial, now)
            metrics = {"val/dice": now / 1e6}
            about = {"trial": trial, "epoch": epochs[trial], "value": now / 1e6}
            event = {"event": "reported", **about, "metrics": metrics}
            session.state.trials[trial].reports.append(
                offline.Report(epochs[trial], now / 1e6, metrics)
            )
            queue.observe(event)
            if now < busy_until or (number := queue.take_next()) is None:
                continue
            limit_s = queue.left_s
            takes_s = cost_s * rng.uniform(0.5, 2) + start_s * (painted + given_up == 0)
            if takes_s > limit_s:
                queue.spent_s += limit_s
                queue.postpone(number, limit_s)
                given_up += 1
            else:
                queue.expected_s = takes_s
                done = {"trial": number, "epoch": epochs[number], "seconds": takes_s}
                queue.observe({"event": "painted", **done, "files": ["a"]})
                painted += 1
            busy_until = now + takes_s
            assert queue.spent_s <= SHARE * session.state.meter.attempt_s
        attempt_s = session.state.meter.attempt_s
        assert painted >= 1
        assert queue.spent_s <= SHARE * attempt_s
        if cost_s <= 5:  # it makes use of what it may
            assert queue.spent_s > SHARE * attempt_s / 4


def test_waits_for_its_share_and_the_end_does_not(store: Path, tmp_path: Path) -> None:
    with begun(store, tmp_path) as session:
        queue = listening(session, attempt_s=FIRST_S / SHARE - 1)
        report(session, 2, 1, 0.1)
        assert queue.take_next() is None
        session.state.meter.attempt_s += 2
        assert queue.take_next() == 2
        report(session, 3, 1, 0.2)
        end(session, 4)
        session.state.meter.attempt_s = 0
        assert queue.take_next() is None
        assert queue.take_best() == 3, "the best one's, when the trials are over"
        assert queue.take_best() is None


@pytest.fixture
def painter(
    store: Path, tmp_path: Path, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[type], tuple[ImageWorker, StudySession, list[str]]]]:
    """Return a painter with another hand, for trials that have weights."""
    with begun(store, tmp_path) as session:

        def having(hand: type) -> tuple[ImageWorker, StudySession, list[str]]:
            monkeypatch.setattr("search.execution.image_worker.Painter", hand)
            said: list[str] = []
            painter = ImageWorker(session, said.append)
            for trial in session.state.trials:
                session.trial_dir(trial).mkdir(parents=True)
                (session.trial_dir(trial) / "ema.pt").touch()
            session.state.meter.attempt_s = 1e6
            return painter, session, said

        yield having


def test_a_crash_is_a_line(painter: Any) -> None:
    painter, session, said = painter(hands.Crashing)
    for trial in (2, 3, 4, 5):
        report(session, trial, 1, trial / 10)
        end(session, trial)
    painter.finish()
    assert len(said) == ImageWorker.MOST_FAILURES == 3
    assert said[0].startswith("trial 5 could not be painted: ") and "\n" not in "".join(said)
    assert said[-1].endswith("; no more are tried")
    assert not any("painted" in event["event"] for event in session.ledger.events)
    painter.poll()  # and goes on without
    assert StudyState.of(session.ledger).trials[5].ending == "completed"


def test_a_hang_is_a_line(painter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageWorker, "HANG_S", 0.5)
    monkeypatch.setattr(ImageWorker, "FINISH_S", 2.0)
    painter, session, said = painter(hands.Hanging)
    report(session, 2, 1, 0.2)
    begun_s = time.monotonic()
    painter.poll()
    assert time.monotonic() - begun_s < 1, "it returns at once"
    while not said and time.monotonic() - begun_s < 20:
        painter.poll()
    assert said == ["trial 2 could not be painted: nothing after 0 s"]
    monkeypatch.setattr(ImageWorker, "HANG_S", 100.0)
    monkeypatch.setattr("search.execution.image_worker.SLOW_S", 0.5)
    report(session, 3, 1, 0.3)
    begun_s = time.monotonic()
    painter.finish()
    assert time.monotonic() - begun_s < 10, "the end waits a bounded time"
    assert said[1:] == ["waits: for the last pictures, up to 2 s"]


def test_an_error_is_a_line_and_the_next_is_painted(painter: Any) -> None:
    painter, session, said = painter(hands.Failing)
    for trial in (3, 2):
        report(session, trial, 1, 0.5)
        end(session, trial)
    painter.finish()
    assert said == ["trial 2 could not be painted: the disk is"]
    (event,) = (event for event in session.ledger.events if event["event"] == "painted")
    assert (event["trial"], event["epoch"], event["seconds"]) == (3, 1, 0.2)
    assert session.state.trials[3].pictures == ["samples/a.png"]
    assert all(not trial.pictures for trial in session.state.trials.values() if trial.number != 3)
    for trial in session.state.trials.values():  # nothing else of the study changed
        assert trial.ending == ("completed" if trial.number in (2, 3) else None)


def noises(session: StudySession) -> list[dict[str, Any]]:
    return [event for event in session.ledger.events if event["event"] == "noise"]


def test_the_noise_is_measured_once_a_study_on_its_best_finished_trial(
    painter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, session, said = painter(hands.Measuring)
    for trial, value, ending in ((0, 0.9, "completed"), (2, 0.3, "stopped"), (3, 0.8, "failed")):
        report(session, trial, 1, value)
        end(session, trial, ending)
    report(session, 4, 1, 0.7)
    assert noise_of(session.study, session.state) == {"missing": "not measured yet"}
    worker.finish()
    [event] = noises(session)
    told = {key: event[key] for key in ("trial", "epoch", "metric", "draws", "mean", "std")}
    assert told == {
        "trial": 2,
        "epoch": 1,
        "metric": "val/dice",
        "draws": 5,
        "mean": 0.3,
        "std": 0.01,
    }
    assert noise_of(session.study, session.state) == told | {"std_of_value": 0.01}
    end(session, 4)
    again = ImageWorker(session, said.append)
    again.finish()
    assert len(noises(session)) == 1 and said == []


def test_noise_that_takes_too_long_is_a_line(painter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageWorker, "NOISE_S", 0.2)
    worker, session, said = painter(hands.Uncertain)
    report(session, 2, 1, 0.3)
    end(session, 2, "stopped")
    paint(session, 2, 1)
    session.state.meter.attempt_s = 0.0
    monkeypatch.setattr("search.execution.image_worker.SLOW_S", 0)
    worker.finish()
    *_, waits, missing = said
    assert waits == "waits: for the validation noise to be measured, up to 0 s"
    assert missing == "validation noise was not measured: it takes longer than 0 s"
    assert noises(session) == []


def test_noise_does_not_apply_without_training_or_diffusion(store: Path, tmp_path: Path) -> None:
    settings = {"train": {"init_from": "model.pt"}, "scheduler": {"type": "none", "max_t": 0}}
    with begun(store, tmp_path / "zero", enqueue=[], **settings) as session:
        missing = noise_of(session.study, session.state)["missing"]
        assert missing.startswith("does not apply: nothing is trained")
    with begun(store, tmp_path / "direct", train={"model.family": "unet"}) as session:
        report(session, 2, 1, 0.3)
        end(session, 2)
        missing = noise_of(session.study, session.state)["missing"]
        assert missing == "does not apply: the networks segment directly, without noise"
        assert to_measure(session.study, session.state) is None


@pytest.mark.slow
def test_a_study_does_not_need_its_pictures(
    store: Path, drive: Callable[..., Driver], tmp_path: Path
) -> None:
    settings = {"scheduler": {"type": "none", "max_t": 2}, "enqueue": []}
    path = write_study(tmp_path, store, trials={"num_trials": 1}, **settings)
    driver = drive(path, fit="tests.search.execution.hands:fit")
    said = driver.finish()
    assert "could not be painted: " in said and "not a segtune checkpoint" in said
    assert driver.events("painted") == []
    state = StudyState.replay(driver.events())
    assert [trial.ending for trial in state.trials.values()] == ["completed"] * 2
    best = best_of(study_of(driver.events("study")[0], "ledger"), state)
    assert best is not None
    assert best.reports[-1].value == dice(best.params["optimizer.lr"], 2)
    assert "validation noise could not be measured: " in said


@pytest.mark.slow
def test_a_study_ends_with_pictures(
    store: Path, drive: Callable[..., Driver], tmp_path: Path
) -> None:
    study = {
        "study": "painted",
        "data": {"store": str(store)},
        "train": {
            "model.width": 4,
            "model.depth": 2,
            "epoch_images": 16,
            "sampling.timestep_respacing": 2,
            "device": "cpu",
        },
        "space": {"optimizer.lr": {"type": "float", "low": 1e-4, "high": 1e-3, "log": True}},
        "scheduler": {"type": "none", "max_t": 2},
        "trials": {"num_trials": 2, "cpus_per_trial": 1},
    }
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(study))
    driver = drive(path, fit="trainer.loop:fit")
    driver.finish()
    painted = driver.events("painted")
    assert painted, driver.log.read_text()
    best = best_of(
        study_of(driver.events("study")[0], "ledger"), StudyState.replay(driver.events())
    )
    assert best is not None and best.pictures
    assert painted[0]["trial"] == best.number
    assert 0 < painted[0]["seconds"] < 60
    run_dir = driver.folder / "trials" / f"{best.number:04d}"
    assert [file for file in best.pictures if file.endswith("-path.png")]
    for file in best.pictures:
        with Image.open(run_dir / file) as picture:
            picture.load()
    [noise] = driver.events("noise")
    assert (noise["trial"], noise["epoch"], noise["draws"]) == (best.number, 2, 5)
    again = measure_noise(run_dir, str(store))
    measured = again.mean["val/dice"], again.std["val/dice"]
    assert (noise["mean"], noise["std"]) == pytest.approx(measured)
    assert f"standard deviation {noise['std']:.4f}" in leaderboard(driver.folder)
    # Again, with nothing left to train: no trial is painted twice.
    drive(path, fit="trainer.loop:fit").finish()
    assert driver.events("painted") == painted


def test_a_trial_in_s3(store: Path, s3: str, tmp_path: Path, monkeypatch: Any) -> None:
    study = Remote.parse(s3) / "toy"
    folder = mirror_of(study.parent) / "toy"
    owner = (1, 1)
    config = tiny_config(store)
    with S3Run(study, tmp_path / "node", 3, owner, config.model_dump(mode="json")) as run:
        nothing = paint_trial(folder / "trials" / "0003", str(store), None, 60.0)
        assert nothing == (None, [], 0.0, False), "there are no weights yet"
        state = TrainState(config, Store.open(store), torch.device("cpu"))
        checkpoint.write(tmp_path / "node" / "ema.pt", state.for_use() | {"epoch": 7})
        run.send()
        painted = paint_trial(folder / "trials" / "0003", str(store), None, 60.0)
        again = paint_trial(folder / "trials" / "0003", str(store), 7, 60.0)
        noise = measure_noise(folder / "trials" / "0003", str(store))
        run.send()  # the pictures are no other attempt's claim
    assert painted.epoch == 7 and painted.files and painted.seconds > 0
    assert (again.epoch, again.files) == (7, [])
    assert (noise.epoch, noise.draws) == (7, 5)
    assert 0 < noise.mean["val/dice"] < 1 and noise.std["val/dice"] > 0
    content = {file: (folder / "trials/0003" / file).read_bytes() for file in painted.files}
    # From another machine, whose mirror is empty.
    monkeypatch.setenv("SEGTUNE_CACHE", str(tmp_path / "elsewhere"))
    elsewhere = mirror_of(study.parent) / "toy"
    assert elsewhere != folder
    fetch_pictures(elsewhere)
    assert {f: (elsewhere / "trials/0003" / f).read_bytes() for f in painted.files} == content
    for file in painted.files:  # what is there is not fetched again
        (elsewhere / "trials/0003" / file).write_bytes(b"")
    fetch_pictures(elsewhere)
    assert all((elsewhere / "trials/0003" / file).stat().st_size == 0 for file in painted.files)
