"""Run: a study from its start to its end, and beyond."""

import sys
from pathlib import Path

import click

from search.cli.options import ADDRESS, RUNS, SUBMIT, elsewhere, runs_given


@click.command()
@click.argument("space")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@RUNS
@click.option(
    "--dry-run", is_flag=True, help="Print what the study would do, and the problems with it."
)
@click.option(
    "--probe",
    is_flag=True,
    help="With --dry-run, also measure for a minute how long it would take; on the cluster with "
    "--address.",
)
@ADDRESS
@SUBMIT
@click.option(
    "--warm-start",
    "earlier",
    metavar="STUDY",
    multiple=True,
    help="Earlier study, from whose trials the sampler of a new one learns; may be repeated.",
)
@click.option(
    "--group",
    metavar="NAME",
    help="Group whose members may also continue, stop and annotate a study that this begins.",
)
@click.option("--if-running", is_flag=True, hidden=True, help="Only ask the driver, if one lives.")
def launch(
    space: str,
    overrides: tuple[str, ...],
    runs: Path,
    dry_run: bool,
    probe: bool,
    address: str | None,
    submit: str | None,
    earlier: tuple[str, ...],
    group: str | None,
    if_running: bool,
) -> None:
    """Run a study, or continue it where it was interrupted.

    SPACE is a study's YAML file, or the name of one that ships, such as `quickstart`; a file of
    that name in the current folder, with or without .yaml, goes first.

    KEY=VALUE changes any of its settings: scheduler.max_t=9, train.model.width=16,
    space.optimizer.lr.low=1e-5; space.optimizer.lr=null takes a dimension out.

    Of a study that runs already, the driver there is asked for what may change: budget,
    trials.num_trials, trials.max_concurrent, and where and how trials run.

    With --submit the study runs as a Ray job, without this machine; data.store and --runs are then
    paths as the cluster sees them.
    """
    from search.storage.archives.opened import refuse
    from search.storage.archives.reader import is_archive
    from search.storage.studies import begun_under, find_study
    from search.study.load import load_study
    from search.study.sampler_limits import warnings
    from search.study.shipped import find_space
    from search.workflows.preview.dry_run import preview, with_its_gpus
    from search.workflows.preview.look_first import look_first
    from trainer.configfile import ConfigError

    if probe and not dry_run:
        raise ConfigError(["--probe: measures for --dry-run only"])
    file = find_space(space)
    if is_archive(file):
        folder = find_study(str(file), runs)
        refuse(folder)
    study = load_study(
        file,
        overrides,
        lambda name: begun_under(runs.expanduser() / name),
        runs_here=not submit,
    )
    if submit:
        if address:
            raise ConfigError(["--submit and --address: give one of them"])
        if not dry_run:
            click.echo("".join(f"{file}: {line}\n" for line in warnings(study)), nl=False)
        from search.workflows.jobs import Cluster

        sys.exit(Cluster(submit).launch(study, runs, earlier, group, dry_run=dry_run, probe=probe))
    folder = runs.expanduser().resolve() / study.study
    if group is not None:
        from search.storage.modes import begin_for_group, check_group

        check_group(group, folder)
    looked = look_first(study, str(file), runs.expanduser() / study.study)
    folders = [find_study(name, runs) for name in earlier]
    notes: list[str] = []
    if dry_run:
        study, notes = with_its_gpus(study, runs.expanduser() / study.study, address)
        click.echo(preview(study))
    for line in [*warnings(study), *notes]:
        click.echo(f"{file}: {line}")
    if looked.problems:
        raise ConfigError(looked.problems)
    click.echo("".join(f"note: {line}\n" for line in looked.notes), nl=False)
    if dry_run:
        from search.storage.continuation import outlook

        click.echo("".join(f"{line}\n" for line in outlook(study, runs, folders)), nl=False)
        if (folder / "ledger.jsonl").is_file():
            from search.monitor.space import note_of

            click.echo(note_of(folder), nl=False)
    else:
        from search.workflows.launch import launch as run

        if group is not None:
            begin_for_group(group, folder)
        weights = looked.weights
        sys.exit(
            run(study, runs, address, warm_start=folders, weights=weights, if_running=if_running)
        )
    if probe:
        from search.monitor.space import free_on
        from search.workflows.preview.cost_probe import probe as measure

        click.echo(f"\n{measure(study, address)}; free there: {free_on(runs.expanduser())}")
    if folders:
        from search.sampler.warm_start import warm_start

        click.echo("\n".join(warm_start(study, folders).lines))


