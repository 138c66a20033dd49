"""What others wrote: text that only prints, cells without formulas, exports that lead nowhere."""

import io
import os
import sys
from pathlib import Path

import pytest

from trainer.configfile import ConfigError
from trainer.data.inputs import InputSpec
from trainer.files.csv_cells import csv_cell
from trainer.files.regular_files import open_regular
from trainer.saved import model_package
from trainer.terminal import GuardedStream, guarded_streams, one_line, printable, unguarded


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a\x1b[31mb\x1b[0m", "ab"),
        ("a\x1b]8;;http://x\x1b\\b\x1b]8;;\x07c", "abc"),
        ("a\x1b]52;c;never ended", "a52;c;never ended"),
        ("a\x1b]0;title\nb", "a0;title\nb"),
        ("a\x9b2Jb\x9d0;t\x9cc", "abc"),
        ("a\rb\x08\x07c\td\n", "abc\td\n"),
        ("a\u202eb\u2066c\u200fd\x7fe", "abcde"),
        ("\x1bPq\x1b\\a\x1b", "a"),
        ("größer → 3 µL", "größer → 3 µL"),
    ],
)
def test_printable_text_does_nothing_but_print(text: str, left: str) -> None:
    assert printable(text) == left
    assert printable(left) == left


def test_one_line_is_one_line() -> None:
    assert one_line("a\n\x1b[2Jb\r\nc\u2028d") == "a b c d"
    assert len(one_line("x" * 9999)) == 500


def test_streams_are_guarded_and_a_terminal_keeps_colours(capsys: pytest.CaptureFixture) -> None:
    with guarded_streams():
        print("a\x1b[2Jb", "\x1b[31mc")
        print("\x07d", file=sys.stderr)
        assert unguarded(sys.stdout) is not sys.stdout
    assert tuple(capsys.readouterr()) == ("ab c\n", "d\n")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = GuardedStream(screen := Terminal())
    print("\x1b[1;31mred\x1b[0m \x1b[8mhidden \x1b[2Jgone", file=stream)
    assert screen.getvalue() == "\x1b[1;31mred\x1b[0m hidden gone\n"


def test_a_cell_is_no_formula_and_a_number_is_a_number() -> None:
    for text in ("=1+1", "+cmd", "-cmd|'x'", "@SUM(1)", "\t=1", "\r=1", " =1"):
        assert csv_cell(text).startswith("'"), text
    for value in ("-0.3", "+1e-4", "-inf", "a=b", "", -0.3, None, 7):
        assert csv_cell(value) == value


@pytest.fixture
def export(tmp_path: Path) -> Path:
    folder = tmp_path / "export"
    (folder / "samples").mkdir(parents=True)
    inputs = InputSpec(("tmax",), ((0.0, 7.0),), 0, 32)
    model_package.write_weights(folder, {}, inputs, 1, None, "")
    (folder / "config.yaml").write_text("a: 1\n")
    (folder / "samples" / "epoch1-a\nb \\n\r.png").write_bytes(b"x")
    model_package.write_checksums(folder)
    return folder


def test_a_name_with_a_line_end_does_not_make_an_export_that_refuses_itself(export: Path) -> None:
    assert model_package.read(export)["config"] == {"a": 1}


def _link(export: Path, target: str) -> str:
    (export / "link").symlink_to(target)
    return "link"


def _fifo(export: Path) -> str:
    os.mkfifo(export / "pipe")
    return "pipe"


def _linked_folder(export: Path) -> str:
    (export / "away").symlink_to("/etc")
    return "away/passwd"


@pytest.mark.parametrize(
    "stranger",
    [
        lambda export: "/dev/zero",
        lambda export: "/etc/passwd",
        lambda export: "../secret",
        lambda export: "samples/../../secret",
        lambda export: _link(export, "/dev/zero"),
        lambda export: _link(export, "config.yaml"),
        _linked_folder,
        _fifo,
    ],
)
def test_checksums_name_nothing_but_files_of_the_export(export: Path, stranger) -> None:
    (export.parent / "secret").write_text("s")
    with (export / "checksums.txt").open("a") as file:
        file.write(f"{'0' * 64}  {stranger(export)}\n")
    with pytest.raises(ConfigError) as refused:
        model_package.read(export)
    [line] = refused.value.lines
    assert "outside of the export" in line or "is no regular file" in line


def test_checksums_that_are_a_pipe_are_not_waited_for(export: Path) -> None:
    (export / "checksums.txt").unlink()
    os.mkfifo(export / "checksums.txt")
    with pytest.raises(ConfigError, match="not a whole export"):
        model_package.read(export)


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="is no regular file"):
        open_regular(tmp_path / "pipe")
