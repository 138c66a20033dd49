"""`--dry-run` of a study that exists says what the launch would say, and leaves it as it is."""

import os
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from search.cli.main import main
from tests.search import offline


@pytest.fixture
def begun(store: Path, tmp_path: Path) -> Path:
    """The file of a study that is half done: two of seven trials have ended, one has not."""
    config = offline.study(store)
    with offline.opened(config, tmp_path / "runs" / "toy") as session:
        plan = [("control", config.control_params), ("enqueued", config.references[0].settings)]
        plan += [("sampled", {"optimizer.lr": 3e-4})]
        for number, (kind, params) in enumerate(plan):
            proposed = {"event": "proposed", "trial": number, "params": params, "kind": kind}
            session.record(proposed | {"protected": kind != "sampled"})
        for number in (0, 1):
            offline.end(session, session.state.trials[number], "completed")
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    return path


def launch(path: Path, *words: str) -> tuple[int, str]:
    """Return exit status and the last line, which says what is wrong where something is."""
    result = CliRunner().invoke(
        main, ["launch", str(path), "--runs", str(path.parent / "runs"), *words]
    )
    return result.exit_code, result.output.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["seed=2"], "seed: 2: this study was begun with 1"),
        (["trials.num_trials=4"], "trials.num_trials: 4: this study was begun with 5; can only"),
        (["scheduler.max_t=4"], "scheduler.max_t: 4: this study was begun with 3"),
        (["train.model.width=8"], "train.model.width: 8: this study was begun with None"),
        (["--warm-start", "toy"], "--warm-start toy: this study was begun without it"),
    ],
)
def test_a_change_that_is_refused(begun: Path, words: list[str], says: str) -> None:
    dry, real = launch(begun, *words, "--dry-run"), launch(begun, *words)
    assert dry == real and real[0] == 2 and says in real[1]


@pytest.mark.parametrize("damage", ["damaged", "in use", "other data"])
def test_a_study_that_cannot_go_on(begun: Path, damage: str, phantom_store: Path) -> None:
    ledger = begun.parent / "runs" / "toy" / "ledger.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    words = [f"data.store={phantom_store}"] if damage == "other data" else []
    if damage == "damaged":
        ledger.write_bytes(b"".join([lines[0], lines[1][:90] + b"\n", *lines[2:]]))
    if damage == "in use":
        with offline.opened(offline.study(begun), ledger.parent):
            dry, real = launch(begun, "--dry-run"), launch(begun)
        assert f"is being run by pid {os.getpid()}" in real[1]
    else:
        dry, real = launch(begun, *words, "--dry-run"), launch(begun, *words)
    assert dry == real and real[0] == 2


def test_what_is_left_is_counted(begun: Path) -> None:
    folder = begun.parent / "runs" / "toy"
    before = sorted(folder.rglob("*")), (folder / "ledger.jsonl").read_bytes()
    begins = f"{folder}: exists, and goes on: 2 trials have ended, "
    assert launch(begun, "--dry-run") == (0, f"{begins}1 to go on and 4 to begin")
    more = launch(begun, "--dry-run", "trials.num_trials=9")[1]
    assert more == f"{begins}1 to go on and 8 to begin"
    assert launch(begun, "--dry-run", "budget.wall_hours=1e-9")[1].endswith(
        "1e-09 wall hours is spent, and nothing runs without budget.wall_hours=MORE"
    )
    assert (sorted(folder.rglob("*")), (folder / "ledger.jsonl").read_bytes()) == before
    status, line = launch(begun, "--dry-run", "study=other")
    assert status == 0 and "exists" not in line


def test_a_finished_study_trains_nothing_more(store: Path, tmp_path: Path) -> None:
    config = offline.study(store)
    with offline.opened(config, tmp_path / "runs" / "toy") as session:
        offline.propose(session)
        for trial in session.live():
            offline.end(session, trial, "completed")
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    status, line = launch(tmp_path / "s.yaml", "--dry-run")
    assert status == 0 and line.endswith("exists and is finished: a launch trains nothing more")


@pytest.mark.parametrize("what", ["a folder of nothing", "no checkpoint"])
def test_weights_that_are_gone_or_none(begun: Path, what: str, tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    if what == "a folder of nothing":
        weights.mkdir()
    else:
        weights.write_text("version https://git-lfs.github.com/spec/v1\n")
    words = [f"train.init_from={weights}", "study=other"]
    dry, real = launch(begun, *words, "--dry-run"), launch(begun, *words)
    assert dry == real and real[0] == 2 and "train.init_from: " in real[1] and "weights" in real[1]


def test_a_folder_that_cannot_be_made(begun: Path) -> None:
    (begun.parent / "file").touch()
    words = ["--runs", str(begun.parent / "file" / "runs")]
    dry, real = launch(begun, *words, "--dry-run"), launch(begun, *words)
    assert dry == real and real[0] == 2 and "Not a directory" in real[1]
