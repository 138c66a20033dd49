"""A trainer of one's own: convolutions over slices, configured by words as with Hydra.

    segtune phantom datasets/phantom
    python examples/own_trainer/train.py out=/tmp/run epochs=3 optimizer.lr=0.003

Knows nothing of segtune but for the line of JSON after each epoch.
"""

import json
import sys
from pathlib import Path

import nibabel
import torch
import yaml
from torch import nn
from torch.nn.functional import avg_pool2d
from torch.nn.functional import binary_cross_entropy_with_logits as bce

CONFIG = """
optimizer: {lr: 0.003, weight_decay: 0.01}
model: {width: 8, depth: 2}
loss: {dice: 1.0}
batch_size: 16
epochs: 9
seed: 0
data: datasets/phantom
out: outputs
"""


def configuration(words: list[str]) -> dict:
    """Return CONFIG with KEY=VALUE words applied: with Hydra this is `@hydra.main`."""
    config = yaml.safe_load(CONFIG)
    for word in words:
        *above, last = word.partition("=")[0].split(".")  # a wrong name is a KeyError
        section = config
        for name in above:
            section = section[name]
        text = word.partition("=")[2]
        section[last] = type(section[last])(text)
    return config


def read_case(mask: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the slices of a case at half of the resolution: images (s, 2, h, w) and the mask."""
    maps = mask.parents[1] / "ses-01" / "perfusion-maps"
    files = [next(maps.glob("*_cbf.nii.gz")), next(maps.glob("*_tmax.nii.gz")), mask]
    volume = torch.stack([torch.tensor(nibabel.load(file).get_fdata()) for file in files])
    halved = avg_pool2d(volume.float().nan_to_num().permute(3, 0, 1, 2), 2)
    images, lesion = halved[:, :2], halved[:, 2:].round()
    mean, std = images.mean((0, 2, 3), keepdim=True), images.std((0, 2, 3), keepdim=True)
    return (images - mean) / std, lesion


def network(width: int, depth: int) -> nn.Module:
    """Return a stack of convolutions."""
    layers: list[nn.Module] = [nn.Conv2d(2, width, 3, padding=1)]
    for _ in range(depth):
        layers += [nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)]
    return nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(width, 1, 1))


def dice(mask: torch.Tensor, lesion: torch.Tensor) -> torch.Tensor:
    """Return twice the overlap of two masks as a share of both, 1 where both are empty."""
    return (2 * (mask * lesion).sum() + 1e-3) / (mask.sum() + lesion.sum() + 1e-3)


@torch.no_grad()
def report(model: nn.Module, epoch: int, loss: float, cases: dict) -> None:
    """Print a validation: the one line that segtune asks for."""
    found = {name: dice(model(images) > 0, mask).item() for name, (images, mask) in cases.items()}
    mean = sum(found.values()) / len(found)
    print(json.dumps({"epoch": epoch, "val/dice": mean, "train/loss": loss, "cases": found}))


def main(config: dict) -> None:
    """Train from the newest checkpoint, or from the beginning."""
    torch.manual_seed(config["seed"])
    masks = sorted(Path(config["data"]).glob("derivatives/*/ses-02/*_lesion-msk.nii.gz"))
    everyone = {mask.name.partition("_")[0]: read_case(mask) for mask in masks}
    cases = {name: case for name, case in [*everyone.items()][::4] if case[1].any()}
    training = [case for name, case in everyone.items() if name not in cases]
    images, lesions = (torch.cat(parts) for parts in zip(*training, strict=True))
    model, settings = network(**config["model"]), config["optimizer"]
    optimizer = torch.optim.AdamW(
        model.parameters(), settings["lr"], weight_decay=settings["weight_decay"]
    )
    checkpoint, begun = Path(config["out"]) / "last.pt", 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        begun = saved["epoch"]
        report(model, begun, saved["loss"], cases)  # perhaps it was killed before that
    for epoch in range(begun + 1, config["epochs"] + 1):
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(epoch))
        for batch in order.split(config["batch_size"]):
            logits, lesion = model(images[batch]), lesions[batch]
            overlap = dice(logits.sigmoid(), lesion)
            loss = bce(logits, lesion) + config["loss"]["dice"] * (1 - overlap)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        saved = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        torch.save(saved | {"epoch": epoch, "loss": loss.item()}, checkpoint.with_suffix(".new"))
        checkpoint.with_suffix(".new").replace(checkpoint)
        report(model, epoch, loss.item(), cases)


if __name__ == "__main__":
    main(configuration(sys.argv[1:]))
