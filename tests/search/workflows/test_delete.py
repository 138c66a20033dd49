"""`segtune delete` and `checkpoints.keep`: what goes, what stays, and what then says so."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from search.analysis.ranking import best_of
from search.ledger.journal import Ledger
from search.ledger.lease import BeingRun
from search.ledger.session import StudySession
from search.storage.disk import parts_there, remove_parts, study_sizes
from search.storage.mlflow_cursor import Cursor, write_cursor
from search.storage.s3 import Remote, mirror_of
from search.storage.s3_run import S3Run
from search.storage.studies import open_as_driver, read_study
from search.tracking.client import connect
from search.tuning.checkpoint_keeper import CheckpointKeeper
from search.workflows import delete
from search.workflows.check.study import damages
from search.workflows.delete import delete_study
from tests.fixtures.copies import refused, segtune
from tests.search import offline
from tests.search.conftest import Driver, write_study
from trainer.configfile import ConfigError

FILES = {"checkpoints/000000000001.pt": 300, "checkpoints/000000000002.pt": 300, "ema.pt": 100,
         "samples/epoch0001-case.png": 50, "log.txt": 10}  # fmt: skip
TRIALS = range(7)
"""The control, a reference, and five that are searched, of which 4 is the best, then 6."""


@pytest.fixture
def runs(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished study with files of known sizes in its trials' folders."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    runs = tmp_path / "runs"
    offline.finished(runs / "toy", store)
    for number in TRIALS:
        fill(runs / "toy" / "trials" / f"{number:04d}")
    return runs


def fill(run_dir: Path) -> None:
    shutil.rmtree(run_dir, ignore_errors=True)
    for name, size in FILES.items():
        (run_dir / name).parent.mkdir(parents=True, exist_ok=True)
        (run_dir / name).write_bytes(bytes(size))


def left(runs: Path) -> dict[int, set[str]]:
    """Which trials have weights and checkpoints."""
    found = {}
    for number in TRIALS:
        run_dir = runs / "toy" / "trials" / f"{number:04d}"
        names = {p.name for p in run_dir.rglob("*.pt")}
        found[number] = {"weights"} & ({"weights"} if "ema.pt" in names else set())
        if len(names - {"ema.pt"}) == 2:
            found[number] |= {"checkpoints"}
    return found


ALL = {"weights", "checkpoints"}


def test_the_best_stay_and_the_rest_is_said_to_be_gone(runs: Path) -> None:
    before = study_sizes(runs / "toy")
    assert before["checkpoints"] == 7 * 600 and before["weights"] == 7 * 100
    assert before["pictures"] == 7 * 50 and before["ledger"] > 1000 and before["mlflow"] == 0
    plan = segtune("delete", "toy", "--weights-but", 1, "--dry-run", "--runs", runs)
    assert plan == (
        "kept       the weights of 0, 1, 4\ndelete     weights and checkpoints of 4 trials, 3 kB\n"
    )
    assert set(map(frozenset, left(runs).values())) == {frozenset(ALL)}
    out = segtune("delete", "toy", "--weights-but", 1, "--runs", runs)
    assert out == f"{plan}{runs}/toy: 3 kB freed\n"
    assert left(runs) == {n: ALL if n in (0, 1, 4) else set() for n in TRIALS}
    after = study_sizes(runs / "toy")
    assert (after["checkpoints"], after["weights"], after["pictures"]) == (1800, 300, 350)
    rows = json.loads(segtune("compare", "toy", "--json", "--runs", runs))["trials"]
    assert {row["trial"] for row in rows if row["deleted"]} == {2, 3, 5, 6}
    says = "toy:6: its weights and checkpoints were deleted (segtune delete by "
    assert says in refused("resume", "toy:6", "--epochs", 9, "--runs", runs)
    assert says.replace("toy:6: ", "") in refused("export", "toy:6", runs / "out", "--runs", runs)
    damaged = {damage.file for damage in damages(runs / "toy")}
    assert "trials/0004/ema.pt" in damaged  # of zeros
    assert "trials/0006/ema.pt" not in damaged
    again = segtune("delete", "toy", "--weights-but", 1, "--runs", runs)
    assert "of 0 trials" in again and left(runs)[4] == ALL


def test_who_is_killed_leaves_what_the_next_one_removes(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = delete.remove_parts, []

    def dies(run_dir: Path, parts: object) -> int:
        seen.append(run_dir)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return real(run_dir, parts)

    monkeypatch.setattr(delete, "remove_parts", dies)
    with pytest.raises(KeyboardInterrupt):
        [*delete.delete_weights(runs / "toy", 1)]
    trials = read_study(runs / "toy")[1].trials
    assert {n for n, trial in trials.items() if trial.deleted} == {2, 3, 5, 6}
    assert sum(parts == ALL for parts in left(runs).values()) == 6
    monkeypatch.setattr(delete, "remove_parts", real)
    assert "toy:3: its weights and checkpoints were deleted" in refused(
        "resume", "toy:3", "--epochs", 9, "--runs", runs
    )
    before = (runs / "toy/ledger.jsonl").read_text().count('"deleted"')
    [*delete.delete_weights(runs / "toy", 1)]
    assert left(runs) == {n: ALL if n in (0, 1, 4) else set() for n in TRIALS}
    assert (runs / "toy/ledger.jsonl").read_text().count('"deleted"') == before


def test_weights_that_others_begin_with_stay(runs: Path, store: Path) -> None:
    weights = runs / "toy/trials/0003/ema.pt"
    config = offline.study(store, study="other", train={"init_from": str(weights)})
    with offline.opened(config, runs / "other", first_weights={}):
        pass
    out = segtune("delete", "toy", "--weights-but", 0, "--runs", runs)
    assert "kept       toy:3: other begins with it\n" in out
    assert left(runs) == {n: ALL if n in (0, 1, 3) else set() for n in TRIALS}
    line = refused("delete", "toy", "--yes", "--runs", runs)
    assert "other begins with the weights of trial 3: delete that study first" in line


def test_a_trial_that_may_go_on_keeps_its_own(runs: Path, store: Path) -> None:
    config = offline.study(store)
    with offline.opened(config, runs / "toy") as session:
        about = {"params": {"optimizer.lr": 1e-3}, "kind": "sampled", "protected": False}
        session.record({"event": "proposed", "trial": 7, **about})
        session.record({"event": "proposed", "trial": 8, **about})
        offline.end(session, session.state.trials[8], "failed")
    for number in (7, 8):
        fill(runs / "toy/trials" / f"{number:04d}")
    segtune("delete", "toy", "--weights-but", 0, "--runs", runs)
    for number in (7, 8):
        assert {p.name for p in (runs / "toy/trials" / f"{number:04d}").rglob("*.pt")}


def test_nothing_goes_while_a_driver_lives(runs: Path, store: Path) -> None:
    with offline.opened(offline.study(store), runs / "toy"):
        for words in (("--weights-but", 1), ("--yes",)):
            line = refused("delete", "toy", *words, "--runs", runs)
            assert "is being run by" in line and line.count("\n") == 1
    assert set(map(frozenset, left(runs).values())) == {frozenset(ALL)}


def in_mlflow(runs: Path, database: Path, empty: Path) -> tuple[MlflowClient, str]:
    """Let MLflow know of the study; return who asks it, and the experiment's id."""
    shutil.copy(empty, database)
    client = connect(f"sqlite:///{database}")
    write_cursor(runs / "toy", Cursor(f"sqlite:///{database}", 0, 0))
    (runs / "mlflow-artifacts/toy").mkdir(parents=True)
    return client, client.create_experiment("toy")


