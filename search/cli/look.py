"""Look: at studies and their trials, while they run and after."""

import os
import sys
from pathlib import Path

import click

from search.cli.options import JSON, RUNS, STORE, SUBMIT, elsewhere, runs_given


@click.command("list")
@click.argument("studies", metavar="[STUDY]...", nargs=-1)
@click.option("--sizes", is_flag=True, help="Also what each takes on the disk, by kind of file.")
@RUNS
@JSON
def list_(studies: tuple[str, ...], sizes: bool, runs: Path, as_json: bool) -> None:
    """List studies: state, trials, best, cost and last event.

    All below --runs, or those that are named; an archive has a name of its own, its file's.
    """
    from search.monitor.study_list import list_studies, render
    from search.storage.studies import find_study
    from trainer.files.documents import to_json

    named = [find_study(study, runs) for study in studies]
    result = list_studies(runs, named, sizes=sizes)
    click.echo(to_json(result) if as_json else render(result))


@click.command()
@click.argument("study")
@RUNS
@SUBMIT
@JSON
@click.option(
    "--watch", is_flag=True, help="Go on until the study ends, nobody runs it, or Ctrl-C."
)
@click.option(
    "--every",
    "every_s",
    type=click.FloatRange(min=0.1),
    metavar="SECONDS",
    help="Seconds between two readings with --watch.  [default: 1, in S3 10]",
)
def status(
    study: str,
    runs: Path,
    submit: str | None,
    as_json: bool,
    watch: bool,
    every_s: float | None,
) -> None:
    """Show how a study stands.

    With --watch on a terminal it is a live screen, as `segtune launch` has it; elsewhere the same
    lines again after each change, with --json a line of JSON each.
    """
    if every_s and not watch:
        raise ValueError("--every: goes with --watch")
    if watch and submit:
        follow = f"segtune logs {study} --submit {submit} --follow"
        raise ValueError(f"--watch and --submit: give one of them; or follow it: {follow}")
    if submit:
        elsewhere(submit, study, ["status", *["--json"] * as_json])
    from search.storage.studies import find_study

    folder = find_study(study, runs)
    if watch:
        from search.monitor.watch import watch as run

        run(folder, every_s=every_s, as_json=as_json)
        return
    from search.monitor.status import render
    from search.monitor.status import status as read
    from trainer.files.documents import to_json

    result = read(folder)
    click.echo(to_json(result) if as_json else render(result))


@click.command()
@click.argument("study", metavar="STUDY[:TRIAL]")
@click.argument("trial", type=click.IntRange(min=0), required=False)
@RUNS
@SUBMIT
@click.option("--follow", is_flag=True, help="Go on until the trial or its driver ends, or Ctrl-C.")
def logs(study: str, trial: int | None, runs: Path, submit: str | None, follow: bool) -> None:
    """Show what a trial printed, or what happened in a study.

    STUDY:7, or STUDY 7, is the log of a trial: what its attempts and all that they called wrote to
    stdout and stderr, trials/0007/log.txt in the study's folder. STUDY alone is what its drivers
    said of it, as its ledger has it; with --submit it is all that the newest driver there printed.
    """
    from search.storage.trials.names import split_trial

    name, number = split_trial(study, trial)
    if submit:
        from search.workflows.jobs import Cluster

        if number is None:
            Cluster(submit).logs(name, follow)
            return
        words = ["logs", str(number)]
        if not follow:
            elsewhere(submit, name, words)
        sys.exit(Cluster(submit).follow([*words, "--follow"], name, runs_given()))
    from search.monitor.logs import show_study, show_trial
    from search.storage.studies import find_study

    folder = find_study(name, runs)
    if number is None:
        show_study(folder, follow=follow)
    else:
        show_trial(folder, number, follow=follow)


@click.command()
@click.argument("study")
@click.argument("others", metavar="[STUDY]...", nargs=-1)
@RUNS
@SUBMIT
@JSON
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, with a line for each trial.")
@click.option(
    "--html",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write everything as one HTML page that needs no network.",
)
def compare(
    study: str,
    others: tuple[str, ...],
    runs: Path,
    submit: str | None,
    as_json: bool,
    as_csv: bool,
    html: Path | None,
) -> None:
    """Rank a study's trials beside its control and references.

    Several studies stand side by side, and what they have confirmed is compared case by case.
    With --submit all are in the folder of the first.
    """
    forms = [("--json", as_json), ("--csv", as_csv), ("--html", html)]
    given = [name for name, form in forms if form]
    clash = [*given, "--submit"] if html and submit else given
    if len(clash) > 1:
        raise ValueError(f"{' and '.join(clash)}: give one of them")
    if submit:
        elsewhere(submit, study, ["compare", *others, *given])
    from search.storage.studies import find_study

    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # which would mostly wait for each other
    folders = [find_study(name, runs) for name in (study, *others)]
    if html:
        from search.report.page_html import write_html

        write_html(folders, html)
        click.echo(f"wrote {html}")
        return
    from search.analysis.results import compare as read
    from search.analysis.results import compare_studies

    if as_csv:
        from search.report.csv_table import csv_table

        click.echo(csv_table(read(folder) for folder in folders), nl=False)
    elif as_json:
        from trainer.files.documents import to_json

        click.echo(to_json(compare_studies(folders) if others else read(folders[0])))
    elif others:
        from search.report.side_by_side import side_by_side

        click.echo(side_by_side(folders))
    else:
        from search.report.leaderboard import leaderboard

        click.echo(leaderboard(folders[0]))


@click.command()
@click.argument("study", metavar="STUDY[:TRIAL]")
@click.argument("trial", type=click.IntRange(min=0), required=False)
@RUNS
@SUBMIT
@JSON
@STORE
def explain(
    study: str,
    trial: int | None,
    runs: Path,
    submit: str | None,
    as_json: bool,
    store: str | None,
) -> None:
    """Say why a trial's Dice is not higher, the likely causes first.

    The trial is STUDY:7, STUDY 7, or STUDY for its best. What is said comes from the ledger, the
    store, and about a minute of predictions with the trial's newest weights on the CPU.
    """
    from search.storage.trials.names import split_trial
    from search.workflows.explain import explain as read
    from search.workflows.explain import render
    from search.workflows.model_ref import find_trial
    from trainer.files.documents import to_json

    if submit:
        name, number = split_trial(study, trial)
        words = ["explain", *([] if number is None else [str(number)]), *["--json"] * as_json]
        elsewhere(submit, name, [*words, *(["--store", store] if store else [])])
    folder, number = find_trial(study, trial, runs)
    result = read(folder, number, store)
    click.echo(to_json(result) if as_json else render(result))


@click.command()
@click.argument("study")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help="Port of MLflow's server on this machine.  [default: any that is free]",
)
@click.option("--write", is_flag=True, help="Let the pages rename, delete, restore and annotate.")
@RUNS
def ui(study: str, port: int | None, write: bool, runs: Path) -> None:
    """Show a study in MLflow, in the browser.

    Prints the address, and serves it on this machine until Ctrl-C, to the browser that opens it
    first and to nobody else. Where MLFLOW_TRACKING_URI names a server, only the address is printed.
    """
    from search.storage.studies import find_study
    from search.tracking.server import ui as run

    run(find_study(study, runs), port, write=write)
