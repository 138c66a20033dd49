"""Learning curves as pictures."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from PIL import Image

from search.report import learning_curves
from search.report.learning_curves import (
    BLUE,
    GREEN,
    ORANGE,
    draw_study,
    draw_trial,
)
from search.storage.studies import read_study
from tests.search import offline
from tests.search.conftest import ROOT


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Path:
    folder = tmp_path_factory.mktemp("curves") / "toy"
    offline.finished(folder, store)
    return folder


def num_pixels(path: Path, color: str) -> int:
    """Return how many pixels have a color, nearly."""
    wanted = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    pixels = Image.open(path).convert("RGB").getdata()
    return sum(all(abs(a - b) < 12 for a, b in zip(p, wanted, strict=True)) for p in pixels)


def test_a_study(folder: Path, tmp_path: Path) -> None:
    """Best, control and reference are there in their colors; a thread may draw it."""
    study, state = read_study(folder)
    out = tmp_path / "study.png"
    thread = threading.Thread(target=draw_study, args=(study, state, out))
    thread.start()
    thread.join()
    assert Image.open(out).size == (960, 480)
    assert all(num_pixels(out, color) > 100 for color in (BLUE, GREEN, ORANGE))
    assert [path.name for path in tmp_path.iterdir()] == ["study.png"]


def test_what_is_said(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = []
    monkeypatch.setattr(learning_curves, "_save", lambda figure, out: figures.append(figure))
    study, state = read_study(folder)
    state.threshold = {"modality": "ct", "above": True, "threshold": 3.0, "dice": 0.2}
    state.trials[3].ending = "stopped"
    draw_study(study, state, tmp_path / "x.png")
    [axes] = figures[0].axes
    assert axes.get_title() == "toy: 5 searched trials; x: 1 stopped early"
    assert set(axes.get_legend_handles_labels()[1]) == {
        "best of the search (trial 4)",
        "searched trials (4 others)",
        "control (U-Net)",
        "reference (trial 1)",
        "best threshold (ct >= 3)",
    }
    trial = state.trials[4]
    for report in trial.reports:
        report.metrics.update({"train/dice_weighted": 0.2, "train/dice": 0.4})
    draw_trial(study, trial, tmp_path / "y.png")
    left, right = figures[1].axes
    assert list(left.lines[0].get_ydata()) == [report.value for report in trial.reports]
    assert right.get_legend_handles_labels()[1] == ["loss, the sum", "dice, weighted"]


def test_a_study_that_has_reported_nothing(folder: Path, tmp_path: Path) -> None:
    study, state = read_study(folder)
    state.trials.clear()
    draw_study(study, state, tmp_path / "x.png")
    assert Image.open(tmp_path / "x.png").size == (960, 480)


def test_the_command(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.png"
    command = [sys.executable, "-m", "search.report.learning_curves", str(folder), str(out)]
    subprocess.run(command, check=True, cwd=ROOT)
    assert Image.open(out).size == (960, 480)