@click.command()
@click.argument("space")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@RUNS
@click.option(
    "--leave-s",
    type=click.FloatRange(min=1),
    default=480.0,
    show_default=True,
    help="Seconds that trials may take to write checkpoints once this job is asked to go.",
)
def work(space: str, overrides: tuple[str, ...], runs: Path, leave_s: float) -> None:
    """Give what this job was granted to a study, as one of several jobs.

    All jobs are called with the same words, which are those of `launch`. The first is the head,
    with Ray and the driver; the others join it, also on the same host; and when the head's job
    ends, another takes over. SIGTERM makes a job leave: its trials write checkpoints and go on
    elsewhere, and its status is 75.

    cluster/worker.sh is such a job for Slurm.
    """
    import segtune_start
    from search.execution.extra import need_search
    from search.storage.studies import begun_under, shared_place
    from search.study.load import load_study
    from search.study.shipped import find_space
    from search.workflows.work import work as serve
    from trainer.configfile import ConfigError

    need_search()
    study = load_study(
        find_space(space), overrides, lambda name: begun_under(runs.expanduser() / name)
    )
    folder = runs.expanduser().resolve() / study.study
    if shared_place(folder):
        raise ConfigError([f"--runs {runs}: jobs meet in a folder that all of them share"])
    launches = ["launch", space, *overrides, "--runs", str(runs.expanduser().resolve())]
    driver = segtune_start.command("search.cli.main", *launches)
    sys.exit(serve(folder, driver, leave_s=leave_s))


@click.command()
@click.argument("study", metavar="STUDY[:TRIAL]")
@RUNS
@SUBMIT
def stop(study: str, runs: Path, submit: str | None) -> None:
    """Let a study, or one trial of it, write checkpoints and end.

    STUDY ends the driver, and `segtune launch` continues it. STUDY:7 ends that trial for good, as
    stopped; the others go on, and `segtune resume` can carry it on.
    """
    from search.storage.trials.names import split_trial

    name, number = split_trial(study)
    if submit:
        elsewhere(submit, name, ["stop"], trial=number)
    from search.storage.archives.opened import check_not_archived
    from search.storage.studies import ask_to_stop, display_path, find_study, writer_of

    folder = find_study(name, runs)
    check_not_archived(folder)
    if number is not None:
        from search.workflows.hand import stop_trial

        click.echo(stop_trial(folder, number))
        return
    driver = writer_of(folder / "ledger.jsonl")
    if driver is None:
        click.echo(f"{display_path(folder)}: is not running")
        return
    ask_to_stop(folder)
    click.echo(f"{display_path(folder)}: asked {driver} to stop; `segtune launch` continues it")


@click.command()
@click.argument("study")
@click.argument("settings", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--like", metavar="TRIAL", help="Take the settings of this trial, OTHER:7 or STUDY:7, first."
)
@click.option(
    "--reference",
    metavar="NAME",
    help="Make it a reference of that name: trained to max_t, beside the ranking, inside the space "
    "or not.",
)
@click.option("--dry-run", is_flag=True, help="Print what would be tried.")
@RUNS
@SUBMIT
def enqueue(
    study: str,
    settings: tuple[str, ...],
    like: str | None,
    reference: str | None,
    dry_run: bool,
    runs: Path,
    submit: str | None,
) -> None:
    """Try a trial of your own next, also in a study that runs.

    KEY=VALUE are settings of its space, as optimizer.lr=1e-4; the sampler fills in what they leave
    open. The study has one trial more then, unless it is a reference. One that nobody runs tries it
    when `segtune launch` continues it.
    """
    if submit:
        words = [*settings, *(["--like", like] if like else [])]
        words += ["--reference", reference] if reference is not None else []
        elsewhere(submit, study, ["enqueue", *words, *["--dry-run"] * dry_run])
    from search.storage.studies import find_study
    from search.workflows.hand import Wanted
    from search.workflows.hand import enqueue as run
    from search.workflows.model_ref import find_trial
    from trainer.configfile import parse_overrides

    given, folder = parse_overrides(settings), find_study(study, runs)
    wanted = Wanted(given, reference, find_trial(like, None, runs) if like else None)
    click.echo(run(folder, wanted, dry_run=dry_run))


