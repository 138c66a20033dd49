"""The commands that look at a study and take away from it; search/cli.py has those that run one."""

from pathlib import Path

import click

from search.command import JSON, RUNS, SUBMIT, elsewhere, find_study, strict_json
from trainer.__main__ import predict
from trainer.configfile import ConfigError


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
        from search.watch import watch as run

        run(find_study(study, runs), every_s=every_s, as_json=as_json)
        return
    if submit:
        elsewhere(submit, study, ["status", *["--json"] * as_json])
    from search.status import render
    from search.status import status as read

    result = read(find_study(study, runs))
    click.echo(strict_json(result) if as_json else render(result))


@look.command()
@click.argument("study")
@RUNS
@SUBMIT
@JSON
def compare(study: str, runs: Path, submit: str | None, as_json: bool) -> None:
    """Show STUDY's trials, ranked; beside them the control, references and threshold."""
    if submit:
        elsewhere(submit, study, ["compare", *["--json"] * as_json])
    from search.compare import compare as read
    from search.leaderboard import leaderboard

    folder = find_study(study, runs)
    click.echo(strict_json(read(folder)) if as_json else leaderboard(folder))


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
    from search.export import export as run

    run(model, out, trial=trial, runs=runs)


look.add_command(predict)
