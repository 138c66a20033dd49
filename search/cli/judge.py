"""Judge: how good trained models are, and whether the best are really better."""

import sys
from pathlib import Path

import click

import trainer.__main__ as trainer
from search.cli.options import ADDRESS, RUNS, STORE, TRIAL, at_trials

evaluate = at_trials(trainer.evaluate, out="{model}-evaluate_{split}")


@click.command()
@click.argument("study", metavar="STUDY[:TRIAL]")
@click.option(
    "--top",
    type=click.IntRange(min=1),
    metavar="K",
    help="Number of top-ranked trials.  [default: 3, with STUDY:7 that trial alone]",
)
@click.option(
    "--trial",
    "trials",
    type=int,
    multiple=True,
    metavar="NUMBER",
    help="Number of a trial to judge beside them; may be repeated.",
)
@click.option(
    "--seeds",
    default=4,
    show_default=True,
    metavar="N",
    help="Number of other seeds to train with, at least 3: one on each of four folds, then two.",
)
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of epochs of each training.  [default: as the longest of these trials]",
)
@click.option(
    "--margin",
    type=float,
    metavar="X",
    help="Difference of the objective that does not matter: within it, trials are equivalent.",
)
@click.option(
    "--gpu-hours",
    type=float,
    metavar="H",
    help="Hours of GPUs that the trainings may cost, --test and --as-used apart: seeds that do not "
    "fit are left out, and named.",
)
@click.option(
    "--as-used/--no-as-used",
    default=True,
    show_default=True,
    help="Score the best one's models as a finished model is used, too: mostly many times the work "
    "of a validation, which the cost says.",
)
@click.option("--test", is_flag=True, help="Also read the sealed test set; do it once.")
@click.option("--dry-run", is_flag=True, help="Print what would be trained, and the hours of that.")
@RUNS
@ADDRESS
def confirm(
    study: str,
    top: int | None,
    trials: tuple[int, ...],
    seeds: int,
    epochs: int | None,
    margin: float | None,
    gpu_hours: float | None,
    as_used: bool,
    test: bool,
    dry_run: bool,
    runs: Path,
    address: str | None,
) -> None:
    """Train the best trials again with other seeds, and judge them.

    STUDY is judged by its --top best trials, STUDY:7 is that trial alone. They are trained on other
    folds, and so are the control, the references and, for a single trial, the best other one. None
    of them failed, and no configuration is trained twice.

    Verdicts (better, worse, not distinguishable, or cases too few or too
    alike to tell) are about the study's
    objective, with Dice beside it. They come from intervals of paired differences over folds, seeds
    and cases, corrected by Holm: equals are called different about once in twenty times at most.
    Below them stands the best one's Dice as a finished model is used (`sampling`).

    `confirm: {budget_share: 0.2}` in a study file tells the best apart at the end of its launch.

    The same command again continues; more seeds add to those that there are, best by four, one more
    on each fold. A difference of 0.08 Dice of 20 cases is found with 3, 4, 8 and 12 seeds in 20,
    40, 61 and 70 of 100 studies, if it varies by 0.1 from case to case and 0.04 from seed to seed.
    """
    from search.storage.studies import find_study
    from search.storage.trials.names import split_trial
    from search.workflows.confirming.confirm import confirm as run

    name, number = split_trial(study)
    if number is not None:
        trials = (number, *trials)
    status = run(
        find_study(name, runs),
        top=top or (3 if number is None else 0),
        trials=trials,
        seeds=seeds,
        epochs=epochs,
        margin=margin,
        test=test,
        gpu_hours=gpu_hours,
        as_used=as_used,
        dry_run=dry_run,
        address=address,
    )
    sys.exit(status)


@click.command()
@click.argument("model", metavar="STUDY[:TRIAL]|MODEL")
@TRIAL
@click.option(
    "--methods", metavar="NAME,...", help="Sampling methods to try, of ddim, ddpm and dpmpp_2m."
)
@click.option("--steps", metavar="N,...", help="Sampling steps to try: 1,2,5,10 or ddim50.")
@click.option(
    "--eta", metavar="X,...", help="Shares of fresh noise of ddim to try, from 0 to 1: 0,0.5."
)
@click.option("--ensemble", metavar="N,...", help="Numbers of masks sampled of a case to try: 1,4.")
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of settings to evaluate.  [default: 24, or all]",
)
@click.option("--name", help="Name of the new study.  [default: STUDY-TRIAL-respacing]")
@STORE
@click.option(
    "--choose",
    default="fast",
    show_default=True,
    metavar="fast|best|TRIAL",
    help="Setting to store: the fastest of the Pareto set that is as good as the best, the best, "
    "or that of a trial of the new study.",
)
@click.option(
    "--margin",
    type=click.FloatRange(min=0, max=1),
    default=0.01,
    show_default=True,
    metavar="DICE",
    help="Difference of Dice that does not matter to `--choose fast`.",
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
    """Find how few sampling steps a trained model needs.

    Evaluates ways to sample a trial (STUDY:7, or STUDY for its best), a run folder, a .pt file or
    an exported folder on its validation fold, and stores what is chosen with the model. That is a
    study of its own, spaces/respacing.yaml with these choices: the same command again continues it
    and evaluates nothing twice, --trials raises the number of settings, and other choices need
    another --name. Then `predict`, `export` and the test set use the chosen setting and its
    threshold.
    """
    from search.workflows.respace import RespaceOptions
    from search.workflows.respace import respace as run

    given = {f"--{option}": text for option, text in choices.items() if text is not None}
    options = RespaceOptions(
        given, trials=trials, name=name, store=store, choose=choose, margin=margin
    )
    sys.exit(run(model, options, trial=trial, runs=runs, address=address))


@click.command()
@click.argument("study", metavar="STUDY[:TRIAL]")
@click.argument("trial", type=int, required=False)
@click.option(
    "--epochs",
    type=click.IntRange(min=0),
    metavar="N",
    help="Number of epochs to compare, from the first.  [default: all]",
)
@STORE
@RUNS
def replay(
    study: str, trial: int | None, epochs: int | None, store: str | None, runs: Path
) -> None:
    """Train a trial again, and compare its metrics.

    To the last bit on CPUs, and with `deterministic` on the same model of GPU; elsewhere on GPUs
    within a tolerance that is stated.

    The trial is STUDY:7, STUDY 7, or STUDY for its best. Says what differs: code, store, versions,
    processor, threads. The exit status is 1 unless all is the same.
    """
    from search.workflows.model_ref import find_trial
    from search.workflows.replay import replay as run

    folder, number = find_trial(study, trial, runs)
    sys.exit(0 if run(folder, number, epochs=epochs, store=store) else 1)
