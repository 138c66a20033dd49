"""Four slices by heart: reached with sound settings, told apart from a rate that cannot learn."""

from pathlib import Path

import pytest

from tests.badinput.judge import run
from tests.trainer.tiny import tiny_config
from trainer.overfit import GOAL, overfit


@pytest.mark.slow
def test_learns_four_slices(phantom_store: Path) -> None:
    config = tiny_config(
        phantom_store, model__width=16, batch__effective=8, sampling__threshold=0.5
    )
    *_, last = overfit(config, max_images=4000)
    assert last.dice > GOAL


@pytest.mark.slow  # 5 s
def test_says_when_it_does_not(phantom_store: Path, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        f"{{data.store: {phantom_store}, model.width: 8, model.depth: 2}}"
    )
    words = (tmp_path / "c.yaml", "optimizer.lr=1e-8", "--max-images", "400")
    answer = run("overfit", *words, program="trainer")
    assert answer.status == 1
    assert "four slices are not learned" in answer.out.splitlines()[-1]


def test_divergence_is_one_line(
    phantom_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(
        f"{{data.store: {phantom_store}, model.width: 8, model.depth: 2, optimizer.lr: 1e+30}}"
    )
    answer = run("train", "c.yaml", "optimizer.warmup_images=0", program="trainer")
    assert answer.status == 1
    [line] = answer.lines
    assert line.startswith("Diverged: step ") and "is nan" in line
