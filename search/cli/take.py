"""Take: what a study leaves for use elsewhere."""

from pathlib import Path

import click

import trainer.__main__ as trainer
from search.cli.options import RUNS, TRIAL, at_trials

predict = at_trials(trainer.predict)


@click.command()
@click.argument("model", metavar="STUDY[:TRIAL]|MODEL")
@click.argument("out", type=click.Path(path_type=Path))
@TRIAL
@RUNS
def export(model: str, out: Path, trial: int | None, runs: Path) -> None:
    """Write a trained model into a folder for others to use.

    The model is a trial (STUDY:7, or STUDY for its best), a run folder or a .pt file; OUT is the
    new folder: weights, settings, what was measured and where it comes from, a model card and
    checksums. `segtune predict OUT INPUT MASK` uses it.
    """
    from search.workflows.export import export as run

    run(model, out, trial=trial, runs=runs)


@click.command()
@click.argument("study")
@click.argument("out", type=click.Path(path_type=Path))
@RUNS
def paper(study: str, out: Path, runs: Path) -> None:
    """Write a study as LaTeX, with figures, for a paper.

    OUT is the new folder: tables (leaderboard, references, verdicts of `confirm`), vector figures,
    how it was done, BibTeX of what was used, all trials as CSV, and paper.tex, which shows it all.
    Every score has its interval where one is known, and says how it was selected.
    """
    from search.workflows.paper import paper as run

    run(study, out, runs=runs)
