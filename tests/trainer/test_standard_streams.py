"""Standard streams that the caller closed or that take nothing: a line and the command's status."""

import subprocess
import sys

import pytest

COMMAND = (
    "import click, os, sys; from trainer.__main__ import Commands\n"
    "@click.group(cls=Commands)\n"
    "def cli(): pass\n"
    "@cli.command()\n"
    "@click.argument('path')\n"
    "def write(path):\n"
    "    with open(path, 'w') as file:\n"
    "        click.echo('größer')\n"
    "        os.write(1, b'a library prints')\n"
    "        subprocess = __import__('subprocess'); subprocess.run(['echo', 'a child prints'])\n"
    "        file.write('content')\n"
    "@cli.command()\n"
    "def refuse(): raise ValueError('where: rule')\n"
    "cli()"
)


def run(words: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run the command by a shell that redirects its streams."""
    line = f'exec "$0" -c "$1" {words}'
    return subprocess.run(
        ["bash", "-c", line, sys.executable, COMMAND, *args], capture_output=True, text=True
    )


@pytest.mark.parametrize("closed", [">&-", "<&- >&-", "<&- >&- 2>&-"])
def test_a_file_does_not_get_what_is_printed_to_a_closed_stream(closed, tmp_path) -> None:
    done = run(f'write "$2" {closed}', str(tmp_path / "file"))
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "file").read_text() == "content"


@pytest.mark.parametrize("stderr", ["", "2>&-", "2>/dev/full"])
def test_the_status_is_the_commands_whatever_stderr_is(stderr: str) -> None:
    done = run(f"refuse {stderr}")
    assert (done.returncode, done.stderr) == (2, "" if stderr else "where: rule\n")


def test_a_full_disk_behind_stdout_is_named(tmp_path) -> None:
    done = run('write "$2" > /dev/full', str(tmp_path / "file"))
    assert done.returncode == 75
    assert done.stderr.splitlines()[0] == "<stdout>: No space left on device"
