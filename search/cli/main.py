"""The commands. Their bodies import what they need, so that `--help` answers at once."""

import sys
from pathlib import Path

import click

from search.cli.look import look
from search.cli.options import (
    ADDRESS,
    RUNS,
    SUBMIT,
    Commands,
    elsewhere,
)
from search.storage.studies import begun_under, find_study


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="segtune")
def main(debug: bool) -> None:
    """Find the MedSegDiff configuration that works on a data set, on any Ray cluster."""


@main.command()
@click.argument("dataset", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--format", "format_", metavar="NAME", help="Layout of DATASET; detected if not given."
)
@click.option("--image-size", default=64, show_default=True, help="Rows and columns of a slice.")
@click.option(
    "--skip-bad", is_flag=True, help="Leave unusable cases out, and list them at the end."
)
@click.option("--workers", type=int, help="Processes; as many as CPUs if not given.")
@click.option("--seed", default=0, show_default=True, help="Of the splits.")
def prepare(
    dataset: Path,
    out: Path,
    format_: str | None,
    image_size: int,
    skip_bad: bool,
    workers: int | None,
    seed: int,
) -> None:
    """Turn the data set in DATASET into the store OUT, which trials map."""
    from trainer.data.prepare import prepare as run

    run(
        dataset,
        out,
        format=format_,
        image_size=image_size,
        skip_bad=skip_bad,
        workers=workers,
        seed=seed,
    )


@main.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--num-cases", default=32, show_default=True, help="Simulated patients.")
@click.option("--seed", default=0, show_default=True, help="Of the simulation.")
def phantom(out: Path, num_cases: int, seed: int) -> None:
    """Write a simulated cohort to OUT, as NIfTI files in ISLES24's tree."""
    from trainer.data.phantom import write_phantom

    write_phantom(out, num_cases=num_cases, seed=seed)


