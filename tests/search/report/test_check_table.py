"""What `segtune check` found, as people read it."""

import pytest

from search.report.check_table import Row, table

ROWS = [
    Row("torch", "2.13.0, built for CUDA 13.0", "ok"),
    Row("driver", "535.183; CUDA 13.0 needs 580 or newer", "wrong", "a newer driver"),
    Row("GPUs", "none"),
]


def test_a_pipe_gets_aligned_lines_of_one_row_each():
    assert table(ROWS, None).splitlines() == [
        "ok     torch   2.13.0, built for CUDA 13.0",
        "wrong  driver  535.183; CUDA 13.0 needs 580 or newer; a newer driver",
        "note   GPUs    none",
        "",
        "1 wrong",
    ]


@pytest.mark.parametrize("width", [30, 80])
def test_a_terminal_gets_no_line_wider_than_it_is(width):
    lines = table(ROWS, width).splitlines()
    plain = ["".join(part.split("m", 1)[-1] for part in line.split("\x1b[")) for line in lines]
    assert max(map(len, plain)) <= width
    assert "a newer driver" in " ".join(plain) and plain[-1] == "1 wrong"


def test_it_says_when_nothing_is_wrong():
    assert table(ROWS[:1], None).endswith("\nnothing is wrong")
