"""`python -m trainer train|overfit|evaluate|samples|predict`: one configuration, without Ray."""

import sys
from pathlib import Path
from typing import Literal

import click

from trainer.config import TrainConfig
from trainer.configfile import ConfigError, build, nest, parse_overrides, read_yaml


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
    """Train CONFIG, or continue it: the same command again.

    Over several devices: `torchrun --nproc-per-node 2 -m trainer train CONFIG`.
    """
    settings = load_config(config, overrides)
    from trainer.devices import pick_device
    from trainer.loop import fit
    from trainer.training.distributed import processes, rank

    with processes(pick_device(settings)):
        say = click.echo if rank() == 0 else lambda text: None
        for validation in fit(settings, Path(out)):
            m = validation.metrics
            loss = f"loss {m['train/loss']:.4f}  " if "train/loss" in m else ""
            say(
                f"epoch {validation.epoch:4d}/{settings.epochs}  dice {m['val/dice']:.3f}  "
                f"f1 {m['val/lesion_f1']:.3f}  avd {m['val/avd_ml']:6.1f} mL  {loss}"
                f"{m['time/epoch_s']:.1f} s + {m['time/validate_s']:.1f} s"
            )
        say(f"run folder: {out}")


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


@cli.command()
@click.argument("model")
@click.option(
    "--split",
    type=click.Choice(["val", "test"]),
    default="val",
    show_default=True,
    help="The validation fold, or the sealed test set at the threshold that val has frozen.",
)
@click.option("--ensemble", type=int, help="Masks sampled per case.")
@click.option("--fuse", type=click.Choice(["mean", "majority", "staple"]), help="How they are one.")
@click.option("--steps", help="Sampling steps: 50, ddim50, or 10,20,30.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
@click.option("--store", help="Where the prepared data are now, if not where they were.")
@click.option("--out", help="Folder for cases.csv and summary.json.  [default: in the run folder]")
def evaluate(
    model: str,
    split: Literal["val", "test"],
    ensemble: int | None,
    fuse: str | None,
    steps: str | None,
    device: str,
    store: str | None,
    out: str | None,
) -> None:
    """Score MODEL (run folder, .pt file, export), case by case on the native grid."""
    from trainer.data.store import Store
    from trainer.evaluation.evaluate import evaluate as run
    from trainer.evaluation.evaluation_table import table, write
    from trainer.saved.model_io import (
        frozen_settings,
        load,
        run_folder,
        with_settings,
    )

    changed = {
        "sampling.num_ensemble": ensemble,
        "sampling.fuse": fuse,
        "sampling.timestep_respacing": int(steps) if steps and steps.isdigit() else steps,
        "data.store": store,
    }
    trained = load(model, device)
    if split == "test":  # sampled as when its threshold was frozen
        frozen = frozen_settings(trained) | {"sampling.threshold": None}
        changed = frozen | {key: value for key, value in changed.items() if value is not None}
    trained = with_settings(trained, changed)
    run_dir = run_folder(trained.path)
    folder = Path(out) if out else run_dir / f"evaluate_{split}"
    if folder.exists() and not folder.is_dir():  # said before the test set is read in vain
        raise ConfigError([f"{folder}: must be a folder"])
    evaluation = run(trained, Store.open(trained.config.data.store), run_dir, split=split)
    write(evaluation, folder)
    click.echo(table(evaluation))
    click.echo(f"written to {folder}: cases.csv, summary.json")


@cli.command()
@click.argument("model")
@click.argument("case", nargs=-1, required=True, metavar="INPUT...")
@click.argument("out")
@click.option("--probability", is_flag=True, help="Write OUT's name with _probability too.")
@click.option("--uncertainty", is_flag=True, help="And _uncertainty: deviation over the ensemble.")
@click.option("--threshold", type=float, help="Probability from which a voxel is lesion.")
@click.option("--ensemble", type=int, help="Masks sampled.")
@click.option("--steps", help="Sampling steps: 50, ddim50, or 10,20,30.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
def predict(
    model: str,
    case: tuple[str, ...],
    out: str,
    probability: bool,
    uncertainty: bool,
    threshold: float | None,
    ensemble: int | None,
    steps: str | None,
    device: str,
) -> None:
    """Write MODEL's mask of one case to OUT (.nii.gz), on the case's own grid.

    MODEL is a run folder, a .pt file or a folder that `segtune export` wrote. It is sampled and
    thresholded as its last evaluation on the validation fold, if there was one; else as trained.

    INPUT is a subject's folder in an ISLES tree (DATASET/raw_data/sub-stroke0001), a case of any
    data set that can be prepared (DATASET:CASE), a NIfTI file with as many channels as the model
    sees, or one file a modality (ncct=FILE tmax=FILE), the first of which lends its grid.
    """
    from trainer.data.formats.case_selector import find_case
    from trainer.evaluation.ensemble import num_members
    from trainer.predict import outputs, predict_case, write
    from trainer.saved.model_io import frozen_settings, load, with_settings

    given = {
        "sampling.threshold": threshold,
        "sampling.num_ensemble": ensemble,
        "sampling.timestep_respacing": int(steps) if steps and steps.isdigit() else steps,
    }
    trained = load(model, device)
    changed = {key: value for key, value in given.items() if value is not None}
    trained = with_settings(trained, frozen_settings(trained) | changed)
    name, images = find_case(case, trained.inputs.modalities)
    paths = outputs(out, images, probability=probability, uncertainty=uncertainty)
    if uncertainty and num_members(trained.model, trained.config.sampling) == 1:
        click.echo("note: a single mask has an uncertainty of 0 everywhere", err=True)
    prediction = predict_case(trained, name, images)
    write(prediction, paths)
    click.echo(
        f"{name}: {prediction.lesion_ml:.1f} mL of lesion: {', '.join(map(str, paths.values()))}"
    )


@cli.command()
@click.argument("model")
@click.option("--out", help="Folder for the PNG files.  [default: samples, in the run folder]")
@click.option("--store", help="Where the prepared data are now, if not where they were.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
def samples(model: str, out: str | None, store: str | None, device: str) -> None:
    """Draw what MODEL, a run folder or a .pt file, does with a few validation cases."""
    from trainer.data.store import Store
    from trainer.images.sample_images import FOLDER, paint
    from trainer.saved.model_io import load, run_folder, with_settings

    trained = with_settings(load(model, device), {"data.store": store})
    folder = Path(out) if out else run_folder(trained.path) / FOLDER
    for path in paint(trained, Store.open(trained.config.data.store), folder):
        click.echo(path)


def main() -> None:
    """Run the command; a user's mistake is one line on stderr and status 2, divergence status 1."""
    try:
        cli(standalone_mode=True)
    except (ValueError, OSError) as error:
        line = str(error)
        if isinstance(error, OSError) and error.filename and error.strerror:
            line = f"{error.filename}: {error.strerror}"
        click.echo(line, err=True)
        sys.exit(2)
    except (ArithmeticError, MemoryError) as error:  # diverged, or out of memory
        click.echo(f"{type(error).__name__}: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
