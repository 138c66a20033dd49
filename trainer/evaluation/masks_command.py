"""What `evaluate MASKS STORE` does: scores a folder of masks, prints a table and writes it."""

from pathlib import Path
from typing import Literal

import click

OF_A_MODEL = ("ema.pt", "best.pt", "checkpoints", "model.safetensors")
"""What a run folder or an exported one has."""


def is_masks(path: str, store: str | None) -> bool:
    """Return whether what is to be evaluated is a folder of masks, and not a model.

    Raises:
        ValueError: It is neither, or the store is missing or in its place.
    """
    folder = Path(path)
    if not folder.is_dir() or any((folder / name).exists() for name in OF_A_MODEL):
        return False
    if (folder / "manifest.json").is_file():
        rule = "give the masks first: evaluate MASKS STORE"
        raise ValueError(f"{path}: is a prepared store: {rule}")
    if store is None:
        rule = "of masks say whose they are: evaluate MASKS STORE"
        raise ValueError(f"{path}: has no segtune checkpoint; {rule}")
    return True


def evaluate_masks_of(
    masks: Path,
    store: str,
    split: Literal["val", "test"],
    *,
    fold: str | None,
    labels: str | None,
    splits: str | None,
    out: str | None,
) -> None:
    """Do it; arguments as the command's.

    Raises:
        ValueError: As `trainer.evaluation.masks.evaluate_masks`; or options that exclude each
            other, or a folder that cannot be written.
    """
    from trainer.data.store import Store
    from trainer.evaluation.evaluation_table import masks_table, write_masks
    from trainer.evaluation.masks import evaluate_masks

    if split == "test" and fold is not None:
        raise ValueError(f"command line: fold: {fold}: not together with --split test")
    part = "test" if split == "test" else "val" if fold is None else f"fold_{fold}"
    folder = Path(out) if out else Path(f"{masks.absolute().name}-evaluate_{part}")
    if folder.exists() and not folder.is_dir():  # said before the test set is read in vain
        raise ValueError(f"{folder}: must be a folder")
    evaluation = evaluate_masks(
        masks,
        Store.open(store),
        split=split,
        fold=None if fold == "all" else int(fold or 0),
        labels=labels or "",
        splits=Path(splits) if splits else None,
    )
    write_masks(evaluation, masks, folder)
    click.echo(masks_table(evaluation))
    for line in evaluation.masks.said:
        click.echo(f"note: {line}", err=True)
    click.echo(f"written to {folder}: cases.csv, summary.json")
