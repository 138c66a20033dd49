"""An earlier study's trials inform a new one's sampler, and nothing else."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from optuna.trial import TrialState

import search.workflows.launch
from search.analysis.results import compare
from search.cli.main import main
from search.ledger.journal import Ledger
from search.ledger.session import StudySession
from search.ledger.state import StudyState
from search.sampler.sampler import Sampler
from search.sampler.warm_start import warm_start
from search.study.config import StudyConfig
from tests.search import offline
from tests.search.conftest import Driver, events, write_study
from trainer.configfile import ConfigError

Event = dict[str, Any]

CHANGED: dict[str, dict[str, Any]] = {
    "optimizer.lr": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
    "loss.weighting": {"type": "categorical", "choices": ["fixed", "warm_in", "learned"]},
    "model.width": {"type": "int", "low": 8, "high": 64, "step": 8},
}
"""Of `calm`'s space: lr in a narrower range, one choice more, two dimensions less, one new."""


@pytest.fixture
def changed(tmp_path: Path, store: Path) -> StudyConfig:
    return StudyConfig.model_validate(yaml.safe_load(new_study(tmp_path, store).read_text()))


def new_study(runs: Path, store: Path, **settings: Any) -> Path:
    values = {"study": "later", "space": CHANGED, "enqueue": [], "train": {"batch.effective": 8}}
    values["scheduler"] = {"grace_period": 3, "max_t": 9, "smoothing": 2}
    return write_study(runs, store, **(values | settings))


def searched(folder: Path) -> dict[int, dict[str, Any]]:
    proposed = events(folder, "proposed")
    return {e["trial"]: e["params"] for e in proposed if not e["protected"]}


def test_a_changed_space(calm: Driver, changed: StudyConfig) -> None:
    """Real trials, told as they were; what was fixed there fills what is new here."""
    result = warm_start(changed, [calm.folder])
    there = searched(calm.folder)
    inside = [n for n, params in there.items() if 1e-4 <= params["optimizer.lr"] <= 1e-2]
    assert 0 < len(inside) < len(there)
    assert [event["source_trial"] for event in result.events] == inside
    width = changed.train_config({}).model.width
    reports = events(calm.folder, "reported")
    for event in result.events:
        number = event["source_trial"]
        assert event["source"] == "toy"
        assert event["params"] == {
            "optimizer.lr": there[number]["optimizer.lr"],
            "loss.weighting": there[number]["loss.weighting"],
            "model.width": width,
        }
        values = [[e["epoch"], e["value"]] for e in reports if e["trial"] == number]
        assert event["values"] == values
        [ending] = [e["ending"] for e in events(calm.folder, "ended") if e["trial"] == number]
        assert event["ending"] == ending
    outside = [n for n in there if n not in inside]
    assert [line for line in result.lines if "left out" in line] == [
        f"warm start: toy:{n}: optimizer.lr: {there[n]['optimizer.lr']!r}: "
        "must be from 0.0001 to 0.01; left out"
        for n in outside
    ]
    assert "warm start: toy: batch.effective: searched there, 8 here" in result.lines
    assert (
        result.lines[-1] == f"warm start: toy: {len(inside)} of 8 ended trials inform the sampler"
    )


def test_the_sampler_learns_from_them(calm: Driver, changed: StudyConfig) -> None:
    """They are Optuna's first trials, in a replay too, and change what it proposes."""
    imported = warm_start(changed, [calm.folder]).events
    sampler, cold = Sampler(changed), Sampler(changed)
    for event in imported:
        sampler.observe(event)
    proposal = sampler.propose(1, {})
    trials = sampler.optuna_study.trials[:-1]
    states = {"completed": TrialState.COMPLETE, "stopped": TrialState.PRUNED}
    assert [trial.state for trial in trials] == [states[event["ending"]] for event in imported]
    assert trials[0].params["optimizer.lr"] == imported[0]["params"]["optimizer.lr"]
    assert len(trials) >= changed.sampler.num_startup_trials
    again = Sampler(changed)
    for event in json.loads(json.dumps(imported)):
        again.observe(event)
    assert proposal == again.propose(1, {})
    assert proposal["params"] != cold.propose(1, {})["params"]


