"""Masks that a study names as a reference: read, scored once, shown everywhere, and confirmed."""

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

import search.workflows.confirming.confirm
from search.analysis.results import compare, compare_studies
from search.cli.main import main
from search.monitor.console import masks_line
from search.monitor.status import render, status
from search.report.csv_table import csv_table
from search.report.leaderboard import leaderboard_text
from search.report.page_html import write_html
from search.report.side_by_side import side_by_side
from search.storage.mask_scores import scored
from search.storage.studies import read_study
from search.study.changes import changes
from search.study.config import StudyConfig
from search.study.reference import Reference
from search.tracking.event_batch import EventBatch
from search.workflows.confirming.confirm import confirm
from search.workflows.preview.mask_references import look_at_masks
from search.workflows.run_study import _score_masks
from tests.search import offline, toy
from tests.search.conftest import Driver, events
from trainer.configfile import ConfigError
from trainer.data.store import Store


@pytest.fixture
def masks(store: Path, tmp_path: Path) -> Path:
    """The masks of all pictures but one of fold 0, and one that is not as drawn."""
    folder = tmp_path / "nnunet"
    folder.mkdir()
    drawn = sorted((store.parent / "dataset").glob("*_mask.png"))
    for path in drawn:
        shutil.copy(path, folder / path.name)
    first, second, *_ = Store.open(store).split(0)[1]
    (folder / f"{first.case_id}_mask.png").unlink()
    other = next(path for path in drawn if second.case_id not in path.name)
    shutil.copy(other, folder / f"{second.case_id}_mask.png")
    return folder


def study(store: Path, masks: Path, **settings: Any) -> StudyConfig:
    """A study with a reference that is trained, and one of masks before it."""
    references = [
        {"name": "nnunet", "masks": str(masks)},
        {"name": "baseline", "settings": {"optimizer.lr": 1e-4}},
    ]
    return offline.study(store, references=references, enqueue=[], **settings)