def test_a_whole_study_goes_at_once(
    runs: Path, tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, number = in_mlflow(runs, tmp_path / "mlflow.db", empty_database)
    line = refused("delete", "toy", "--runs", runs)
    assert f"{runs}/toy: 7 trials, " in line and "--yes deletes all of it" in line
    assert (runs / "toy/ledger.jsonl").exists()
    # Killed after it was moved aside: no study any more, and the next one removes it.
    with monkeypatch.context() as patch:
        patch.setattr(delete, "sweep", lambda runs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            [*delete.delete_study(runs / "toy", yes=True)]
    assert not (runs / "toy").exists() and (runs / delete.ASIDE).exists()
    assert "no study" in segtune("list", "--runs", runs)
    assert "no such study" in refused("delete", "toy", "--yes", "--runs", runs)
    assert not (runs / delete.ASIDE).exists()
    gone: MlflowClient = client.get_experiment(number)
    assert gone.lifecycle_stage == "deleted" and gone.name.startswith("toy (deleted ")


def test_wrong_words_are_refused(runs: Path) -> None:
    for words, says in {
        ("toy", "--weights-but", "-1"): "-1 is not in the range x>=0",
        ("toy", "--weights-but", "1", "--yes"): "--weights-but and --yes: give one of them",
        ("toy", "--dry-run"): "--dry-run: goes with --weights-but",
        ("tyo", "--yes"): "did you mean toy",
    }.items():
        assert says in refused("delete", *words, "--runs", runs)


def test_a_new_report_takes_a_deletion_back(runs: Path) -> None:
    segtune("delete", "toy", "--weights-but", 0, "--runs", runs)
    with Ledger.open(runs / "toy/ledger.jsonl", writer=True) as ledger:
        about = {"trial": 6, "epoch": 3}
        ledger.append({"event": "resumed", **about, "epochs": 4})
        value = {"value": 0.5, "metrics": {"val/dice": 0.5}}
        ledger.append({"event": "reported", "trial": 6, "epoch": 4, **value})
    trials = read_study(runs / "toy")[1].trials
    assert trials[6].deleted is None and trials[5].deleted


@pytest.mark.parametrize(("keep", "stay"), [(0, {0, 1}), (2, {0, 1, 4, 6}), ("all", {*TRIALS})])
def test_a_study_keeps_the_checkpoints_that_it_says(
    runs: Path, store: Path, keep: int | str, stay: set[int]
) -> None:
    config = offline.study(store, checkpoints={"keep": keep})
    with offline.opened(config, runs / "toy") as session:
        keeper(session).finish()
    assert {n for n, parts in left(runs).items() if "checkpoints" in parts} == stay
    assert all("weights" in parts for parts in left(runs).values())


def keeper(session: StudySession, alive: Callable[[], set[int]] = set) -> CheckpointKeeper:
    return CheckpointKeeper(session, alive, print)


def test_checkpoints_go_while_the_study_runs_and_of_no_living_attempt(
    runs: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CheckpointKeeper, "PERIOD_S", 0.0)
    alive = {5}
    with offline.opened(offline.study(store, checkpoints={"keep": 1}), runs / "toy") as session:
        keeps = keeper(session, lambda: alive)
        keeps.poll()
        kept = {n for n, parts in left(runs).items() if "checkpoints" in parts}
        assert kept == {0, 1, 4, 5}
        # It was resumed, and goes on from its checkpoint; then it ends again, as the best.
        fill(runs / "toy/trials/0002")
        session.record({"event": "resumed", "trial": 2, "epoch": 3, "epochs": 4})
        keeps.poll()
        value = {"value": 0.99, "metrics": {"val/dice": 0.99}}
        session.record({"event": "reported", "trial": 2, "epoch": 4, **value})
        offline.end(session, session.state.trials[2], "completed")
        alive.clear()
        keeps.poll()
    assert {n for n, parts in left(runs).items() if "checkpoints" in parts} == {0, 1, 2}
    line = refused("resume", "toy:3", "--epochs", 9, "--runs", runs)
    assert "no checkpoint here: the study keeps those of its best 10 (checkpoints.keep)" in line


def test_a_disk_that_refuses_is_said_once(
    runs: Path, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuses(*_: object) -> int:
        raise PermissionError(13, "Permission denied", "x.pt")

    monkeypatch.setattr("search.tuning.checkpoint_keeper.remove_parts", refuses)
    with offline.opened(offline.study(store, checkpoints={"keep": 0}), runs / "toy") as session:
        keeper(session).finish()
    assert capsys.readouterr().out.count("note: checkpoints that the study does not keep") == 1


@pytest.mark.parametrize("keep", ["none", -1, True, 1.5, None])
def test_wrong_settings_are_a_line(store: Path, keep: object) -> None:
    with pytest.raises(ValueError, match="must be"):
        offline.study(store, checkpoints={"keep": keep})


def test_a_study_without_the_section_is_written_as_before(store: Path) -> None:
    plain, kept = offline.study(store), offline.study(store, checkpoints={"keep": 3})
    assert "checkpoints" not in plain.model_dump(mode="json")
    assert kept.model_dump(mode="json")["checkpoints"] == {"keep": 3}
    assert plain.config_hash() == kept.config_hash()


def test_in_s3_the_manifest_goes_first(s3: str, store: Path) -> None:
    runs = Remote.parse(s3)
    place, folder = runs / "toy", mirror_of(runs) / "toy"
    run_dir = folder / "trials/0005"
    fill(run_dir)
    with S3Run(place, run_dir, 5, (1, 1), {}) as run:
        fill(run_dir)
        run.send()
    sizes = study_sizes(folder)
    assert (sizes["checkpoints"], sizes["weights"], sizes["pictures"]) == (600, 100, 50)
    assert parts_there(run_dir, ("checkpoints",)) == {"checkpoints": 600}
    assert remove_parts(run_dir, ("checkpoints",)) == 600
    assert parts_there(run_dir, ALL) == {"weights": 100}
    assert not [e for e in place.entries("trials") if "checkpoints" in e.key]
    assert remove_parts(run_dir, ("checkpoints",)) == 0


def test_a_whole_study_in_s3_goes_and_leaves_its_neighbours(s3: str, store: Path) -> None:
    """Unless a driver has it."""
    runs = Remote.parse(s3)
    folder, config = mirror_of(runs) / "toy", offline.study(store).model_dump(mode="json")
    run_dir = folder / "trials/0001"
    with open_as_driver(folder) as ledger:
        ledger.append({"event": "study", "uid": "u", "config": config, "store_hash": ""})
        with S3Run(runs / "toy", run_dir, 1, (ledger.fence, 1), {}) as run:
            fill(run_dir)
            run.send()
        with pytest.raises(BeingRun):
            [*delete_study(folder, yes=True)]
    (runs / "toys").put("study.yaml", b"another")
    assert {entry.key.partition("/")[0] for entry in (runs / "toy").entries()} >= {"trials"}
    with pytest.raises(ConfigError, match="--yes deletes all of it"):
        [*delete_study(folder, yes=False)]
    [line] = delete_study(folder, yes=True)
    assert line.startswith(f"{(runs / 'toy').uri}: deleted: 0 trials")
    assert not (runs / "toy").entries() and not folder.exists()
    assert [entry.key for entry in (runs / "toys").entries()] == ["study.yaml"]


@pytest.mark.slow
def test_a_driver_keeps_what_its_study_says(
    tmp_path: Path, store: Path, drive: Callable[..., Driver]
) -> None:
    driver = drive(write_study(tmp_path, store, checkpoints={"keep": 1}))
    driver.finish()
    study, state = read_study(driver.folder)
    best = best_of(study, state)
    assert best and len(state.trials) == 10
    having = {int(path.parents[1].name) for path in driver.folder.glob("trials/*/checkpoints/*.pt")}
    assert having == {0, 1, best.number}


@pytest.mark.slow
def test_mlflow_says_what_is_gone(runs: Path, tmp_path: Path, empty_database: Path) -> None:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    segtune("sync", "toy", "--runs", runs)
    segtune("delete", "toy", "--weights-but", 1, "--runs", runs)
    client = connect(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("toy")
    tags = {
        run.info.run_name: run.data.tags for run in client.search_runs([experiment.experiment_id])
    }
    gone = [
        name for name, each in tags.items() if "weights and checkpoints" in each.get("deleted", "")
    ]
    assert len(tags) == 8 and len(gone) == 4
    assert json.loads(segtune("status", "toy", "--json", "--runs", runs))["problem"] is None


def test_a_study_that_an_earlier_version_began_keeps_all(runs: Path, store: Path) -> None:
    """Unless it is told otherwise."""

    def with_checkpoints() -> set[int]:
        return {n for n, parts in left(runs).items() if "checkpoints" in parts}

    before = with_checkpoints()
    with offline.opened(offline.study(store), runs / "toy") as session:
        keeper(session).finish()
    assert with_checkpoints() == before
    with offline.opened(offline.study(store, checkpoints={"keep": 0}), runs / "toy") as session:
        keeper(session).finish()
    assert with_checkpoints() < before


def test_a_copy_of_a_study_leaves_mlflow_to_the_study(
    runs: Path, tmp_path: Path, empty_database: Path
) -> None:
    client, number = in_mlflow(runs, tmp_path / "mlflow.db", empty_database)
    shutil.copytree(runs / "toy", runs / "copy")
    segtune("delete", "copy", "--yes", "--runs", runs)
    assert client.get_experiment(number).lifecycle_stage == "active"
    assert (runs / "mlflow-artifacts/toy").is_dir() and not (runs / "copy").exists()
    other = client.create_run(number, tags={"study_uid": "another"})
    segtune("delete", "toy", "--yes", "--runs", runs)
    assert client.get_experiment(number).lifecycle_stage == "active"
    assert client.get_run(other.info.run_id).info.lifecycle_stage == "active"
