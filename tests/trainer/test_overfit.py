"""Four slices by heart: reached with sound settings, told apart from a rate that cannot learn."""

import subprocess
import sys
from pathlib import Path

from tests.trainer.tiny import tiny_config
from trainer.overfit import GOAL, overfit


def test_learns_four_slices(phantom_store: Path) -> None:
    config = tiny_config(
        phantom_store, model__width=16, batch__effective=8, sampling__threshold=0.5
    )
    *_, last = overfit(config, max_images=4000)
    assert last.dice > GOAL


def test_says_when_it_does_not(phantom_store: Path, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        f"{{data.store: {phantom_store}, model.width: 8, model.depth: 2}}"
    )
    command = [sys.executable, "-m", "trainer", "overfit", "c.yaml", "optimizer.lr=1e-8"]
    result = subprocess.run(
        [*command, "--max-images", "400"], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 1
    assert "four slices are not learned" in result.stdout.splitlines()[-1]


def test_divergence_is_one_line(phantom_store: Path, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        f"{{data.store: {phantom_store}, model.width: 8, model.depth: 2, optimizer.lr: 1e+30}}"
    )
    command = [sys.executable, "-m", "trainer", "train", "c.yaml", "optimizer.warmup_images=0"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 1
    [line] = result.stderr.splitlines()
    assert line.startswith("Diverged: step ") and "is nan" in line
