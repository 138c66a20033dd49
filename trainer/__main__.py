"""`python -m trainer train|overfit CONFIG [K=V…]`: one configuration, without Ray."""

import sys
from pathlib import Path

import click

from trainer.config import TrainConfig
from trainer.configfile import build, nest, parse_overrides, read_yaml


@click.group()
def cli() -> None:
    """Train one configuration; `segtune` searches over many."""


def load_config(path: str, overrides: tuple[str, ...]) -> TrainConfig:
    """Read CONFIG (dotted or nested keys) with overrides on top."""
    return build(TrainConfig, nest(parse_overrides(overrides), nest(read_yaml(path))), path)


@cli.command()
@click.argument("config")
@click.argument("overrides", nargs=-1, metavar="[K=V]...")
@click.option(
    "--out", default="runs/single", show_default=True, help="Run folder; run again to continue."
)
def train(config: str, overrides: tuple[str, ...], out: str) -> None:
    """Train CONFIG, or continue it: the same command again."""
    settings = load_config(config, overrides)
    from trainer.loop import fit

    for validation in fit(settings, Path(out)):
        m = validation.metrics
        click.echo(
            f"epoch {validation.epoch:4d}/{settings.epochs}  dice {m['val/dice']:.3f}  "
            f"f1 {m['val/lesion_f1']:.3f}  avd {m['val/avd_ml']:6.1f} mL  "
            f"loss {m['train/loss']:.4f}  {m['time/epoch_s']:.1f} s + {m['time/validate_s']:.1f} s"
        )
    click.echo(f"run folder: {out}")


@cli.command()
@click.argument("config")
@click.argument("overrides", nargs=-1, metavar="[K=V]...")
@click.option("--max-images", default=20_000, show_default=True, help="Give up after so many.")
def overfit(config: str, overrides: tuple[str, ...], max_images: int) -> None:
    """Learn four slices by heart: Dice > 0.9, or exit status 1."""
    settings = load_config(config, overrides)
    from trainer.overfit import GOAL
    from trainer.overfit import overfit as run

    reached = 0.0
    for progress in run(settings, max_images=max_images):
        reached = progress.dice
        click.echo(
            f"{progress.images:6d} images  dice {progress.dice:.3f}  {progress.seconds:.0f} s"
        )
    if reached <= GOAL:
        click.echo(f"Dice {reached:.3f} after {max_images} images: four slices are not learned")
        sys.exit(1)


def main() -> None:
    """Run the command; a user's mistake is one line on stderr and status 2, divergence status 1."""
    try:
        cli(standalone_mode=True)
    except ValueError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    except (ArithmeticError, MemoryError) as error:  # diverged, or out of memory
        click.echo(f"{type(error).__name__}: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
