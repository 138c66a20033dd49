"""Small: one configuration by itself, pictures, and what MLflow lacks."""

from pathlib import Path

import click

import trainer.__main__ as trainer
from search.cli.options import RUNS, at_trials

train = trainer.train
overfit = trainer.overfit
samples = at_trials(trainer.samples, out="{model}-samples")


@click.command()
@click.argument("study")
@RUNS
def sync(study: str, runs: Path) -> None:
    """Send MLflow what it does not have of a study.

    For when a server was away, or is another one now: MLFLOW_TRACKING_URI names it, as for
    `launch`. Nothing is sent twice.
    """
    from search.execution.extra import need_search
    from search.storage.studies import find_study
    from search.tracking.sync import sync as run

    need_search()
    click.echo(run(find_study(study, runs)))
