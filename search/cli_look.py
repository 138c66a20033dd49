"""The commands that look at a study and take away from it; search/cli.py has those that run one."""

from pathlib import Path

import click

from search.command import JSON, RUNS, SUBMIT, elsewhere, find_study, strict_json


@click.group()
def look() -> None:
    """Look at studies."""


@look.command()
@click.argument("study")
@RUNS
@SUBMIT
@JSON
def status(study: str, runs: Path, submit: str | None, as_json: bool) -> None:
    """Show how STUDY stands."""
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
