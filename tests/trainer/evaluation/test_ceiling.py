"""What a perfect model could score at an image size."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d, interpolate

from tests.gpu.noise import write_store
from trainer.data.store import Store
from trainer.evaluation.ceiling import Ceiling, ceiling, ceilings, in_words
from trainer.evaluation.metrics import dice


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Discs on 64 x 64 pixels, which are the reference's own."""
    return Store.open(write_store(tmp_path_factory.mktemp("ceiling") / "store", image_size=64))


def test_the_reference_grid_itself_loses_nothing(noise):
    assert ceiling(noise, noise.cases) == Ceiling(1.0, 1.0)


def test_half_the_size_loses_what_torch_loses(noise):
    """Averaged over two by two pixels, cut at half, and brought back linearly."""
    expected = []
    for case in noise.cases:
        truth = torch.tensor(noise.native_mask(case)).permute(2, 0, 1)[None].float()
        pixels = (avg_pool2d(truth, 2) >= 0.5).float()
        back = interpolate(pixels, scale_factor=2, mode="bilinear") >= 0.5
        brain = torch.tensor(noise.native_brain(case)).permute(2, 0, 1)[None]
        expected.append(dice((truth.bool() & brain).numpy(), (back & brain).numpy()))
    found = ceiling(noise, noise.cases, 32)
    assert found and found.dice == pytest.approx(np.mean(expected), abs=1e-12)
    assert 0.5 < found.dice < 1


def test_cases_without_lesion_have_none(noise):
    assert ceiling(noise, []) is None


def test_this_size_and_the_next_two_are_kept_for_the_next_look(noise, monkeypatch):
    found = ceilings(noise)
    assert list(found) == [64, 96, 128]
    assert found[64] == Ceiling(1.0, 1.0)
    kept = json.loads((Path(noise.path) / "ceiling.json").read_text(encoding="utf-8"))
    assert kept["content_hash"] == noise.content_hash
    monkeypatch.setattr("trainer.evaluation.ceiling._score_at", None)  # nothing is scored again
    assert ceilings(noise) == found


def test_what_was_kept_of_other_content_does_not_count(noise):
    path = Path(noise.path) / "ceiling.json"
    path.write_text('{"content_hash": "another", "ceiling": {"64": [0.1, 0.1]}}', encoding="utf-8")
    assert ceilings(noise)[64] == Ceiling(1.0, 1.0)


def test_in_words():
    found = {64: Ceiling(0.9214, 0.8), 96: Ceiling(0.95, 0.9)}
    assert in_words(found) == (
        "ceiling: a perfect model scores Dice 0.921, lesion F1 0.800 at 64 pixels; "
        "at 96 Dice 0.950, lesion F1 0.900"
    )
