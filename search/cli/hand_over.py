"""Hand over and clear up: a study as one file, and room on the disk."""

from pathlib import Path

import click

from search.cli.options import RUNS, STORE


@click.command()
@click.argument("study")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--with-images/--without-images",
    "images",
    default=False,
    help="Also the pictures of the trials whose weights go along, which show patients.  [default: "
    "without]",
)
@click.option(
    "--pseudonyms",
    is_flag=True,
    help="Replace the names of cases and patients, and write nothing where one is left.",
)
@click.option(
    "--key-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="With --pseudonyms: keep their key here, or use the one that is here, for the same ones.",
)
@STORE
@RUNS
def archive(
    study: str,
    file: Path,
    images: bool,
    pseudonyms: bool,
    key_file: Path | None,
    store: str | None,
    runs: Path,
) -> None:
    """Write a study into one file, to keep or to hand on.

    FILE is a new ZIP file: ledger, settings, curves, the scores of cases, weights of the best three
    trials, of the control and of the references, the store's manifest and splits, versions, and
    the SHA-256 of each. All commands that look take it as STUDY, as does segtune.study(FILE).
    """
    from search.storage.studies import find_study
    from search.workflows.archive.archive import Wanted
    from search.workflows.archive.archive import archive as run

    wanted = Wanted(images, pseudonyms, key_file, store)
    for line in run(find_study(study, runs), file, wanted):
        click.echo(line)


@click.command()
@click.argument("study")
@click.option(
    "--weights-but",
    type=click.IntRange(min=0),
    metavar="N",
    help="Only weights and checkpoints, and not of the best N trials, the control, the references.",
)
@click.option("--yes", is_flag=True, help="Delete the whole study: it is meant.")
@click.option("--dry-run", is_flag=True, help="With --weights-but: print what would go.")
@RUNS
def delete(study: str, weights_but: int | None, yes: bool, dry_run: bool, runs: Path) -> None:
    """Delete a study, or the weights of all but its best trials.

    The ledger, the page and MLflow then say what is gone. Nothing goes while somebody runs the
    study, nor weights with which another study beside it begins.
    """
    from search.storage.studies import find_study
    from search.workflows import delete as run

    if weights_but is None and dry_run:
        raise ValueError("--dry-run: goes with --weights-but")
    if weights_but is not None and yes:
        raise ValueError("--weights-but and --yes: give one of them")
    if yes or (weights_but is not None and not dry_run):
        run.sweep(runs)
    folder = find_study(study, runs)
    lines = (
        run.delete_study(folder, yes=yes)
        if weights_but is None
        else run.delete_weights(folder, weights_but, dry_run=dry_run)
    )
    for line in lines:
        click.echo(line)
