"""`segtune`: all commands, in groups. Their bodies import what they need: `--help` is at once."""

from typing import Any

import click

from search.cli import begin, hand_over, judge, look, run, small, take
from trainer.__main__ import Commands
from trainer.exit_status import BY_SIGNAL, MEANINGS, Exit

GROUPS: dict[str, tuple[click.Command, ...]] = {
    "Begin": (begin.check, begin.prepare, begin.init, begin.phantom),
    "Run": (run.launch, run.work, run.enqueue, run.stop, run.resume, run.retry, run.note),
    "Look": (look.list_, look.status, look.logs, look.compare, look.explain, look.ui),
    "Judge": (judge.evaluate, judge.confirm, judge.respace, judge.replay),
    "Take": (take.predict, take.export, take.paper, hand_over.archive),
    "Small": (small.train, small.overfit, small.samples, small.sync, hand_over.delete),
}


class Groups(Commands):
    """Commands that `--help` shows under the headings of GROUPS."""

    def _invoke(self, ctx: click.Context) -> Any:
        """Run a command; where it needs a package of the extra that is not here, say so."""
        try:
            return super()._invoke(ctx)
        except ModuleNotFoundError as error:
            from search.execution.extra import NAMES, missing_line

            name = (error.name or "").partition(".")[0]
            if name not in NAMES or ctx.params.get("debug"):
                raise
            click.echo(missing_line(name), err=True)
            ctx.exit(Exit.REFUSED)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each group, and one of statuses, all with one first column."""
        longest = max(map(len, self.commands))
        for heading, commands in GROUPS.items():
            with formatter.section(heading):
                formatter.write_dl(
                    [
                        (f"{command.name:{longest}}", command.get_short_help_str(formatter.width))
                        for command in commands
                    ]
                )
        with formatter.section("Exit status"):
            statuses = [(f"{status:<{longest}}", meaning) for status, meaning in MEANINGS.items()]
            formatter.write_dl([*statuses, ("128+", BY_SIGNAL)])


@click.group(
    cls=Groups,
    commands=[command for commands in GROUPS.values() for command in commands],
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="A trial is named STUDY:7. STUDY alone is its best trial where one trial is asked for.",
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="segtune")
def main(debug: bool) -> None:
    """Find the MedSegDiff configuration that works on a data set, on any Ray cluster."""


if __name__ == "__main__":
    main()
