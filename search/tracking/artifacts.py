"""The files that MLflow keeps of a study and of its trials, written into a folder to be sent."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from search.ledger.state import StudyState
from search.ledger.trial_state import TrialState
from search.storage.run_folders import fetch_cases
from search.storage.studies import display_path
from search.study.config import StudyConfig
from search.tracking.descriptions import markdown
from trainer.files.csv_cells import csv_cell
from trainer.files.documents import to_json
from trainer.terminal import printable

NOTE_LIMIT = 7000
"""Characters of a run's description; MLflow takes 8000 of a tag."""


def fetch_newest_files(folder: Path, say: Callable[[str], None]) -> None:
    """Bring the cases of a study in S3 here."""
    try:
        fetch_cases(folder)
    except OSError as error:
        say(f"{display_path(folder)}: MLflow gets no cases for now: {error}")


def write_config(study: StudyConfig, trial: TrialState, out: Path) -> None:
    """Write what a trial trains to its goal as `config.yaml`."""
    config = trial.settings(study)
    (out / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def write_cases(trial: TrialState, run_dir: Path, out: Path) -> None:
    """Write a trial's last validation case by case as `cases.csv`, if its cases are at hand."""
    if not (run_dir / "cases.parquet").exists():
        return
    import pyarrow.parquet as pq

    rows = pq.read_table(run_dir / "cases.parquet").to_pylist()
    rows = [row for row in rows if row["epoch"] == trial.epoch]
    if not rows:
        return
    rows.sort(key=lambda row: str(row["case_id"]))
    with (out / "cases.csv").open(
        "w", newline="", encoding="utf-8", errors="backslashreplace"
    ) as file:
        writer = csv.writer(file)
        writer.writerow(map(csv_cell, rows[0]))
        for row in rows:
            writer.writerow(
                [f"{v:.6g}" if isinstance(v, float) else csv_cell(v) for v in row.values()]
            )


def draw(study: StudyConfig, trial: TrialState, out: Path) -> None:
    """Draw a trial's learning curve, where there is more than a point of it."""
    if len(trial.reports) > 1:
        from search.report.learning_curves import draw_trial

        draw_trial(study, trial, out / "learning_curve.png")


def copy_pictures(trial: TrialState, run_dir: Path, out: Path) -> None:
    """Copy a trial's newest pictures, those that are at hand."""
    for name in trial.pictures:
        source = run_dir / name
        if source.is_file() and source.resolve().is_relative_to(run_dir.resolve()):
            target = out / "samples" / source.name
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(source, target)


def write_settings(folder: Path, study: StudyConfig, state: StudyState, out: Path) -> None:
    """Write the study's resolved settings as `study.yaml`."""
    text = yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False)
    (out / "study.yaml").write_text(text)


class Found(NamedTuple):
    """What a study has found, computed once for all who show it."""

    result: dict[str, Any]
    """As `search.analysis.results.compare` returns it."""
    page: Path | None = None
    """What search/report/page_html.py made of it, if it did."""


def look(folder: Path) -> Found:
    """Return what a study has found so far."""
    from search.analysis.results import compare

    return Found(compare(folder))


def write_results(found: Found, out: Path) -> None:
    """Write what `compare` found: `compare.json`, `leaderboard.txt`, `answer.txt`, the verdicts."""
    from search.report.answer import answer
    from search.report.leaderboard import leaderboard_text
    from search.report.verdicts import confirmation_text, verdict_text

    result = found.result
    (out / "compare.json").write_text(to_json(result) + "\n")
    _write_text(out / "leaderboard.txt", leaderboard_text(result, None))
    _write_text(out / "answer.txt", answer(result))
    if event := result["confirmation"]:
        _write_text(out / "confirmation.txt", confirmation_text(event))
    for verdict in result["verdicts"]:
        name = f"verdict-{verdict['on']}"
        _write_text(out / f"{name}.txt", verdict_text(verdict))
        (out / f"{name}.json").write_text(to_json(verdict) + "\n")


def _write_text(path: Path, text: str) -> None:
    """Write text for people, who may show it on a terminal."""
    path.write_text(printable(text) + "\n", encoding="utf-8", errors="backslashreplace")


def write_test_readings(folder: Path, study: StudyConfig, state: StudyState, out: Path) -> None:
    """Write the readings of the sealed test set as `test_readings.csv`, if there are any."""
    if not state.test_readings:
        return
    names = sorted({name for event in state.test_readings for name in event["metrics"]})
    with (out / "test_readings.csv").open(
        "w", newline="", encoding="utf-8", errors="backslashreplace"
    ) as file:
        writer = csv.writer(file)
        writer.writerow(map(csv_cell, ["trial", "of", "reading", "threshold", *names]))
        for event in state.test_readings:
            trial = state.trials[event["trial"]]
            values = [event["metrics"].get(name, "") for name in names]
            about = [trial.number, trial.of, event["reading"], event["threshold"]]
            writer.writerow(map(csv_cell, [*about, *values]))


def draw_curves(folder: Path, study: StudyConfig, state: StudyState, out: Path) -> None:
    """Draw the learning curves of all trials as `learning_curves.png`."""
    from search.report.learning_curves import draw_study

    draw_study(study, state, out / "learning_curves.png")


STUDY_FILES = (write_settings, write_test_readings, draw_curves)


def write_study_page(folder: Path, found: Found, out: Path) -> None:
    """Write the page of the study as `report.html`."""
    if found.page:
        shutil.copyfile(found.page, out / "report.html")
        return
    from search.report.page_html import write_html

    write_html([folder], out / "report.html", found.result)


def note(out: Path) -> str:
    """Return the description of a study's run: the answer, the leaderboard and the verdicts."""
    names = ["leaderboard.txt", "verdict-validation.txt", "verdict-test.txt"]
    texts = [(out / name).read_text().rstrip() for name in names if (out / name).exists()]
    blocks = [f"```\n{text}\n```" for text in texts]
    if (path := out / "answer.txt").exists():
        blocks.insert(0, markdown(path.read_text().rstrip()))
    note = "\n\n".join(blocks)
    if len(note) > NOTE_LIMIT:
        note = (
            f"{note[:NOTE_LIMIT].rstrip('`')}\n…\n```\nAll of it: `leaderboard.txt` in Artifacts."
        )
    return note
