"""Begin: a machine that trains as it should, and data that trials can train on."""

import sys
from contextlib import redirect_stdout
from pathlib import Path

import click

from search.cli.options import ADDRESS, JSON, RUNS, SUBMIT, elsewhere
from trainer.exit_status import Exit


@click.command()
@click.argument("study", required=False)
@click.option("--repair", is_flag=True, help="Mend of STUDY what its other files prove.")
@click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Pack what a maintainer needs of STUDY, without secrets or images, as a new .tar.gz.",
)
@RUNS
@SUBMIT
@JSON
def check(
    study: str | None,
    repair: bool,
    bundle: Path | None,
    runs: Path,
    submit: str | None,
    as_json: bool,
) -> None:
    """Check this machine, or the files of a study.

    Without STUDY: torch, driver, GPUs, Ray and disks. Run it first on a new machine. It compares an
    optimizer step on the GPU with the CPU's, and measures the speed of training and of the disk of
    --runs; half a minute.

    With STUDY: which of its files are damaged. --repair keeps a damaged one beside what it mends.

    Exit status 1 where something is wrong.
    """
    from search.report.check_table import table
    from search.report.leaderboard import terminal_width
    from trainer.configfile import ConfigError
    from trainer.files.documents import to_json

    given = {"--repair": repair, "--bundle": bundle, "--submit": submit}
    if study is None and (named := [name for name, value in given.items() if value]):
        raise ConfigError([f"{named[0]}: needs a study, as in segtune check STUDY {named[0]}"])
    if study and submit:
        if bundle:
            raise ConfigError(["--bundle and --submit: give one of them, where the files are"])
        words = ["check", *["--repair"] * repair, *["--json"] * as_json]
        elsewhere(submit, study, words)
    with redirect_stdout(sys.stderr):  # a step may print notes
        if study is None:
            from search.workflows.check.installation import check as run

            rows = run(runs)
        else:
            from search.storage.studies import find_study
            from search.workflows.check.study import check_study

            folder = find_study(study, runs)
            rows = check_study(folder, repair=repair)
            if bundle:
                from search.workflows.check.bundle import write_bundle

                size = write_bundle(folder, bundle, rows)
                print(f"wrote {bundle}: {size / 1e6:.1f} MB; it has names of cases and paths")
    if as_json:
        click.echo(to_json({"checks": [row._asdict() for row in rows]}))
    else:
        click.echo(table(rows, terminal_width()))
    sys.exit(Exit.WRONG if any(row.state == "wrong" for row in rows) else Exit.DONE)


@click.command()
@click.argument("dataset", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "format_",
    metavar="NAME",
    help="Layout of DATASET: isles24, isles22, msd, folder or subjects.  [default: detected]",
)
@click.option(
    "--image-size",
    default=64,
    show_default=True,
    metavar="PIXELS",
    help="Rows and columns of a slice.",
)
@click.option(
    "--skip-bad", is_flag=True, help="Leave unusable cases out, and list them at the end."
)
@click.option(
    "--workers", type=int, metavar="N", help="Number of processes.  [default: as many as CPUs]"
)
@click.option("--seed", default=0, show_default=True, help="Seed: who is test, and the folds.")
@click.option(
    "--patients",
    metavar="REGEX",
    help="What in a case's name is its patient: the first group.  [default: as names usually tell]",
)
@click.option(
    "--splits",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where cases are: nnU-Net's splits_final.json, or a CSV of case, fold, test.",
)
@click.option(
    "--like",
    type=click.Path(path_type=Path),
    metavar="STORE",
    help="Keep the places that an earlier store gave; draw those of new cases.",
)
@click.option(
    "--labels",
    metavar="LABELS",
    default="",
    help="Which labels of the masks are lesion: 1,3, or names.  [default: all but 0]",
)
@click.option(
    "--mask-threshold",
    type=float,
    metavar="VALUE",
    help="Lesion from this value of the masks on.  [default: half of their height]",
)
@click.option(
    "--scale",
    multiple=True,
    metavar="MODALITY=FACTOR[,OFFSET]",
    help="Bring a modality to its unit: tmax=0.001 from ms, ncct=1,-1024 where air is 0.",
)
def prepare(
    dataset: Path,
    out: Path,
    format_: str | None,
    image_size: int,
    skip_bad: bool,
    workers: int | None,
    seed: int,
    patients: str | None,
    splits: Path | None,
    like: Path | None,
    labels: str,
    mask_threshold: float | None,
    scale: tuple[str, ...],
) -> None:
    """Turn a data set into a store, which trials map into memory.

    DATASET is a folder of ISLES24, ISLES22, MSD or nnU-Net, of pairs of images and masks, or of a
    folder a subject (BraTS, BIDS); OUT is the store's new folder. Look at the pictures that it ends
    with before you train.
    """
    from trainer.data.prepare import prepare as run
    from trainer.evaluation.ceiling import ceilings, in_words
    from trainer.training.stop_signals import ending_signals

    with ending_signals("ended by {}; finished cases are kept for the same command".format):
        store = run(
            dataset,
            out,
            format=format_,
            image_size=image_size,
            skip_bad=skip_bad,
            workers=workers,
            seed=seed,
            patients=patients,
            splits=splits,
            like=like,
            labels=labels,
            mask_threshold=mask_threshold,
            scale=scale,
        )
        found = ceilings(store, workers)
    if found:
        click.echo(in_words(found))


@click.command()
@click.argument("store")
@click.argument("out", type=click.Path(path_type=Path), required=False)
@click.option(
    "--hours", type=float, default=47, show_default=True, help="Hours of wall-clock time."
)
@click.option("--gpus", type=int, metavar="N", help="GPUs of the study.  [default: those here]")
@ADDRESS
def init(store: str, out: Path | None, hours: float, gpus: int | None, address: str | None) -> None:
    """Write a study file for your data and this machine.

    STORE is what `prepare` wrote; OUT is the new file, by default STORE's name with .yaml, in the
    current folder. It measures for a minute what a training costs, here or on the cluster with
    --address, and sizes the network, the epochs and the number of trials so that the search fits
    into the hours. Each number in the file has its reason beside it.
    """
    from search.workflows.init_study import init_study

    out = out or Path(f"{Path(store).resolve().name}.yaml")
    init_study(store, out, hours=hours, gpus=gpus, address=address, say=click.echo)


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--num-cases",
    default=32,
    show_default=True,
    metavar="N",
    help="Number of simulated patients.",
)
@click.option("--seed", default=0, show_default=True, help="Seed of the simulation.")
def phantom(out: Path, num_cases: int, seed: int) -> None:
    """Write a simulated stroke cohort, to try segtune without data.

    OUT is the new folder, of NIfTI files in ISLES24's tree, for `segtune prepare`.
    """
    from trainer.data.phantom import write_phantom
    from trainer.training.stop_signals import ending_signals

    with ending_signals("ended by {}; nothing is left of it".format):
        write_phantom(out, num_cases=num_cases, seed=seed)