@main.command()
@click.argument("space", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@RUNS
@click.option("--dry-run", is_flag=True, help="Print what would be done, and the problems with it.")
@click.option(
    "--probe", is_flag=True, help="With --dry-run: measure a minute, there with --address."
)
@ADDRESS
@SUBMIT
@click.option(
    "--warm-start",
    "earlier",
    metavar="STUDY",
    multiple=True,
    help="An earlier study from whose trials a new one's sampler learns; may be repeated.",
)
def launch(
    space: Path,
    overrides: tuple[str, ...],
    runs: Path,
    dry_run: bool,
    probe: bool,
    address: str | None,
    submit: str | None,
    earlier: tuple[str, ...],
) -> None:
    """Run the study that SPACE describes, or continue it where it was interrupted.

    With --submit it runs on a cluster without this machine; data.store and --runs are then paths
    as the cluster sees them.

    KEY=VALUE changes any of its settings: scheduler.max_t=9, train.model.width=16,
    space.optimizer.lr.low=1e-5; space.optimizer.lr=null takes a dimension out.
    """
    from search.study.load import load_study
    from search.study.sampler_limits import warnings
    from search.workflows.dry_run import preview, store_problems
    from trainer.configfile import ConfigError

    if probe and not dry_run:
        raise ConfigError(["--probe: measures for --dry-run only"])
    study = load_study(space, overrides, lambda name: begun_under(runs.expanduser() / name))
    if submit:
        if address:
            raise ConfigError(["--submit and --address: give one of them"])
        if not dry_run:
            click.echo("".join(f"{space}: {line}\n" for line in warnings(study)), nl=False)
        from search.workflows.jobs import Cluster

        sys.exit(Cluster(submit).launch(study, runs, earlier, dry_run=dry_run, probe=probe))
    problems = [f"{space}: {problem}" for problem in store_problems(study)]
    folders = [find_study(name, runs) for name in earlier]
    if dry_run:
        click.echo(preview(study))
    for line in warnings(study):
        click.echo(f"{space}: {line}")
    if problems:
        raise ConfigError(problems)
    if not dry_run:
        from search.workflows.launch import launch as run

        sys.exit(run(study, runs, address, warm_start=folders))
    if probe:
        from search.workflows.cost_probe import probe as measure

        click.echo(f"\n{measure(study, address)}")
    if folders:
        from search.sampler.warm_start import warm_start

        click.echo("\n".join(warm_start(study, folders).lines))


@main.command()
@click.argument("study")
@click.option("--top", type=click.IntRange(min=1), help="The best so many, by the leaderboard.")
@click.option("--trial", "trials", type=int, multiple=True, help="Or this one; can be repeated.")
@click.option("--epochs", type=click.IntRange(min=1), required=True, help="To reach in all.")
@RUNS
@ADDRESS
def resume(
    study: str,
    top: int | None,
    trials: tuple[int, ...],
    epochs: int,
    runs: Path,
    address: str | None,
) -> None:
    """Train the best trials of STUDY on, from their latest checkpoints to more epochs.

    The learning rate goes on as in a run of that many epochs: a cosine or linear schedule is
    stretched, so that the rate rises again first. Trials keep their folders and MLflow runs. No
    other trial is carried on, and the study's budget does not end these. The same command again
    continues what was interrupted.
    """
    from trainer.configfile import ConfigError

    if (top is None) == (not trials):
        raise ConfigError(["resume: needs either --top K or --trial ID"])
    from search.workflows.resume import resume as run

    folder = find_study(study, runs)
    sys.exit(run(folder, epochs=epochs, top=top, trials=trials, address=address))


@main.command()
@click.argument("study")
@click.option("--top", type=click.IntRange(min=1), default=3, show_default=True, help="The best.")
@click.option("--trial", "trials", type=int, multiple=True, help="And this one; can be repeated.")
@click.option("--seeds", default=3, show_default=True, help="Other seeds, at least 3.")
@click.option(
    "--epochs", type=click.IntRange(min=1), help="Of each; as the longest of them if not given."
)
@click.option(
    "--margin",
    type=float,
    help="Call differences of Dice within it equivalent.",
)
@click.option("--test", is_flag=True, help="Read the sealed test set with them too. Do it once.")
@click.option("--dry-run", is_flag=True, help="Print what would be trained.")
@RUNS
@ADDRESS
def confirm(
    study: str,
    top: int,
    trials: tuple[int, ...],
    seeds: int,
    epochs: int | None,
    margin: float | None,
    test: bool,
    dry_run: bool,
    runs: Path,
    address: str | None,
) -> None:
    """Train the best trials of STUDY again, with other seeds on other folds, and judge them.

    So are the control, the references and, for a single trial, the runner-up. Verdicts (better,
    worse, not distinguishable) come from intervals of paired differences: a hierarchical bootstrap
    over seeds and cases, corrected by Holm. Equals are called different about once in twenty times
    at most; 3 seeds of 20 cases find a difference of 0.1 Dice in one half to nine tenths of them.
    The same command again continues; more seeds add to those that there are.
    """
    from search.workflows.confirm import confirm as run

    status = run(
        find_study(study, runs),
        top=top,
        trials=trials,
        seeds=seeds,
        epochs=epochs,
        margin=margin,
        test=test,
        dry_run=dry_run,
        address=address,
    )
    sys.exit(status)


@main.command()
@click.argument("study")
@click.argument("trial", type=int)
@click.option("--epochs", type=click.IntRange(min=0), help="Only the first so many.")
@RUNS
def replay(study: str, trial: int, epochs: int | None, runs: Path) -> None:
    """Train TRIAL of STUDY again, and compare its metrics to the last bit.

    Says what differs: code, store, versions, processor, threads. Exit status 1 unless identical.
    """
    from search.workflows.replay import replay as run

    sys.exit(0 if run(find_study(study, runs), trial, epochs=epochs) else 1)


@main.command()
@click.argument("study")
@RUNS
@SUBMIT
def stop(study: str, runs: Path, submit: str | None) -> None:
    """Let STUDY's trials write their checkpoints and its driver end."""
    if submit:
        elsewhere(submit, study, ["stop"])
    from search.storage.studies import ask_to_stop, display_path, writer_of

    folder = find_study(study, runs)
    driver = writer_of(folder / "ledger.jsonl")
    if driver is None:
        click.echo(f"{display_path(folder)}: is not running")
        return
    ask_to_stop(folder)
    click.echo(f"{display_path(folder)}: asked {driver} to stop; `segtune launch` continues it")


@main.command()
@click.argument("study")
@click.option("--submit", metavar="URL", required=True, help="The cluster's dashboard.")
@click.option("--follow", is_flag=True, help="Go on until the driver ends.")
def logs(study: str, submit: str, follow: bool) -> None:
    """Show what the driver of a submitted STUDY prints."""
    from search.workflows.jobs import Cluster

    Cluster(submit).logs(study, follow)


for command in look.commands.values():
    main.add_command(command)


if __name__ == "__main__":
    main()
