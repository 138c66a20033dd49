"""A run that is interrupted and continued equals the whole one, bit for bit, whatever it trains."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainer.tiny import tiny_config, without_times
from trainer.config import TrainConfig
from trainer.data.prepare import prepare
from trainer.loop import Validation, fit
from trainer.saved.checkpoint import load_latest

VARIANTS: dict[str, dict[str, object]] = {
    "medsegdiff_v1": {"model__dropout": 0.2, "data__augment": "heavy"},
    "medsegdiff_v2": {"model__family": "medsegdiff_v2"},
    "diffusion_unet": {"model__family": "diffusion_unet"},
    "unet": {"model__family": "unet", "model__dropout": 0.2},
    "dynunet": {"model__family": "dynunet"},
    "swin_unetr": {"model__family": "swin_unetr", "model__width": 12},
    "loss_second_moment": {
        "diffusion__timestep_sampling": "loss_second_moment",
        "diffusion__num_timesteps": 3,
    },
    "learned": {"loss__weighting": "learned", "diffusion__variance": "learned_range"},
    "warm_in": {"loss__weighting": "warm_in", "loss__warm_in_fraction": 1.0},
    "self_conditioning": {"diffusion__self_conditioning": 0.5, "data__context_slices": 1},
    "recycling": {"diffusion__recycling": 0.5},
}

RARER = {
    "diffusion_unet",
    "dynunet",
    "medsegdiff_v2",
    "recycling",
    "self_conditioning",
    "swin_unetr",
    "warm_in",
}
"""Left to `make test-slow`: what they resume is resumed by others too."""


def train(config: TrainConfig, run_dir: Path, validations: int) -> list[Validation]:
    return [v for v, _ in zip(fit(config, run_dir), range(validations), strict=False)]


def assert_same(one: Any, other: Any, where: str) -> None:
    """Compare two checkpoints, to the last bit and counter."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key, value in one.items():
            assert_same(value, other[key], f"{where}.{key}")
    else:
        assert one == other, where


@pytest.fixture(scope="module")
def larger_store(phantom_store: Path) -> Path:
    """The same phantom at 64 x 64 pixels: a SwinUNETR halves five times."""
    prepare(phantom_store.parent / "dataset", phantom_store.parent / "larger", image_size=64)
    return phantom_store.parent / "larger"


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n in RARER else n for n in VARIANTS],
)
def test_interrupted_equals_whole(
    request: pytest.FixtureRequest, tmp_path: Path, name: str
) -> None:
    store = request.getfixturevalue("larger_store" if name == "swin_unetr" else "phantom_store")
    config = tiny_config(store, epochs=2, epoch_images=12, **VARIANTS[name])
    whole = train(config, tmp_path / "whole", 2)
    assert len(whole) == 2
    # Closed at the first validation, and continued by another `fit`.
    first = train(config, tmp_path / "broken", 1)
    rest = train(config, tmp_path / "broken", 2)
    assert without_times(rest) == without_times(whole)
    assert first == rest[:1]
    states = [load_latest(tmp_path / run / "checkpoints") for run in ("whole", "broken")]
    assert states[0] is not None
    for state in states:
        state["totals"] = {}
    assert_same(*states, name)
    assert (tmp_path / "broken" / "ema.pt").exists()
