"""Learning curves as pictures."""

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
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
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"), dtype=int)
    return int((abs(pixels - wanted) < 12).all(-1).sum())


def size(path: Path) -> tuple[int, int]:
    """Return a picture's width and height in pixels."""
    with Image.open(path) as image:
        return image.size


def test_best_control_and_reference_are_drawn_in_their_colors(folder: Path, tmp_path: Path) -> None:
    """Best, control and reference are there in their colors; a thread may draw it."""
    study, state = read_study(folder)
    out = tmp_path / "study.png"
    thread = threading.Thread(target=draw_study, args=(study, state, out))
    thread.start()
    thread.join()
    assert size(out) == (960, 480)
    assert all(num_pixels(out, color) > 100 for color in (BLUE, GREEN, ORANGE))
    assert [path.name for path in tmp_path.iterdir()] == ["study.png"]


def test_title_legend_and_lines_say_what_is_drawn(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    assert size(tmp_path / "x.png") == (960, 480)


def test_the_module_draws_a_study(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.png"
    command = [sys.executable, "-m", "search.report.learning_curves", str(folder), str(out)]
    subprocess.run(command, check=True, cwd=ROOT)
    assert size(out) == (960, 480)