def test_into_a_new_study_once(
    calm: Driver, tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the command; the same command again imports nothing, another source is refused."""
    lives: list[StudySession] = []

    def propose_one(session: StudySession, *_: Any, **__: Any) -> int:
        lives.append(session)
        if not session.state.trials:
            session.record(
                {
                    "event": "proposed",
                    "trial": 0,
                    "params": session.study.control_params,
                    "kind": "control",
                    "protected": True,
                }
            )
        return 0

    def invoke(*words: str) -> Any:
        command = ["launch", str(space), "--runs", str(tmp_path), *words]
        return CliRunner().invoke(main, command)

    monkeypatch.setattr(search.workflows.launch, "run_study", propose_one)
    space, folder = new_study(tmp_path, store), tmp_path / "later"
    warm = ("--warm-start", str(calm.folder))
    dry = invoke("--dry-run", *warm)
    assert dry.exit_code == 0, dry.output
    assert "8 ended trials inform the sampler" in dry.output
    assert not (folder / "ledger.jsonl").exists()

    first = invoke(*warm, *warm)
    assert first.exit_code == 0 and first.output.count("inform the sampler") == 1
    imported = events(folder, "imported")
    assert len(imported) == len({e["source_trial"] for e in imported}) > 0
    assert events(folder, "study")[-1]["warm_start"] == ["toy"]
    for words in (warm, ()):
        assert invoke(*words).exit_code == 0
    assert events(folder, "imported") == imported
    assert [e["event"] for e in events(folder)].count("study") == 1

    assert not lives[-1].state.searched() and not lives[-1].pruner.asha.snapshot()["trials"]
    assert compare(folder)["trials"] == []
    (tmp_path / "same").symlink_to(calm.folder)
    assert invoke("--warm-start", "same").exit_code == 0
    (tmp_path / "other").mkdir()
    shutil.copy(calm.folder / "ledger.jsonl", tmp_path / "other")
    refused = invoke(*warm, "--warm-start", "other")
    assert refused.exit_code == 2
    assert "--warm-start other: this study was begun without it" in refused.output
    missing = invoke("--warm-start", "tpy")
    assert missing.exit_code == 2 and "tpy: no such study" in missing.output


def test_one_that_has_not_begun_begins_anew(calm: Driver, tmp_path: Path, store: Path) -> None:
    """With other settings its imports are made again, and only those count."""
    later = tmp_path / "later"
    for high in (1e-2, 1e-3):
        space = {**CHANGED, "optimizer.lr": {**CHANGED["optimizer.lr"], "high": high}}
        path = new_study(tmp_path / str(high), store, space=space)
        study = StudyConfig.model_validate(yaml.safe_load(path.read_text()))
        with Ledger.open(later / "ledger.jsonl", writer=True) as ledger:
            search.workflows.launch._create_or_continue(study, "hash", later, ledger, [calm.folder])
            state, sampler = StudyState.replay(ledger.events), Sampler(study)
            for event in ledger.events:
                sampler.observe(event)
        sampler.propose(1, {})
        lrs = [event["params"]["optimizer.lr"] for event in state.imported]
        assert [trial.params["optimizer.lr"] for trial in sampler.optuna_study.trials[:-1]] == lrs
        assert lrs and max(lrs) <= high


def test_an_import_cut_short_is_made_again(
    calm: Driver, changed: StudyConfig, tmp_path: Path
) -> None:
    """A crash in the append leaves nothing of it, whichever line it cuts."""
    whole = tmp_path / "whole"
    path = whole / "ledger.jsonl"
    with Ledger.open(path, writer=True) as ledger:
        search.workflows.launch._create_or_continue(changed, "hash", whole, ledger, [calm.folder])
    lines = path.read_bytes().splitlines(keepends=True)
    for kept in range(1, len(lines)):
        folder = tmp_path / f"torn{kept}"
        folder.mkdir()
        torn = folder / "ledger.jsonl"
        torn.write_bytes(b"".join(lines[:kept]) + lines[kept][:20])
        with Ledger.open(torn, writer=True) as ledger:
            search.workflows.launch._create_or_continue(
                changed, "hash", folder, ledger, [calm.folder]
            )
        events_again = StudyState.replay(Ledger.open(torn, writer=False).events).imported
        numbers = [event["source_trial"] for event in events_again]
        assert numbers == [e["source_trial"] for e in events(whole, "imported")]


def earlier(folder: Path, store: Path, max_t: int, **settings: Any) -> Path:
    """Write a study of lr alone whose trials end in every way after 6 epochs; return its folder."""
    config = offline.study(store, scheduler={"type": "none", "max_t": max_t}, **settings)
    endings = ["completed", "stopped", "stalled", "infeasible", "failed"]
    with offline.opened(config, folder) as session:
        offline.propose(session)
        for trial in session.state.searched():
            for epoch in range(1, 7):
                metrics = {"val/dice": 0.1 * epoch, "time/case_s": float(trial.number)}
                about = {"trial": trial.number, "epoch": epoch, "metrics": metrics}
                session.record({"event": "reported", **about, "value": metrics["val/dice"]})
            offline.end(session, trial, endings[trial.number - 2])
        session.record({"event": "resumed", "trial": 2, "epoch": 6, "epochs": 9})
        session.record({"event": "reported", "trial": 2, "epoch": 9, "value": 0.99, "metrics": {}})
        offline.end(session, session.state.trials[2], "completed")
    return folder


@pytest.mark.parametrize(
    ("max_t", "told"),
    [
        (6, ["completed", "stopped", "stalled", "infeasible"]),
        (9, ["stopped", "stopped", "stalled", "infeasible"]),
        (4, ["completed"] * 5),
    ],
)
def test_trials_of_another_length_are_stopped_or_cut(
    tmp_path: Path, store: Path, max_t: int, told: list[str]
) -> None:
    """A shorter training there was stopped, seen from here; of a longer one the beginning counts.

    What a trial did when it was resumed is left out, as is one that failed before max_t.
    """
    source = earlier(tmp_path / "toy", store, max_t=6)
    study = offline.study(store, study="later", scheduler={"type": "none", "max_t": max_t})
    result = warm_start(study, [source])
    assert [event["ending"] for event in result.events] == told
    assert [event["source_trial"] for event in result.events] == [2, 3, 4, 5, 6][: len(told)]
    for event in result.events:
        assert [epoch for epoch, _ in event["values"]] == list(range(1, min(max_t, 6) + 1))
    about = f"warm start: toy: scheduler.max_t: 6 there, {max_t} here"
    assert (about in result.lines) == (max_t != 6)


def test_several_objectives(tmp_path: Path, store: Path) -> None:
    """Every report has all that it was measured by; what was not is not a number."""
    source = earlier(tmp_path / "toy", store, max_t=6)
    further = [{"metric": "time/case_s", "mode": "min"}, {"metric": "val/hd95_mm", "mode": "min"}]
    settings: dict[str, Any] = {"scheduler": {"type": "none", "max_t": 6}, "study": "later"}
    study = offline.study(store, further_objectives=further[:1], **settings)
    result = warm_start(study, [source])
    assert result.events[1]["values"][-1] == [6, pytest.approx(0.6), 3.0]
    sampler = Sampler(study)
    for event in result.events:
        sampler.observe(event)
    sampler.propose(2, {})
    assert sampler.optuna_study.trials[0].values == [pytest.approx(0.6), 2.0]
    unmeasured = warm_start(offline.study(store, further_objectives=further, **settings), [source])
    assert math.isnan(unmeasured.events[1]["values"][-1][3])


def test_nsga2_breeds_from_them(tmp_path: Path, store: Path) -> None:
    """They are its first generation."""
    source = earlier(tmp_path / "toy", store, max_t=6)
    sampler = {"type": "nsga2", "population_size": 2}
    scheduler = {"type": "none", "max_t": 6}
    study = offline.study(store, study="later", sampler=sampler, scheduler=scheduler)
    optuna = Sampler(study)
    for event in warm_start(study, [source]).events:
        optuna.observe(event)
    assert optuna.propose(2, {})["optuna"]["trial"] == {"NSGAIISampler:generation": 1}


def test_a_warm_start_that_cannot_help_is_refused(tmp_path: Path, store: Path) -> None:
    source = earlier(tmp_path / "toy", store, max_t=6)
    speed = {"metric": "time/case_s", "mode": "min"}
    with pytest.raises(ConfigError, match=r"toy: objective: val/dice \(max\): must be that of"):
        warm_start(offline.study(store, objective=speed), [source])
    for kind in ("random", "qmc"):
        with pytest.raises(ConfigError, match=f"sampler.type: {kind}: learns from none"):
            warm_start(offline.study(store, sampler={"type": kind}), [source])


def test_the_best_of_an_earlier_study_may_be_a_prior(tmp_path: Path, store: Path) -> None:
    """Of a sampler that learns nothing, too; none of the trials is the new study's."""
    source = earlier(tmp_path / "toy", store, max_t=6)
    for kind in ("tpe", "random"):
        study = offline.study(
            store,
            sampler={"type": kind, "warm_start": "prior"},
            scheduler={"type": "none", "max_t": 6},
        )
        found = warm_start(study, [source])
        assert "ended trials lie in this space; the best of them is a prior" in found.lines[-1]
        sampler = Sampler(study)
        for event in found.events:
            sampler.observe(event)
        best = max(found.events, key=lambda event: (event["values"] or [[0, 0]])[-1][:2])
        assert sampler.propose(2, {})["params"] == best["params"]
    study = offline.study(store, sampler={"type": "qmc", "warm_start": "prior"})
    with pytest.raises(ConfigError, match=r"sampler\.warm_start: prior: qmc draws from none"):
        warm_start(study, [source])


def test_says_what_differs(tmp_path: Path, store: Path) -> None:
    """One line for each setting, be it fixed there or a default, and for other data."""
    source = earlier(tmp_path / "toy", store, max_t=6, train={"epoch_images": 77, "seed": 5})
    lines = (source / "ledger.jsonl").read_text()
    study = offline.study(
        store,
        scheduler={"type": "none", "max_t": 6},
        train={"model.width": 8},
        data={"store": str(store), "fold": 1},
    )
    default = offline.study(store).train_config({})
    assert warm_start(study, [source]).lines[:-1] == [
        "warm start: toy: data.fold: 0 there, 1 here",
        f"warm start: toy: epoch_images: 77 there, {default.epoch_images} here",
        f"warm start: toy: model.width: {default.model.width} there, 8 here",
    ]
    assert (source / "ledger.jsonl").read_text() == lines
    manifest = json.loads((store / "manifest.json").read_text())
    other = tmp_path / "store"
    other.mkdir()
    (other / "manifest.json").write_text(json.dumps(manifest | {"content_hash": "other"}))
    moved = offline.study(other, scheduler={"type": "none", "max_t": 6})
    [line, *_] = warm_start(moved, [source]).lines
    assert line == f"warm start: toy: data.store: {store}: has other content than this study's"
