"""`python -m trainer train|overfit|evaluate|samples|predict`: one configuration, without Ray.

`segtune` has the same commands. Their bodies import what they need, so that `--help` answers at
once.
"""

import io
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from trainer.exit_status import status_of_error, status_of_signal
from trainer.files.faults import fault_line
from trainer.terminal import guarded_streams, open_closed_streams

if TYPE_CHECKING:
    from trainer.config import TrainConfig


class Commands(click.Group):
    """A group whose commands answer an error with a line on stderr and a status of its kind.

    The statuses are those of trainer/exit_status.py.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep all words, for a look at them."""
        ctx.meta[WORDS] = [*args]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; `--debug`, where the group has it, lets its exceptions through."""
        open_closed_streams()
        if isinstance(sys.stdout, io.TextIOWrapper):  # signs that a locale lacks become escapes
            sys.stdout.reconfigure(errors="backslashreplace")
        os.umask(os.umask(0o022) | 0o022)  # what is written is never for all to change
        with guarded_streams():
            return self._invoke(ctx)

    def _invoke(self, ctx: click.Context) -> Any:
        try:
            _check_words(ctx.meta[WORDS])
            return super().invoke(ctx)
        except BrokenPipeError:
            raise
        except (ValueError, OSError, ArithmeticError, MemoryError) as error:
            if ctx.params.get("debug"):
                raise
            _say(_line(error))
            ctx.exit(status_of_error(error))
        except KeyboardInterrupt as interrupt:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # the next one ends what tidies up as well
            _say(str(interrupt) or "interrupted")
            number = getattr(interrupt, "number", signal.SIGINT)
            ctx.exit(status_of_signal(number))


def _say(line: str) -> None:
    """Write a command's last line, if stderr takes it: the status is the command's all the same."""
    with suppress(OSError):
        click.echo(line, err=True)


WORDS = "segtune.words"


def _check_words(words: Sequence[str]) -> None:
    """Refuse names that are no text: no store, ledger or page could hold them.

    Raises:
        ValueError: One is not UTF-8.
    """
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            name = ascii(os.fsencode(word))[1:]
            rule = "rename it, for example with convmv -f cp1252 -t utf-8 --notest"
            raise ValueError(f"{name}: its name is not UTF-8: {rule}") from None


def _line(error: Exception) -> str:
    match error:
        case OSError():
            return fault_line(error)
        case ValueError():
            return str(error) or type(error).__name__
    return f"{type(error).__name__}: {error}"


DEVICE = click.option(
    "--device",
    default="auto",
    show_default=True,
    help="Device to compute on: auto, cpu, cuda or mps.",
)
STORE = click.option(
    "--store",
    metavar="PATH",
    help="Prepared data, if they are no longer where the model was trained on them.",
)
ENSEMBLE = click.option(
    "--ensemble",
    type=int,
    metavar="N",
    help="Number of masks to sample of each case.  [default: as the model says]",
)
STEPS = click.option(
    "--steps",
    metavar="STEPS",
    help="Sampling steps: 50, ddim50, or 10,20,30.  [default: as the model says]",
)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Train one configuration; `segtune` searches over many."""


def load_config(path: str, overrides: tuple[str, ...]) -> "TrainConfig":
    """Read CONFIG (dotted or nested keys) with overrides on top."""
    from trainer.config import TrainConfig
    from trainer.configfile import build, nest, parse_overrides, read_yaml
    from trainer.old_names import note_old_names

    values = nest(parse_overrides(overrides), nest(read_yaml(path)))
    note_old_names(values, f"{path}: ")
    return build(TrainConfig, values, path)


@cli.command()
@click.argument("config")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--out",
    default="runs/single",
    show_default=True,
    metavar="FOLDER",
    help="Run folder; one that holds a part of this training is continued.",
)
def train(config: str, overrides: tuple[str, ...], out: str) -> None:
    """Train one configuration, or continue its training.

    CONFIG is a YAML file of the trainer's settings; KEY=VALUE changes any of them. The same
    command again continues what was interrupted: Ctrl-C, SIGTERM and a terminal that goes away
    let it write a checkpoint first.

    Over several devices: `torchrun --nproc-per-node 2 -m trainer train CONFIG`.
    """
    settings = load_config(config, overrides)
    from trainer.devices import pick_device
    from trainer.gpus import driver_version, look
    from trainer.loop import fit
    from trainer.progress import progress_line
    from trainer.training.distributed import processes, rank
    from trainer.training.stop_signals import stop_file

    device = pick_device(settings)
    with processes(device):
        say = click.echo if rank() == 0 else lambda text: None
        on_cpu = device.type == "cpu" and settings.device == "auto"
        if rank() == 0 and on_cpu and driver_version():
            click.echo(f"note: it trains on the CPU: {look()}", err=True)
        epoch = 0
        with stop_file(Path(out)) as came:
            for validation in fit(settings, Path(out)):
                epoch = validation.epoch
                say(progress_line(epoch, settings.epochs, validation.metrics))
        if epoch < settings.epochs:
            why = f" by {came[0].name}" if came else ""
            say(f"stopped{why}; the same command again continues it")
        say(f"run folder: {out}")
    if came and epoch < settings.epochs:
        sys.exit(128 + came[0])


