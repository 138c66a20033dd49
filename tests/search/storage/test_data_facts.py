"""What a store says of itself, in a study's ledger and wherever a study is shown."""

import json
from pathlib import Path

import pytest

from search.analysis.results import compare
from search.monitor.status import status
from search.report.leaderboard import leaderboard
from search.report.page_data import gather
from search.report.side_by_side import side_by_side
from search.storage.data_facts import ceiling_of, data_facts, data_in_words
from tests.search import offline
from trainer.data.store import Store
from trainer.evaluation.ceiling import ceiling


def test_the_facts_are_the_stores_and_the_ceiling_is_the_folds(store):
    found, data = data_facts(str(store), 1), Store.open(store)
    assert json.loads(json.dumps(found)) == found
    assert found["num_cases"] == len(data.cases) == found["num_test"] + sum(found["num_in_folds"])
    assert (found["layout"], found["image_size"]) == ("folder", 32)
    expected = ceiling(data, data.split(1)[1])
    assert expected and found["ceiling"] == {
        "dice": expected.dice,
        "lesion_f1": expected.lesion_f1,
    }
    words = dict(data_in_words(found))
    some_always = data_in_words(found | {"num_always_trained": 7})
    assert ", 7 in every training" in dict(some_always)["splits"]
    assert "in every training" not in words["splits"]
    assert words["cases"] == f"12, {data.num_slices} slices of 32x32"
    assert words["ceiling"].startswith(f"Dice {expected.dice:.4f}")


def test_what_is_not_known_is_not_said():
    assert ceiling_of(None) is None and ceiling_of({"ceiling": None}) is None


def test_shown_wherever_the_threshold_is(tmp_path: Path, store: Path, monkeypatch):
    folder = tmp_path / "runs" / "toy"
    offline.finished(folder, store)
    assert compare(folder)["data"] is None and "ceiling" not in leaderboard(folder)
    with offline.opened(offline.study(store), folder) as session:
        session.record({"event": "data", **data_facts(str(store), 0)})
    dice = data_facts(str(store), 0)["ceiling"]["dice"]
    assert compare(folder)["data"]["ceiling"]["dice"] == pytest.approx(dice)
    assert f"at 32 pixels a perfect model scores Dice {dice:.4f}" in leaderboard(folder)
    assert status(folder)["ceiling_dice"] == dice
    assert dict(gather(folder)["facts"])["ceiling"].startswith("Dice")
    assert "ceiling" in side_by_side([folder, folder])
