"""A trainer of one's own: convolutions that find discs in noise, configured by words as with Hydra.

    python examples/own_trainer/train.py out=/tmp/run epochs=3 optimizer.lr=0.003

Knows nothing of segtune but for the line of JSON after each epoch.
"""

import json
import sys
from pathlib import Path

import torch
import yaml
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

CONFIG = """
optimizer: {lr: 0.003, weight_decay: 0.01}
model: {width: 8, depth: 2}
batch_size: 16
epochs: 9
seed: 0
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


def pictures(seed: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images and masks, (count, 1, 24, 24): a bright disc in noise."""
    rng = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    middle = 6 + 12 * torch.rand(count, 2, 1, 1, generator=rng)
    radius = 2 + 4 * torch.rand(count, 1, 1, generator=rng)
    masks = ((x - middle[:, 0]) ** 2 + (y - middle[:, 1]) ** 2 < radius**2).float()[:, None]
    return masks + 0.7 * torch.randn(masks.shape, generator=rng), masks


def network(width: int, depth: int) -> nn.Module:
    """Return a stack of convolutions."""
    layers: list[nn.Module] = [nn.Conv2d(1, width, 3, padding=1)]
    for _ in range(depth):
        layers += [nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)]
    return nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(width, 1, 1))


def report(model: nn.Module, epoch: int, loss: float, images: torch.Tensor, masks: torch.Tensor):
    """Print a validation: the one line that segtune asks for."""
    found = (model(images) > 0).float()
    dice = 2 * (found * masks).sum((1, 2, 3)) / (found + masks).sum((1, 2, 3))
    cases = {f"disc{i:02d}": round(value, 4) for i, value in enumerate(dice.tolist())}
    found = {"epoch": epoch, "val/dice": dice.mean().item(), "train/loss": loss, "cases": cases}
    print(json.dumps(found))


def main(config: dict) -> None:
    """Train from the newest checkpoint, or from the beginning."""
    torch.manual_seed(config["seed"])
    (images, masks), held_out = pictures(0, 256), pictures(1, 24)
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
        report(model, begun, saved["loss"], *held_out)  # perhaps it was killed before that
    for epoch in range(begun + 1, config["epochs"] + 1):
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(epoch))
        for batch in order.split(config["batch_size"]):
            loss = bce(model(images[batch]), masks[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        saved = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        torch.save(saved | {"epoch": epoch, "loss": loss.item()}, checkpoint.with_suffix(".new"))
        checkpoint.with_suffix(".new").replace(checkpoint)
        report(model, epoch, loss.item(), *held_out)


if __name__ == "__main__":
    main(configuration(sys.argv[1:]))