@click.command()
@click.argument("study", metavar="STUDY:TRIAL")
@click.argument("text", nargs=-1, required=True)
@RUNS
@SUBMIT
def note(study: str, text: tuple[str, ...], runs: Path, submit: str | None) -> None:
    """Write a note about a trial, which all tables and pages show."""
    from search.storage.trials.names import split_trial

    name, number = split_trial(study)
    if number is None:
        raise ValueError(f"note: needs a trial, as in {name}:7")
    if submit:
        elsewhere(submit, name, ["note", "--", *text], trial=number)
    from search.storage.studies import find_study
    from search.workflows.hand import note as run

    click.echo(run(find_study(name, runs), number, " ".join(text)))


@click.command()
@click.argument("study", metavar="STUDY[:TRIAL]")
@click.option(
    "--top",
    type=click.IntRange(min=1),
    metavar="K",
    help="Number of top-ranked trials to train on.",
)
@click.option(
    "--trial",
    "trials",
    type=int,
    multiple=True,
    metavar="NUMBER",
    help="Number of a trial to train on; may be repeated.",
)
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    required=True,
    metavar="N",
    help="Number of epochs to reach in all.",
)
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
    """Give trials that have ended a longer training.

    Name one trial, STUDY:7, or several with --trial, or the best with --top. They go on from their
    latest checkpoints, and keep their folders and MLflow runs.

    The learning rate goes on as in a run of that many epochs: a cosine or linear schedule is
    stretched, so that the rate rises again first. No other trial is carried on, and the study's
    budget does not end these. The same command again continues what was interrupted.
    """
    from search.storage.studies import find_study
    from search.storage.trials.names import split_trial
    from search.workflows.resume import resume as run

    name, number = split_trial(study)
    if number is not None:
        trials = (number, *trials)
    if (top is None) == (not trials):
        raise ValueError(f"resume: needs either --top K or a trial, as in {name}:7")
    folder = find_study(name, runs)
    sys.exit(run(folder, epochs=epochs, top=top, trials=trials, address=address))


@click.command()
@click.argument("study", metavar="STUDY[:TRIAL]")
@click.argument("trials", type=click.IntRange(min=0), nargs=-1, metavar="[TRIAL]...")
@click.option("--dry-run", is_flag=True, help="Print which trials would be tried again.")
@RUNS
@ADDRESS
@SUBMIT
def retry(
    study: str,
    trials: tuple[int, ...],
    dry_run: bool,
    runs: Path,
    address: str | None,
    submit: str | None,
) -> None:
    """Give failed trials another try, after their cause was mended.

    All that failed, or the trials that are named: STUDY:7, or STUDY 7 9; a trial that ended as
    infeasible because of something that was mended must be named. They go on from their latest
    checkpoints, and then the study goes on, as with `segtune launch`. The same command again
    continues what was interrupted.
    """
    from search.storage.studies import find_study
    from search.storage.trials.names import split_trial
    from trainer.configfile import ConfigError

    name, number = split_trial(study)
    if number is not None:
        trials = (number, *trials)
    if submit:
        if address:
            raise ConfigError(["--submit and --address: give one of them"])
        numbers = [str(trial) for trial in trials]
        if dry_run:
            elsewhere(submit, name, ["retry", *numbers, "--dry-run"])
        from search.workflows.jobs import Cluster

        sys.exit(Cluster(submit).retry(name, numbers, runs_given()))
    folder = find_study(name, runs)
    if dry_run:
        from search.workflows.retry import preview

        click.echo(preview(folder, trials))
        return
    from search.workflows.retry import retry as run

    sys.exit(run(folder, trials, address=address))
