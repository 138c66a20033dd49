"""Weights from elsewhere: what is known of whom they were trained on stands beside all numbers."""

import csv
import io
from pathlib import Path

from click.testing import CliRunner

from search.analysis.first_weights import named
from search.analysis.results import compare
from search.cli.main import main
from search.monitor.study_list import list_studies
from search.report.csv_table import csv_table
from search.report.page_data import gather
from search.workflows.preview.first_weights import first_weights
from tests.search import offline
from tests.trainer.tiny import tiny_config
from trainer.loop import fit

UNKNOWN = "perhaps not unseen: whom its first weights were trained on is unknown"


def said(*words: str | Path) -> str:
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def test_every_surface_says_that_it_is_unknown(store: Path, tmp_path: Path) -> None:
    for name, train in (("toy", {"init_from": "/elsewhere/model.pt"}), ("own", {})):
        offline.finished(tmp_path / name, store, study=name, train=train)
    result = compare(tmp_path / "toy")
    assert result["label"].startswith(f"selected on, optimistic; {UNKNOWN}")
    assert {row["first_weights"].startswith(UNKNOWN) for row in result["trials"]} == {True}
    assert gather(tmp_path / "toy", result)["label"] == result["label"]
    for command in ("compare", "status"):
        assert UNKNOWN in said(command, "toy", "--runs", tmp_path)
        assert "unseen" not in said(command, "own", "--runs", tmp_path)
    assert UNKNOWN in said("explain", "toy:4", "--runs", tmp_path)
    assert f"toy: {UNKNOWN}" in said("list", "--runs", tmp_path)
    side_by_side = said("compare", "toy", "own", "--runs", tmp_path)
    assert side_by_side.count(UNKNOWN) == 1
    table = csv_table([result, compare(tmp_path / "own")])
    rows = [*csv.DictReader(io.StringIO(table))]
    assert {row["study"] for row in rows if row["first_weights"]} == {"toy"}
    assert [s["first_weights"] == "" for s in list_studies(tmp_path)["studies"]] == [True, False]


def test_a_reference_that_begins_with_weights_is_said_apart(store: Path, tmp_path: Path) -> None:
    references = [{"name": "public", "settings": {"init_from": "/elsewhere/model.pt"}}]
    offline.finished(tmp_path / "toy", store, enqueue=[], references=references)
    result = compare(tmp_path / "toy")
    assert "unseen" not in result["label"]
    assert [bool(row["first_weights"]) for row in result["references"]] == [False, True]
    assert f"toy:1: {UNKNOWN}" in said("compare", "toy", "--runs", tmp_path)


def test_what_the_weights_say_is_recorded_and_a_clean_start_is_no_note(
    store: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    list(fit(tiny_config(store, epochs=1), source))
    clean, seen = (
        offline.study(
            store,
            train={"init_from": str(source)},
            data={"store": str(store), "fold": f},
            control={"init_from": None},
        )
        for f in (0, 1)
    )
    assert first_weights(clean).notes == []
    [note] = first_weights(seen).notes
    assert note.startswith(f"init_from: {source}: not unseen: its first weights were trained on ")
    assert note.endswith(" validation patients")
    with offline.opened(seen, tmp_path / "runs", first_weights=first_weights(seen).overlaps):
        pass
    assert compare(tmp_path / "runs")["label"].endswith(" validation patients")


def test_all_places_of_first_weights_are_looked_at(store: Path, tmp_path: Path) -> None:
    references = [{"name": "public", "settings": {"init_from": "/b/model.pt"}}]
    study = offline.study(
        store, enqueue=[], references=references, control={"init_from": "/a/model.pt"}
    )
    assert named(study) == [
        ("control.init_from", "/a/model.pt"),
        ("references.0.settings.init_from", "/b/model.pt"),
    ]
    assert {*first_weights(study).overlaps} == {"/a/model.pt", "/b/model.pt"}
