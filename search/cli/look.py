"""The commands that look at a study and take away from it; cli/main.py has those that run one."""

import sys
from pathlib import Path

import click

from search.cli.options import (
    ADDRESS,
    JSON,
    RUNS,
    SUBMIT,
    elsewhere,
)
from search.storage.studies import find_study
from trainer.__main__ import predict
from trainer.configfile import ConfigError
from trainer.documents import to_json


@click.group()
def look() -> None:
    """Look at studies."""


@look.command()
@click.argument("study")
@RUNS
@SUBMIT
@JSON
@click.option("--watch", is_flag=True, help="Go on until it ends, nobody runs it, or Ctrl-C.")
@click.option(
    "--every",
    "every_s",
    type=click.FloatRange(min=0.1),
    metavar="SECONDS",
    help="With --watch: between two looks.  [default: 1, in S3 10]",
)
def status(
    study: str,
    runs: Path,
    submit: str | None,
    as_json: bool,
    watch: bool,
    every_s: float | None,
) -> None:
    """Show how STUDY stands.

    With --watch on a terminal: a live screen, as `launch` has it. Else the same lines again after
    each change, with --json a line of JSON each.
    """
    if every_s and not watch:
        raise ConfigError(["--every: goes with --watch"])
    if watch:
        if submit:
            follow = f"segtune logs {study} --submit {submit} --follow"
            raise ConfigError([f"--watch and --submit: give one of them; or follow it: {follow}"])
        from search.monitor.watch import watch as run

        run(find_study(study, runs), every_s=every_s, as_json=as_json)
        return
    if submit:
        elsewhere(submit, study, ["status", *["--json"] * as_json])
    from search.monitor.status import render
    from search.monitor.status import status as read

    result = read(find_study(study, runs))
    click.echo(to_json(result) if as_json else render(result))


@look.command()
@click.argument("study")
@click.argument("others", metavar="[STUDY]...", nargs=-1)
@RUNS
@SUBMIT
@JSON
@click.option("--csv", "as_csv", is_flag=True, help="Print a line a trial, as CSV.")
@click.option("--html", type=click.Path(path_type=Path), help="Write all of it as one page.")
def compare(
    study: str,
    others: tuple[str, ...],
    runs: Path,
    submit: str | None,
    as_json: bool,
    as_csv: bool,
    html: Path | None,
) -> None:
    """Show STUDY's trials, ranked; beside them the control, references and threshold.

    Several studies stand side by side. With --submit all are in the folder of the first.
    """
    forms = [("--json", as_json), ("--csv", as_csv), ("--html", html)]
    given = [name for name, form in forms if form]
    clash = [*given, "--submit"] if html and submit else given
    if len(clash) > 1:
        raise ConfigError([f"{' and '.join(clash)}: give one of them"])
    if submit:
        elsewhere(submit, study, ["compare", *others, *given])
    folders = [find_study(name, runs) for name in (study, *others)]
    if html:
        from search.report.page_html import write_html

        write_html(folders, html)
        click.echo(f"wrote {html}")
        return
    from search.analysis.results import compare as read
    from search.analysis.results import compare_studies

    if as_csv:
        from search.report.tables import csv_table

        click.echo(csv_table(read(folder, importance=False) for folder in folders), nl=False)
    elif as_json:
        click.echo(to_json(compare_studies(folders) if others else read(folders[0])))
    elif others:
        from search.report.side_by_side import side_by_side

        click.echo(side_by_side(folders))
    else:
        from search.report.leaderboard import leaderboard

        click.echo(leaderboard(folders[0]))


@look.command()
@click.argument("study")
@click.argument("trial", type=click.IntRange(min=0))
@RUNS
@SUBMIT
@JSON
@click.option("--store", metavar="PATH", help="Where its store is now, if not where it was.")
def explain(
    study: str, trial: int, runs: Path, submit: str | None, as_json: bool, store: str | None
) -> None:
    """Say why the Dice of TRIAL of STUDY is not higher: findings, the likely causes first.

    From its ledger, its store, and about a minute of predictions with its newest weights on the
    CPU.
    """
    if submit:
        words = ["explain", str(trial), *["--json"] * as_json]
        elsewhere(submit, study, [*words, *(["--store", store] if store else [])])
    from search.workflows.explain import explain as read
    from search.workflows.explain import render

    result = read(find_study(study, runs), trial, store)
    click.echo(to_json(result) if as_json else render(result))