@cli.command()
@click.argument("config")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--max-images",
    default=20_000,
    show_default=True,
    help="Number of training images after which to give up.",
)
def overfit(config: str, overrides: tuple[str, ...], max_images: int) -> None:
    """Check that a configuration can learn four slices by heart.

    CONFIG is as for `train`. The exit status is 1 unless a Dice above 0.9 is reached.
    """
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
@click.argument("model", metavar="MODEL|MASKS")
@click.argument("masks_of", metavar="[STORE]", required=False)
@click.option(
    "--split",
    type=click.Choice(["val", "test"]),
    default="val",
    show_default=True,
    help="Cases to score: the validation fold, or the sealed test set, a model at the threshold "
    "that an evaluation of the validation fold has frozen.",
)
@click.option(
    "--fold",
    type=click.Choice(["0", "1", "2", "3", "4", "all"]),
    help="Validation fold whose masks are scored; all for those of a cross-validation; a model has "
    "its own.  [default: 0]",
)
@click.option(
    "--labels",
    metavar="N,...",
    help="Labels of the masks that are lesion.  [default: all but 0, or as in the store]",
)
@click.option(
    "--splits",
    metavar="FILE",
    help="What the masks' model was trained on: nnU-Net's splits_final.json or a table.",
)
@ENSEMBLE
@click.option(
    "--fuse",
    type=click.Choice(["mean", "majority", "staple"]),
    help="Way to make one mask of those sampled.  [default: as the model says]",
)
@STEPS
@DEVICE
@STORE
@click.option(
    "--out",
    metavar="FOLDER",
    help="Folder for cases.csv and summary.json.  [default: evaluate_SPLIT in the run folder]",
)
def evaluate(
    model: str,
    masks_of: str | None,
    split: Literal["val", "test"],
    fold: str | None,
    labels: str | None,
    splits: str | None,
    ensemble: int | None,
    fuse: str | None,
    steps: str | None,
    device: str,
    store: str | None,
    out: str | None,
) -> None:
    """Score a model or somebody's masks, case by case.

    MODEL is a run folder, a .pt file or an exported folder; `segtune evaluate` also takes a trial,
    STUDY:7, or STUDY for its best. On the validation fold this freezes the threshold that the test
    set needs, and each reading of the test set is recorded in the run folder and beside the store.

    MASKS is a folder without a model: masks or probabilities of the cases of STORE that any program
    wrote as NIfTI files, named by case as nnU-Net, BIDS and others do.
    """
    from trainer.evaluation.masks_command import evaluate_masks_of, is_masks

    of_masks = {"fold": fold, "labels": labels, "splits": splits}
    of_models = {"ensemble": ensemble, "fuse": fuse, "steps": steps, "store": store}
    if is_masks(model, masks_of):
        _refuse(of_models, "says nothing of masks")
        evaluate_masks_of(Path(model), masks_of or "", split, **of_masks, out=out)
        return
    _refuse(of_masks, f"is of masks, but {model} is a model")
    store = store or masks_of
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
    run_dir = run_folder(trained)
    folder = Path(out) if out else run_dir / f"evaluate_{split}"
    if folder.exists() and not folder.is_dir():  # said before the test set is read in vain
        raise ValueError(f"{folder}: must be a folder")
    evaluation = run(trained, Store.open(trained.config.data.store), run_dir, split=split)
    write(evaluation, folder)
    click.echo(table(evaluation))
    click.echo(f"written to {folder}: cases.csv, summary.json")


def _refuse(options: dict[str, Any], rule: str) -> None:
    for name, value in options.items():
        if value:
            raise ValueError(f"command line: {name}: {value}: {rule}")


@cli.command()
@click.argument("model")
@click.argument("case", nargs=-1, required=True, metavar="INPUT...")
@click.argument("out")
@click.option(
    "--probability", is_flag=True, help="Also write the probability, as OUT with _probability."
)
@click.option(
    "--uncertainty",
    is_flag=True,
    help="Also write the deviation over the ensemble, as OUT with _uncertainty.",
)
@click.option(
    "--threshold",
    type=float,
    metavar="P",
    help="Probability from which a voxel is lesion.  [default: as the model says]",
)
@ENSEMBLE
@STEPS
@DEVICE
@click.option("--force", is_flag=True, help="Replace files that are no predictions, too.")
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
    force: bool,
) -> None:
    """Write a model's lesion mask of one case, on the case's own grid.

    MODEL is a run folder, a .pt file or an exported folder; `segtune predict` also takes a trial,
    STUDY:7, or STUDY for its best. It is sampled and thresholded as its last evaluation on the
    validation fold, if there was one; else as trained. OUT is the mask's file (.nii.gz).

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
    paths = outputs(out, images, probability=probability, uncertainty=uncertainty, force=force)
    if uncertainty and num_members(trained.model, trained.config.sampling) == 1:
        click.echo("note: a single mask has an uncertainty of 0 everywhere", err=True)
    prediction = predict_case(trained, images)
    write(prediction, paths)
    click.echo(
        f"{name}: {prediction.lesion_ml:.1f} mL of lesion: {', '.join(map(str, paths.values()))}"
    )


@cli.command()
@click.argument("model")
@click.option(
    "--out",
    metavar="FOLDER",
    help="Folder for the PNG files.  [default: samples in the run folder]",
)
@STORE
@DEVICE
def samples(model: str, out: str | None, store: str | None, device: str) -> None:
    """Draw what a model does with a few validation cases.

    MODEL is a run folder or a .pt file; `segtune samples` also takes a trial, STUDY:7, or STUDY for
    its best.
    """
    from trainer.data.store import Store
    from trainer.images.sample_images import FOLDER, paint
    from trainer.saved.model_io import load, run_folder, with_settings

    trained = with_settings(load(model, device), {"data.store": store})
    folder = Path(out) if out else run_folder(trained) / FOLDER
    for path in paint(trained, Store.open(trained.config.data.store), folder):
        click.echo(path)


if __name__ == "__main__":
    cli(prog_name="python -m trainer")
