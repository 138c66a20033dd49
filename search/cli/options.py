"""What the commands share: options, how a trial is named, and a study on another machine."""

import sys
from pathlib import Path
from typing import Any, NoReturn

import click
from click.core import ParameterSource


class Runs(click.Path):
    """A folder, or a place in S3, for which a folder on this machine stands."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the folder."""
        if isinstance(value, str) and ":" in value:  # an address, perhaps
            from search.storage.studies import runs_folder

            value = runs_folder(value)
        return super().convert(value, param, ctx)


RUNS = click.option(
    "--runs",
    type=Runs(path_type=Path, file_okay=False),
    default=Path("runs"),
    envvar="SEGTUNE_RUNS",
    show_default=True,
    show_envvar=True,
    help="Folder of all studies, which all nodes share; or s3://BUCKET/PREFIX.",
)
ADDRESS = click.option(
    "--address",
    metavar="HOST:PORT",
    help="Address of a running Ray cluster.  [default: start Ray on this machine]",
)
SUBMIT = click.option(
    "--submit", metavar="URL", help="Run the command on the Ray cluster with this dashboard."
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print strict JSON.")
STORE = click.option(
    "--store",
    metavar="PATH",
    help="Prepared data, if they are no longer where the trial was trained on them.",
)
TRIAL = click.option(
    "--trial", type=int, metavar="NUMBER", help="Number of the trial: another way to say STUDY:7."
)


def at_trials(command: click.Command, out: str = "") -> click.Command:
    """Return a command of the trainer that also takes a trial of a study as its MODEL.

    Args:
        command: With an argument `model`.
        out: Where the trial lies in S3 or an archive, so that its run folder here is a copy that
            goes: the folder for what is written, below the current one; {model} and options are
            filled in.
    """

    @click.command(command.name, help=command.help, params=[*command.params])
    @RUNS
    @click.pass_context
    def run(context: click.Context, /, model: str, runs: Path, **options: Any) -> None:
        if not _is_path(model, runs):
            from search.storage.archives.opened import is_archived
            from search.storage.studies import NoSuchStudy
            from search.workflows.model_ref import find_model, on_this_machine

            try:
                found = find_model(model, None, runs)
            except NoSuchStudy as error:
                if options.get("masks_of") is None:
                    raise
                rule = f"no such folder of masks; as a study, {error}"
                raise ValueError(f"{model}: {rule}") from error
            here = context.with_resource(on_this_machine(found, ("config.yaml", "threshold.json")))
            if here.path != found.path:
                if options.get("split") == "test":
                    again = f"segtune export {model} OUT, then segtune evaluate OUT --split test"
                    place = "an archive" if is_archived(found.path.parents[1]) else "S3"
                    raise ValueError(
                        f"{model}: lies in {place}, where no reading of the test set can be "
                        f"recorded: {again}"
                    )
                if out and not options["out"]:
                    options["out"] = out.format(model=found.name, **options)
            model = str(here.path)
        assert command.callback
        context.invoke(command.callback, model=model, **options)

    return run


def _is_path(words: str, runs: Path) -> bool:
    """Return whether words are a path, but not that of a study; without the search's packages."""
    study = any((folder / "ledger.jsonl").is_file() for folder in (runs / words, Path(words)))
    if study or not Path(words).is_file():
        return not study and Path(words).exists()
    from search.storage.archives.reader import is_archive

    return not is_archive(Path(words))


def elsewhere(url: str, study: str, words: list[str], *, trial: int | None = None) -> NoReturn:
    """Run a command about a study on a cluster, show what it prints, and exit as it does.

    Without --runs the study is where it was submitted to.

    Args:
        url: The cluster's.
        study: Its name.
        words: The command and its options.
        trial: Which of its trials the command is about, if it is about one.
    """
    from search.workflows.jobs import Cluster

    sys.exit(Cluster(url).command(words, study, runs_given(), trial=trial))


def runs_given() -> Path | None:
    """Return --runs as the present command was given it; None if it was not."""
    context = click.get_current_context()
    given = context.get_parameter_source("runs") is ParameterSource.COMMANDLINE
    runs: Path | None = context.params["runs"] if given else None
    return runs
