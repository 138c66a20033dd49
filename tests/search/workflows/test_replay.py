"""One trial, trained again and compared to the last bit."""

import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

import search.workflows.replay
from search.cli.main import main
from search.storage.studies import read_study
from search.workflows.replay import differences, promises_bits, replay, trained_segments
from search.workflows.resume import resumed_events
from tests.search import offline, toy
from trainer.config import TrainConfig
from trainer.configfile import ConfigError
from trainer.exceptions import Diverged
from trainer.loop import fit

TOY = "tests.search.toy:fit"
TINY = {
    "device": "cpu",
    "model.width": 8,
    "model.depth": 3,
    "epoch_images": 8,
    "batch.effective": 4,
    "sampling.timestep_respacing": 3,
    "sampling.threshold": 0.05,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Path:
    """A study by the real trainer: trial 1 stalled after 2 of 3 epochs, then went on to 4."""
    folder = tmp_path_factory.mktemp("runs") / "toy"
    config = offline.study(
        store,
        train=TINY,
        enqueue=[],
        trials={"num_trials": 2},
        scheduler={"type": "none", "max_t": 3},
        stall={"patience": 1, "min_delta": 1},
    )
    with offline.opened(config, folder) as session:
        offline.propose(session)
        trial = session.state.trials[1]
        offline.train(session, trial, fit)
        assert (trial.ending, trial.epoch) == ("stalled", 2)
        session.record(*resumed_events(session, top=1, epochs=4))
        offline.train(session, trial, fit)
        assert (trial.ending, trial.epoch) == ("completed", 4)
    return folder


def said(capsys: pytest.CaptureFixture[str], note: bool = False) -> list[str]:
    """What was printed: about the epochs, or what is not as it was."""
    lines = capsys.readouterr().out.splitlines()
    return [line for line in lines if line.startswith("note ") == note]


def test_bit_for_bit(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A trial that was stopped and resumed gives the same numbers again."""
    before = sorted(folder.rglob("*"))
    assert replay(folder, 1)
    out = said(capsys)
    assert out == [*(f"epoch    {epoch} identical" for epoch in (1, 2, 3, 4)), "identical"]
    assert sorted(folder.rglob("*")) == before, "the study's folder is not touched"


def test_its_first_epochs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay(folder, 1, epochs=1)
    assert said(capsys) == ["epoch    1 identical", "identical"]


def test_a_resumed_trial_is_replayed_in_its_stretches(folder: Path) -> None:
    """Each with the number of epochs it was trained towards, which the schedule depends on."""
    study, state = read_study(folder)
    parts = trained_segments(study, state.trials[1], math.inf)
    assert [(p.config.epochs, [r.epoch for r in p.reports]) for p in parts] == [
        (3, [1, 2]), (4, [3, 4])
    ]  # fmt: skip
    assert [len(p.reports) for p in trained_segments(study, state.trials[1], 3)] == [2, 1]


def test_a_confirming_trial(tmp_path: Path, store: Path) -> None:
    """It is trained again with its own seed, on its own fold, to its own epochs."""
    config = offline.finished(tmp_path, store)
    with offline.opened(config, tmp_path) as session:
        own = {"of": 2, "seed": 7, "fold": 3, "epochs": 2}
        params = session.state.trials[2].params
        proposed = {"event": "proposed", "trial": 7, "params": params, "kind": "confirm"}
        session.record(proposed | {"protected": True} | own)
        offline.run_study(session)
    study, state = read_study(tmp_path)
    [part] = trained_segments(study, state.trials[7], math.inf)
    assert (part.config.seed, part.config.data.fold, part.config.epochs) == (7, 3, 2)
    assert replay(tmp_path, 7, fit=TOY)


def nudged(config: TrainConfig, run_dir: Path, *, received: int) -> Iterator[toy.Validation]:
    """The toy with another last bit in its second epoch."""
    for validation in toy.fit(config, run_dir, received=received):
        metrics = dict(validation.metrics)
        if validation.epoch == 2:
            metrics["train/loss"] = math.nextafter(metrics["train/loss"], 1)
        yield toy.Validation(validation.epoch, metrics | {"time/epoch_s": 1.0})


def diverging(config: TrainConfig, run_dir: Path, *, received: int) -> Iterator[toy.Validation]:
    """The toy, unlike before without a second epoch."""
    yield next(toy.fit(config, run_dir, received=received))
    raise Diverged("step 7: dice is nan")


def test_one_bit_of_difference_is_shown(
    tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    offline.finished(tmp_path, store)
    assert not replay(tmp_path, 2, fit="tests.search.workflows.test_replay:nudged")
    first, second, third, last = said(capsys)
    assert (first, third, last) == (
        "epoch    1 identical", "epoch    3 identical", "not identical"
    )  # fmt: skip
    assert second.startswith("epoch    2 train/loss: 0.6") and "e-1" in second


def test_on_a_gpu_the_tolerance_is_stated_and_judges(
    tmp_path: Path,
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    offline.finished(tmp_path, store, trials={"num_trials": 5, "gpus_per_trial": 1})
    monkeypatch.setattr(search.workflows.replay, "_gpu", lambda config: "NVIDIA H200")
    assert replay(tmp_path, 2, fit="tests.search.workflows.test_replay:nudged")
    out = capsys.readouterr().out
    assert "note       gpu: none then, NVIDIA H200 now" in out
    assert "here differences of up to 5% pass, and in a validation 0.05 below 1" in out
    assert "the noise is another on a GPU" in out
    assert out.splitlines()[-3:] == [
        "epoch    2 within the tolerance",
        "epoch    3 identical",
        "the same within the tolerance",
    ]
    assert not replay(tmp_path, 2, fit="tests.search.workflows.test_replay:diverging")
    assert said(capsys)[-1] == "not the same"


def test_bits_are_promised_on_cpus_and_if_asked_for_on_one_model_of_gpu(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = offline.study(store).train_config({})
    asked = plain.model_copy(update={"deterministic": True})
    cpu, card = "", "NVIDIA H200"
    promised = [(plain, {cpu}, cpu), (asked, {card}, card), (plain, set(), cpu)]
    not_promised = [
        (plain, {card}, card),
        (asked, {card, "NVIDIA A100"}, card),
        (asked, {card}, cpu),
        (plain, {cpu}, card),
    ]
    for promises, rows in ((True, promised), (False, not_promised)):
        for config, then, now in rows:
            monkeypatch.setattr(search.workflows.replay, "_gpu", lambda _, now=now: now)
            assert promises_bits(config, then) == promises, (then, now)


def test_another_ending_is_shown(
    tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    offline.finished(tmp_path, store)
    assert not replay(tmp_path, 2, fit="tests.search.workflows.test_replay:diverging")
    assert "ended now, unlike then: Diverged: step 7: dice is nan" in capsys.readouterr().out


def test_differences_leave_times_out_and_equal_nans() -> None:
    nan = math.nan
    then = {"a": 1.0, "b": nan, "c": 2.0, "time/epoch_s": 1.0, "old": 0.0}
    now = {"a": 1.0, "b": nan, "c": 2.5, "time/epoch_s": 2.0, "new": 0.0}
    assert differences(then, now) == [
        "c: 2.0 then, 2.5 now (+0.5)", "new: only now", "old: only then"
    ]  # fmt: skip
    assert differences({"a": nan}, {"a": 1.0}, 0.05)
    assert not differences({"a": 0.5, "b": 100.0}, {"a": 0.54, "b": 96.0}, 0.05)
    assert differences({"a": 0.5}, {"a": 0.56}, 0.05) and differences({"b": 9.0}, {"b": 8.0}, 0.05)
    loss = "train/loss"
    assert differences({loss: 0.02}, {loss: 0.022}, 0.05)
    assert not differences({loss: 0.02}, {loss: 0.0205}, 0.05)


def test_what_differs_is_named(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Code, versions, processor and threads; nothing where all is as it was."""
    monkeypatch.setattr(search.workflows.replay, "code_commit", lambda: "c" * 40)
    monkeypatch.setattr(offline, "code_commit", lambda: "c" * 40)
    offline.finished(tmp_path, store)
    replay(tmp_path, 2, fit=TOY)
    assert not said(capsys, note=True)
    versions = search.workflows.replay.package_versions() | {"torch": "1.0"}
    monkeypatch.setattr(search.workflows.replay, "package_versions", lambda: versions)
    monkeypatch.setattr(search.workflows.replay, "code_commit", lambda: "d" * 40)
    monkeypatch.setattr("search.workflows.replay.cpu_model", lambda: "Another CPU")
    replay(tmp_path, 2, fit=TOY)
    lines = said(capsys, note=True)
    assert len(lines) == 3
    assert lines[0] == f"note       commit: {'c' * 40} then, {'d' * 40} now"
    assert "torch: " in lines[1] and "1.0 now" in lines[1]
    assert lines[2].startswith("note       cpu: ") and lines[2].endswith("then, Another CPU now")


def test_another_store_is_named(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainer.data.store import Store

    offline.finished(tmp_path, store)
    study, state = read_study(tmp_path)
    monkeypatch.setattr(Store, "open", lambda path: SimpleNamespace(content_hash="0" * 64))
    lines = search.workflows.replay.environment(state.study, [], [], study.train_config({}))
    assert any(line.startswith("store: ") and "000000000000 now" in line for line in lines)


def test_status_is_0_where_identical_1_where_not_2_for_a_mistake(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status 0 where identical, 1 where not, 2 with a line for a mistake."""
    offline.finished(tmp_path / "toy", store)

    def invoke(*words: str):
        return CliRunner().invoke(main, ["replay", "toy", *words, "--runs", str(tmp_path)])

    monkeypatch.setattr(search.workflows.replay, "replay", lambda folder, trial, **_: trial == 2)
    assert (invoke("2").exit_code, invoke("3").exit_code) == (0, 1)
    monkeypatch.undo()
    result = invoke("99")
    assert result.exit_code == 2 and result.stderr == "toy:99: no such trial; there are 0 to 6\n"
    with pytest.raises(ConfigError, match="no epoch of it was reported"):
        replay(tmp_path / "toy", 2, epochs=0)
