"""What the shipped studies promise in their headers."""

from pathlib import Path

from search.study import load_study
from trainer.configfile import flatten

SPACES = Path(__file__).resolve().parents[1] / "spaces"


def test_quickstart_compares_like_with_like() -> None:
    study = load_study(SPACES / "quickstart.yaml")
    [reference] = study.references
    assert reference == {
        "diffusion.target": "eps",
        "diffusion.noise_schedule": "linear",
        "loss.dice": 0.0,
        "loss.bce": 0.0,
        "optimizer.lr": 1e-4,
        "batch.effective": 4,
    }
    where_one_starts = flatten(study.train_config(reference).model_dump())
    for take in (0, 1, -1):
        found = {name: dimension.values()[take] for name, dimension in study.space.items()}
        searched = flatten(study.train_config(found).model_dump())
        different = {key for key in searched if searched[key] != where_one_starts[key]}
        assert different <= study.space.keys()
        # The same number of images, whatever the batch.
        for key in ("epochs", "epoch_images"):
            assert searched[key] == where_one_starts[key]
