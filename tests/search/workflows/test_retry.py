"""Trials that failed get another try, once what made them fail was mended."""

import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

import search.workflows.retry
from search.cli.main import main
from search.execution.faults.recovery import Recovery
from search.ledger.events import lasting
from search.ledger.journal import Ledger
from search.monitor.snapshot import StudySnapshot
from search.monitor.status import render, status
from search.monitor.study_list import list_studies
from search.report.page_data import gather
from search.sampler.sampler import Sampler
from search.storage.studies import read_study
from search.tuning.scheduler import Scheduler
from search.workflows.conclusion import conclude
from search.workflows.retry import preview, retry
from tests.search import offline
from tests.search.conftest import events
from trainer.configfile import ConfigError
from trainer.exceptions import StoreChanged
from trainer.exit_status import Exit

RULE = "only what failed, or ended as infeasible"


@pytest.fixture
def folder(
    tmp_path: Path, store: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A study whose trials ended: 2 and 5 failed, 3 was infeasible, 6 diverged."""
    monkeypatch.setattr(search.workflows.retry, "run_study", offline.run_study)
    folder = tmp_path / "runs" / "toy"
    folder.mkdir(parents=True)
    shutil.copy(empty_database, folder.parent / "mlflow.db")
    with offline.opened(offline.study(store), folder) as session:
        offline.propose(session)
        endings = {2: "failed", 3: "infeasible", 5: "failed", 6: "diverged"}
        for trial in session.state.live():
            if trial.number in endings:
                offline.end(session, trial, endings[trial.number], "OSError: the store is away")
            else:
                offline.train(session, trial)
    return folder


def endings(folder: Path) -> dict[int, str | None]:
    return {trial.number: trial.ending for trial in read_study(folder)[1].trials.values()}


def test_all_that_failed_by_default(folder: Path) -> None:
    before = events(folder)
    assert retry(folder) == 0
    after = events(folder)
    assert after[: len(before)] == before
    assert [(e["trial"], e["epoch"]) for e in events(folder, "retried")] == [(2, 0), (5, 0)]
    found = endings(folder)
    assert (found[2], found[3], found[5], found[6]) == (
        "completed", "infeasible", "completed", "diverged"
    )  # fmt: skip


def test_what_a_store_made_infeasible_is_named(folder: Path) -> None:
    assert retry(folder, [3, 5]) == 0
    assert endings(folder)[3] == endings(folder)[5] == "completed"
    assert endings(folder)[2] == "failed"


def test_failed_again_is_status_3(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(session: Any, address: str, **_: Any) -> int:
        for trial in session.live():
            offline.end(session, trial, "failed")
        return 0

    monkeypatch.setattr(search.workflows.retry, "run_study", fail)
    assert retry(folder) == Exit.BROKEN
    assert retry(folder, [5, 3]) == Exit.BROKEN


def test_the_same_call_again_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search.workflows.retry, "run_study", lambda session, address, **_: 0)
    for trials in ([], [], [2]):
        assert retry(folder, trials) == 0
    assert len(events(folder, "retried")) == 2
    assert preview(folder).count("was retried, and goes on") == 2


@pytest.mark.parametrize(
    ("trials", "problem"),
    [
        ([4], rf"^toy:4: completed \(.*\): {RULE}"),
        ([6], rf"^toy:6: diverged \(.*\): {RULE}"),
        ([2, 4, 6], r"(?s)^toy:4: completed .*\ntoy:6: diverged"),
        ([99], "^toy:99: no such trial; there are 0 to 6"),
    ],
)
def test_others_are_refused_before_anything_starts(
    folder: Path, trials: list[int], problem: str
) -> None:
    before = (folder / "ledger.jsonl").read_bytes()
    with pytest.raises(ConfigError, match=problem):
        preview(folder, trials)
    with pytest.raises(ConfigError, match=problem):
        retry(folder, trials)
    assert not events(folder, "retried")
    assert (folder / "ledger.jsonl").read_bytes().startswith(before)


def test_nothing_failed(tmp_path: Path, store: Path) -> None:
    offline.finished(tmp_path / "toy", store)
    with pytest.raises(ConfigError, match="no trial of it failed"):
        retry(tmp_path / "toy")


def test_a_trial_that_has_not_ended_is_launched(tmp_path: Path, store: Path) -> None:
    with offline.opened(offline.study(store), tmp_path) as session:
        offline.propose(session)
    with pytest.raises(ConfigError, match="has not ended: `segtune launch` continues it"):
        retry(tmp_path, [3])


def test_a_dry_run_writes_nothing(folder: Path) -> None:
    before = (folder / "ledger.jsonl").read_bytes()
    words = ["retry", "toy", "--runs", str(folder.parent), "--dry-run"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0
    assert [line.split(maxsplit=1)[0] for line in result.output.splitlines()] == ["toy:2", "toy:5"]
    assert "from its beginning" in result.output and "the store is away" in result.output
    named = CliRunner().invoke(main, ["retry", "toy:3", "5", *words[2:]])
    assert [line.split()[0] for line in named.output.splitlines()] == ["toy:3", "toy:5"]
    refused = CliRunner().invoke(main, ["retry", "toy:4", *words[2:]])
    assert refused.exit_code == 2 and "completed" in refused.output
    assert (folder / "ledger.jsonl").read_bytes() == before


def test_a_study_with_failures_is_not_finished(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In status, list, page and at the end of a launch; its exit status is 0: others completed."""
    hint = "ended, 2 failed: segtune retry toy"
    found = status(folder)
    assert (found["finished"], found["standing"]) == (False, hint)
    assert hint in render(found) and "launch` again" not in render(found)
    [row] = list_studies(folder.parent)["studies"]
    assert row["state"] == "ended, 2 failed"
    assert (gather(folder)["finished"], gather(folder)["standing"]) == (False, hint)
    study, _ = read_study(folder)
    with offline.opened(study, folder) as session:
        assert conclude(session) == 0
    out = capsys.readouterr().out
    assert f"then: segtune retry toy --runs {folder.parent}: 2 trials failed: OSError: the" in out
    assert retry(folder) == 0
    assert status(folder)["standing"] == "finished" and status(folder)["finished"]


def test_changed_data_are_mended_and_the_study_launched_also_where_a_trial_failed(
    tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = tmp_path / "error.pkl"
    error.write_bytes(pickle.dumps(StoreChanged(["/data/store: damaged store"])))
    with offline.opened(offline.study(store), tmp_path / "toy") as session:
        offline.propose(session)
        offline.end(session, session.state.trials[2], "failed", "OSError: its own")
        config = {"trial": 3, "train": {}, "run_dir": ""}
        attempt = SimpleNamespace(trial_id="a", config=config, pickled_error_file=str(error))
        Scheduler(session, Recovery(lambda: {"a": 1})).on_trial_error(None, attempt)
        assert conclude(session) == Exit.BROKEN
    out = capsys.readouterr().out
    assert "Mend what is wrong, then: segtune launch" in out and "damaged store" in out
    assert "segtune retry" not in out and "its own" not in out


def test_nothing_but_failures_is_status_3_also_when_launched_again(
    tmp_path: Path, store: Path
) -> None:
    study = offline.study(store)
    with offline.opened(study, tmp_path) as session:
        offline.propose(session)
        for trial in session.state.live():
            ending = "infeasible" if trial.number == 4 else "failed"
            offline.end(session, trial, ending)
        assert session.finished and conclude(session) == Exit.BROKEN


def test_the_sampler_hears_of_the_real_end_alone(folder: Path) -> None:
    """Rebuilt after a retry, it knows what it would know had the trial never failed."""
    retry(folder, [3, 5])
    study, _ = read_study(folder)
    read = Ledger.open(folder / "ledger.jsonl", writer=False).events
    told = []
    for taken in (lasting(read), [e for e in read if not _end_of_3_or_5(e, read)]):
        sampler = Sampler(study)
        for event in taken:
            sampler.observe(event)
        told.append([(t.params, t.state, t.values) for t in sampler.optuna_study.trials])
    assert told[0] == told[1]
    assert [state.name for _, state, _ in told[0]] == [
        "FAIL", "COMPLETE", "COMPLETE", "COMPLETE", "PRUNED"
    ]  # fmt: skip


def _end_of_3_or_5(event: dict[str, Any], read: list[dict[str, Any]]) -> bool:
    first = {e["trial"]: e for e in reversed(read) if e["event"] == "ended"}
    return event["event"] == "ended" and event["trial"] in (3, 5) and event is first[event["trial"]]


def test_a_retried_trial_is_back_at_its_rung(tmp_path: Path, store: Path) -> None:
    """What the rungs show is as if it had not failed."""
    study = offline.study(
        store, scheduler={"grace_period": 1, "max_t": 3, "reduction_factor": 3, "smoothing": 1}
    )
    with offline.opened(study, tmp_path) as session:
        offline.propose(session)
        trial = session.state.trials[4]
        offline.end(session, trial, "failed")
        session.record({"event": "retried", "trial": 4, "epoch": 0})
        offline.run_study(session)
    read = Ledger.open(tmp_path / "ledger.jsonl", writer=False)
    snapshot = StudySnapshot.of(read)
    calm = StudySnapshot(study)
    calm.apply(e for e in lasting(read.events) if e["event"] != "retried")
    assert snapshot is not None and snapshot.rungs.rows() == calm.rungs.rows()
    assert snapshot.rungs.lost == calm.rungs.lost