@look.command()
@click.argument("model", metavar="STUDY")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--trial", type=int, help="Not the best by the leaderboard, but this one.")
@RUNS
def export(model: str, out: Path, trial: int | None, runs: Path) -> None:
    """Write the best model of STUDY into the new folder OUT, for others to use.

    Weights, settings, what was measured and where it comes from, a model card and checksums;
    `segtune predict OUT CASE MASK` uses it. STUDY may also be a run folder or a .pt file.
    """
    from search.workflows.export import export as run

    run(model, out, trial=trial, runs=runs)


@look.command()
@click.argument("study")
@RUNS
def sync(study: str, runs: Path) -> None:
    """Send MLflow what it does not have of STUDY: a server was away, or is another one now.

    MLFLOW_TRACKING_URI names the server, as for `launch`. Nothing is sent twice.
    """
    from search.tracking.sync import sync as run

    click.echo(run(find_study(study, runs)))


@look.command()
@click.argument("study")
@click.option("--port", type=click.IntRange(1, 65535), help="Of the server; any free one if none.")
@RUNS
def ui(study: str, port: int | None, runs: Path) -> None:
    """Show STUDY in MLflow: print the address, and serve it on this machine until Ctrl-C.

    Where MLFLOW_TRACKING_URI names a server, only its address is printed.
    """
    from search.tracking.server import ui as run

    run(find_study(study, runs), port)


look.add_command(predict)


@look.command()
@click.argument("model", metavar="STUDY|CHECKPOINT")
@click.option("--trial", type=int, help="Not the best by the leaderboard, but this one.")
@click.option("--methods", metavar="NAME,...", help="Of ddim, ddpm and dpmpp_2m.")
@click.option("--steps", metavar="N,...", help="Sampling steps: 1,2,5,10 or ddim50.")
@click.option("--eta", metavar="X,...", help="Shares of fresh noise of ddim: 0,0.5.")
@click.option("--ensemble", metavar="N,...", help="Masks sampled a case: 1,4.")
@click.option(
    "--trials", type=click.IntRange(min=1), help="Settings to evaluate.  [default: 24, or all]"
)
@click.option("--name", help="Of the study.  [default: STUDY-TRIAL-respacing]")
@click.option("--store", help="Where the prepared data are now, if not where they were.")
@click.option(
    "--choose",
    default="fast",
    show_default=True,
    metavar="fast|best|TRIAL",
    help="fast: the fastest of the Pareto set that is as good as the best.",
)
@click.option(
    "--margin",
    type=click.FloatRange(min=0, max=1),
    default=0.01,
    show_default=True,
    help="fast: a difference of Dice that does not matter.",
)
@RUNS
@ADDRESS
def respace(
    model: str,
    trial: int | None,
    trials: int | None,
    name: str | None,
    store: str | None,
    choose: str,
    margin: float,
    runs: Path,
    address: str | None,
    **choices: str | None,
) -> None:
    """Find how few sampling steps a trained model needs, and store what is chosen with it.

    Evaluates ways to sample the best trial of STUDY, or a run folder, .pt file or export, on its
    validation fold: a study of its own, spaces/respacing.yaml with these choices. The same command
    again continues it and evaluates nothing twice; --trials raises the number of settings, other
    choices need another --name. Then `predict`, `export` and the test set use the chosen setting
    and its threshold.
    """
    from search.workflows.respace import RespaceOptions
    from search.workflows.respace import respace as run

    given = {f"--{option}": text for option, text in choices.items() if text is not None}
    options = RespaceOptions(
        given, trials=trials, name=name, store=store, choose=choose, margin=margin
    )
    sys.exit(run(model, options, trial=trial, runs=runs, address=address))
