"""Progress bars: on a terminal, and nowhere else."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from tests.terminal import Terminal
from tests.trainer.tiny import tiny_config
from trainer.data.store import Store
from trainer.evaluation.validate import Validator
from trainer.training.train_state import TrainState

ROOT = Path(__file__).resolve().parents[2]
LONG = """
import time
from trainer.progress import tracked
for number in tracked(range(8), "counting"):
    time.sleep(0.25)
print("counted")
"""


def test_on_a_terminal_it_is_seen_and_then_gone() -> None:
    with Terminal([sys.executable, "-c", LONG], cwd=ROOT) as terminal:
        terminal.wait_for(lambda text: "counting" in text and "4/8" in text, timeout_s=30)
        assert terminal.finish() == 0
        assert terminal.grid.text.strip() == "counted"
        assert terminal.grid.cursor_shown


@pytest.mark.parametrize("env", [{"RANK": "1"}, {"TERM": "dumb"}])
def test_another_rank_and_a_dumb_terminal_show_none(env: dict[str, str]) -> None:
    words = LONG.replace("0.25", "0.02")
    with Terminal([sys.executable, "-c", words], cwd=ROOT, env=env) as terminal:
        assert terminal.finish() == 0
        assert terminal.grid.text == "counted\n"


def test_piped_there_is_none() -> None:
    words = [sys.executable, "-c", LONG.replace("0.25", "0.02")]
    result = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=True)
    assert (result.stdout, result.stderr) == ("counted\n", "")


def test_a_validation_counts_every_mask(
    phantom_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a batch holds part of a slice's members, or ends within a case."""
    counted: list[int] = []

    @contextmanager
    def counting(what: str, total: int) -> Iterator[object]:
        counted.append(-total)
        yield counted.append

    monkeypatch.setattr("trainer.evaluation.validate.bar", counting)
    config = tiny_config(phantom_store, validation__members=3)
    store, cpu = Store.open(phantom_store), torch.device("cpu")
    state = TrainState(config, store, cpu)
    cases = store.split(0)[1]
    validator = Validator(store, cases, config, state.process, cpu)
    for batch_size in (2, 20):
        counted.clear()
        state_autocast = torch.autocast("cpu", torch.bfloat16, enabled=False)
        validator.probabilities(state.ema, 1, batch_size=batch_size, autocast=state_autocast)
        assert counted[0] == -3 * sum(case.num_slices for case in cases)
        assert sum(counted) == 0 and len(counted) > 2