def test_it_has_settings_or_masks(masks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(masks.parent)
    assert Reference(name="a", masks="nnunet").masks == str(masks)
    assert Reference(name="a").model_dump() == {"name": "a", "settings": {}}
    with pytest.raises(ValueError, match="settings and masks, but must be one"):
        Reference(name="a", masks="nnunet", settings={"optimizer.lr": 1e-4})
    with pytest.raises(ValueError, match="splits without masks"):
        Reference(name="a", splits="s.json")


def test_a_study_may_get_masks_later_and_stays_the_same_search(store: Path, masks: Path) -> None:
    with_masks, without = study(store, masks), offline.study(store)
    assert with_masks.config_hash() == without.config_hash()
    assert with_masks.num_protected == without.num_protected == 2
    refused, notes = changes(without, with_masks)
    assert not refused and notes == [f"references.nnunet: {masks}, was not given"]
    assert not changes(with_masks, without)[0]


@pytest.fixture
def folder(tmp_path: Path, store: Path, masks: Path, empty_database: Path) -> Path:
    """A finished study whose masks were scored."""
    config, runs = study(store, masks), tmp_path / "runs"
    with offline.opened(config, runs / "toy") as session:
        offline.propose(session)
        offline.run_study(session)
        _score_masks(session)
    shutil.copy(empty_database, runs / "mlflow.db")
    return runs / "toy"


def test_they_are_scored_once_and_again_where_they_change(
    folder: Path, store: Path, masks: Path
) -> None:
    found, state = read_study(folder)
    event, [reference] = state.masks["nnunet"], found.mask_references
    validation = Store.open(store).split(0)[1]
    assert event["missing"] == [validation[0].case_id]
    assert event["covered"]["0"] == [len(validation) - 1, len(validation)]
    assert 0 < event["metrics"]["val/dice"] < 1 and event["unseen"].startswith("perhaps not unseen")
    assert {row["fold"] for row in event["cases"]} == {0, 1, 2, 3, 4}
    test = {case.case_id for case in Store.open(store).test_cases()}
    assert not test & {row["case_id"] for row in event["cases"]}

    assert scored(reference, str(store), 0, event) == {}
    shutil.copy(masks / f"{validation[1].case_id}_mask.png", masks / f"{validation[0].case_id}.png")
    again = scored(reference, str(store), 0, event)
    assert again["again"] and not again["missing"]
    assert "scored again: they have changed" in masks_line({"event": "masks", **again})
    assert "the masks nnunet have Dice" in masks_line(event)


def test_they_stand_beside_the_control_everywhere(folder: Path, tmp_path: Path) -> None:
    """In the results, the leaderboard, CSV, page, status and side by side; among no trials."""
    result = compare(folder)
    [row] = result["masks"]
    dice = f"{row['dice']:.4f}"
    assert row["trial"] is None and row["name"] == "nnunet" and row["unseen"]
    assert [each["name"] for each in result["references"]] == ["control", "baseline"]
    assert not result["test_readings"]
    for width in (None, 120):
        text = leaderboard_text(result, width)
        assert any("nnunet" in line and dice in line for line in text.splitlines())
        assert "perhaps not unseen" in " ".join(text.split())
    rows = [*csv.DictReader(io.StringIO(csv_table([result])))]
    [of_masks] = [each for each in rows if each["kind"] == "masks"]
    assert float(of_masks["dice"]) == row["dice"] and of_masks["reference"] == "nnunet"
    assert of_masks["trial"] == "" and of_masks["masks"] == row["masks"]
    assert dice in side_by_side([folder, folder])
    assert len(compare_studies([folder])["studies"][0]["masks"]) == 1
    now = status(folder)
    assert now["masks"] == {"nnunet": row["dice"]} and now["finished"]
    assert f"masks, Dice {dice}" in render(now)
    write_html([folder], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert '"nnunet"' in page and "perhaps not unseen" in page


def test_mlflow_has_a_point(folder: Path) -> None:
    config, state = read_study(folder)
    batch = EventBatch(config)
    all_events = [{"time": 0.0, **event} for event in events(folder)]
    batch.add(all_events, len(all_events))
    dice = state.masks["nnunet"]["metrics"]["val/dice"]
    assert ("masks/nnunet/dice", dice) in {point[:2] for point in batch.points}


def toy_masks(config: StudyConfig, folds: tuple[int, ...], dice: float) -> dict[str, Any]:
    """A `masks` event about the cases that the toy trainer writes."""
    spread = (0.02, -0.02, 0.01, -0.01, 0.03, -0.03)
    cases = [
        {"case_id": f"fold{fold}-{n}", "fold": fold, "dice": dice + more, "has_lesion": True}
        for fold in folds
        for n, more in enumerate(spread)
    ]
    return {
        "event": "masks", "name": "nnunet", "folder": "x", "splits": None, "content_hash": "0",
        "fold": 0, "covered": {str(fold): [6, 6] for fold in folds}, "metrics": {}, "missing": [],
        "cases": cases, "unseen": "", "unseen_anywhere": "perhaps not unseen", "said": [],
    }  # fmt: skip


@pytest.fixture
def confirmed(folder: Path, plain_pictures: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(search.workflows.confirming.confirm, "run_study", offline.run_study)
    monkeypatch.setattr(search.workflows.confirming.confirm, "send_rest", lambda session, say: None)
    monkeypatch.setattr(search.workflows.confirming.confirm, "score_best", lambda *given: {})
    return folder


@pytest.mark.parametrize(
    ("dice", "word"), [(0.1, "better"), (0.9, "worse")], ids=["poor masks", "good masks"]
)
def test_confirm_judges_them_where_they_cover_its_folds(
    confirmed: Path, dice: float, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = read_study(confirmed)[0]
    with offline.opened(config, confirmed) as session:
        session.record(toy_masks(config, (0, 1, 2, 3, 4), dice))
    assert confirm(confirmed, top=2, seeds=4) == 0
    [verdict] = read_study(confirmed)[1].verdicts
    found = [row for row in verdict["comparisons"] if row["family"] == "masks"]
    assert [(row["trial"], row["other"], row["verdict"]) for row in found] == [
        (4, "nnunet", word),
        (6, "nnunet", word),
    ]
    [score] = [row for row in verdict["scores"] if row["role"] == "masks"]
    assert score["mean"] == pytest.approx(dice) and len(set(score["by_seed"])) == 1
    mine = next(row["mean"] for row in verdict["scores"] if row["trial"] == 4)
    assert found[0]["mean"] == pytest.approx(mine - dice) and found[0]["num_cases"] == [6] * 4
    text = capsys.readouterr().out
    assert f"trial 4 is {word} than the masks nnunet: Dice" in text
    assert "masks      nnunet: compared case by case" in text and "perhaps not unseen" in text
    assert confirm(confirmed, top=2, seeds=4) == 0  # the same again says the same
    assert len(read_study(confirmed)[1].verdicts) == 1
    write_html([confirmed], confirmed / "page.html")


def test_on_too_few_folds_they_are_compared_case_by_case_without_a_verdict(
    confirmed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = read_study(confirmed)[0]
    for folds, said in (
        ((2,), "from fold 2 alone; case by case there: Dice"),
        ((0,), "since nnunet has no masks of the cases that confirm"),
    ):
        with offline.opened(config, confirmed) as session:
            session.record(toy_masks(config, folds, 0.2))
        assert confirm(confirmed, top=1, seeds=4) == 0
        verdict = read_study(confirmed)[1].verdicts[-1]
        [row] = [row for row in verdict["comparisons"] if row["family"] == "masks"]
        assert row["verdict"] == "none" and said in row["reason"]
        assert "against the masks nnunet: no verdict" in capsys.readouterr().out
    by_seed = toy.dice(9e-4, 3, 2) - 0.2
    first = read_study(confirmed)[1].verdicts[0]["comparisons"][-1]["by_case"]
    assert first["mean"] == pytest.approx(by_seed, abs=1e-6) and first["num_cases"] == 6


def test_what_selected_is_compared_where_they_cover_nothing_else(
    confirmed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One fold's masks, as of nnU-Net trained once: on the trial of the search, and so said."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    config = read_study(confirmed)[0]
    cases = {"epoch": [3] * 6, "case_id": [f"fold0-{n}" for n in range(6)]}
    cases |= {"dice": [0.5, 0.52, 0.49, 0.55, 0.47, 0.5], "has_lesion": [True] * 6}
    pq.write_table(pa.table(cases), confirmed / "trials" / "0004" / "cases.parquet")
    with offline.opened(config, confirmed) as session:
        session.record(toy_masks(config, (0,), 0.2))
    assert confirm(confirmed, top=1, seeds=4) == 0
    row = read_study(confirmed)[1].verdicts[-1]["comparisons"][-1]
    assert row["by_case"]["selected"] and row["by_case"]["mean"] == pytest.approx(0.505 - 0.2)
    assert "from fold 0 alone, which selected it: optimistic" in row["reason"]


def test_before_a_launch_their_names_are_looked_at(
    tmp_path: Path, store: Path, masks: Path
) -> None:
    config = study(store, masks)
    problems, notes = look_at_masks(config, tmp_path / "runs" / "toy")
    total = len(Store.open(store).split(0)[1])
    assert not problems
    assert notes[0].startswith(f"references.0.masks: {total - 1} of {total} cases of fold 0; of ")
    for path in masks.iterdir():
        path.rename(path.with_name(f"x{path.name}"))
    [line] = look_at_masks(config, tmp_path / "runs" / "toy")[0]
    assert line.startswith(f"references.0.masks: {masks}: no file has the name of a case: xcase")


def test_masks_that_are_away_stay_as_they_were_scored(folder: Path, store: Path) -> None:
    config = read_study(folder)[0]
    shutil.rmtree(config.mask_references[0].masks or "")
    problems, notes = look_at_masks(config, folder)
    assert not problems and "is away: as it was scored before" in notes[0]
    reference = config.mask_references[0]
    known = read_study(folder)[1].masks["nnunet"]
    assert scored(reference, str(store), 0, known) == {}
    moved = reference.model_copy(update={"masks": f"{reference.masks}-2"})
    config = config.model_copy(update={"references": (moved, *config.references[1:])})
    [line] = look_at_masks(config, folder)[0]
    assert line.endswith("nnunet-2: no such folder")
    assert look_at_masks(config, folder.parent / "another")[0]


def test_the_dry_run_says_what_they_cover(tmp_path: Path, store: Path, masks: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(study(store, masks).model_dump(mode="json", exclude_none=True)))
    words = ["launch", str(path), "--dry-run", "--runs", str(tmp_path / "runs")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    assert "nnunet     masks in" in result.output and "1 control, 1 reference\n" in result.output
    assert "note: references.0.masks: " in result.output
    shutil.rmtree(masks)
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert f"{path}: references.0.masks: {masks}: no such folder\n" in result.output


def test_confirm_counts_the_readings_of_a_test_set(
    folder: Path, store: Path, tmp_path: Path
) -> None:
    """Beside the store, and in the ledger those that version 0.1 did not count there."""
    from search.storage import sealed_readings

    place = tmp_path / "prepared"
    assert sealed_readings.record(str(place), "0", "toy:7") == {"store_reading": 1}
    recorded = [{"trial": 7, "store_reading": 1}, {"trial": 8}]
    assert sealed_readings.num_readings(str(place), recorded) == 2
    assert sealed_readings.num_readings("", []) == 0  # a trainer of one's own, without a store
    result = compare(folder) | {"test_readings": 3}
    assert "the test set has been read 3 times" in leaderboard_text(result, None)
    line = json.loads((tmp_path / "prepared.test_readings.jsonl").read_text())
    assert line["model"] == "toy:7"
    (tmp_path / "other.test_readings.jsonl").mkdir()
    with pytest.raises(ConfigError, match="must be writable"):
        sealed_readings.check(str(tmp_path / "other"))


@pytest.mark.slow  # 25 s
def test_ray_scores_them_beside_the_trials(
    tmp_path: Path, store: Path, masks: Path, cluster: str
) -> None:
    config = study(store, masks, trials={"num_trials": 2})
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json", exclude_none=True)))
    driver = Driver(path, tmp_path / "runs", cluster)
    assert driver.wait() == 0
    kinds = [event["event"] for event in events(driver.folder)]
    assert kinds.count("masks") == 1 and kinds.count("proposed") == 4
    again = Driver(path, tmp_path / "runs", cluster)
    assert again.wait() == 0
    assert [event["event"] for event in events(driver.folder)].count("masks") == 1
