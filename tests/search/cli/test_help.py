"""What `--help` says, and how fast."""

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import trainer.__main__ as trainer
from search.cli.main import main

ROOT = Path(__file__).resolve().parents[3]
GROUPS = {
    "Begin": ["check", "prepare", "init", "phantom"],
    "Run": ["launch", "work", "enqueue", "stop", "resume", "retry", "note"],
    "Look": ["list", "status", "logs", "compare", "explain", "ui"],
    "Judge": ["evaluate", "confirm", "respace", "replay"],
    "Take": ["predict", "export", "paper", "archive"],
    "Small": ["train", "overfit", "samples", "sync", "delete"],
}
COMMANDS = [*main.commands, *(f"trainer {name}" for name in trainer.cli.commands)]


def the(name: str) -> click.Command:
    program, _, command = name.rpartition(" ")
    return (trainer.cli if program else main).commands[command]


def test_it_shows_each_command_under_its_heading() -> None:
    said = CliRunner().invoke(main, ["--help"], terminal_width=80).output
    found: dict[str, list[str]] = {}
    heading = ""
    for line in said.splitlines():
        if line.endswith(":") and not line.startswith(" "):
            heading = line[:-1]
        elif heading in GROUPS and (row := re.fullmatch(r"  (\w+) +\S.*", line)):
            found.setdefault(heading, []).append(row[1])
        else:
            heading = heading if line else ""
    assert found == GROUPS
    assert {*main.commands} == {name for names in GROUPS.values() for name in names}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_one_whole_sentence_on_its_line(name: str) -> None:
    command = the(name)
    first = (command.help or "").partition("\n\n")[0]
    assert re.fullmatch(r"[A-Z][a-z]+ [^.]*\.", first) and "\n" not in first, first
    group = trainer.cli if name.startswith("trainer ") else main
    said = CliRunner().invoke(group, ["--help"], terminal_width=80).output.splitlines()
    [line] = [line for line in said if line.startswith(f"  {command.name} ")]
    assert line.split(maxsplit=1)[1] == first and len(line) <= 80


@pytest.mark.parametrize("name", COMMANDS)
def test_options_say_what_they_do(name: str) -> None:
    """From its first letter on, whole: a noun or an imperative, with no end but its own."""
    for option in the(name).params:
        if isinstance(option, click.Option):
            said = re.sub(r"  \[default: .*\]$", "", option.help or "")
            assert re.fullmatch(r"[A-Z][a-zA-Z]+[ :,].*[.]", said), (option.name, said)
            assert not re.match(r"Of |And |Or |Not |To |It ", said), (option.name, said)


def test_the_trainers_commands_are_those_of_segtune() -> None:
    for name, theirs in trainer.cli.commands.items():
        ours = main.commands[name]
        assert ours.help == theirs.help
        assert [p for p in ours.params if p.name != "runs"] == theirs.params


def test_help_imports_nothing_that_takes_long() -> None:
    code = """
import sys
from search.cli.main import main
try:
    main(["--help"])
except SystemExit:
    heavy = {"numpy", "pyarrow", "pydantic", "ray", "rich", "scipy", "torch", "yaml"}
    assert not heavy & {*sys.modules}, heavy & {*sys.modules}
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0 and "Begin:" in result.stdout, result.stderr
