"""What the commands share: their options, how they answer bad input, and how a study is found."""

import sys
from pathlib import Path
from typing import Any, NoReturn

import click
from click.core import ParameterSource


class Runs(click.Path):
    """A folder, or a place in S3, for which a folder on this machine stands."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the folder."""
        from search.storage.studies import runs_folder

        folder = runs_folder(value) if isinstance(value, str) else value
        return super().convert(folder, param, ctx)


RUNS = click.option(
    "--runs",
    type=Runs(path_type=Path, file_okay=False),
    default=Path("runs"),
    envvar="SEGTUNE_RUNS",
    show_default=True,
    show_envvar=True,
    help="Folder of all studies, which all nodes share; or s3://BUCKET/PREFIX.",
)
ADDRESS = click.option("--address", help="A running Ray cluster; one is started here if not given.")
SUBMIT = click.option("--submit", metavar="URL", help="Do it on the cluster with this dashboard.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print strict JSON.")


class Commands(click.Group):
    """A group whose commands answer bad input with lines on stderr and exit status 2."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; `--debug` lets its exceptions through."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise
        except (ValueError, OSError) as error:
            if ctx.params["debug"]:
                raise
            click.echo(_line(error), err=True)
            ctx.exit(2)


def _line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


def elsewhere(url: str, study: str, words: list[str]) -> NoReturn:
    """Run a command about a study on a cluster, show what it prints, and exit as it does.

    Without --runs the study is where it was submitted to.
    """
    from search.workflows.jobs import Cluster

    context = click.get_current_context()
    given = context.get_parameter_source("runs") is ParameterSource.COMMANDLINE
    runs = context.params["runs"] if given else None
    sys.exit(Cluster(url).command(words, study, runs))
