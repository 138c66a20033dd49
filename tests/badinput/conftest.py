"""Says at the end how much bad input there was, and what became of it."""

from typing import Any

from tests.badinput.judge import COUNTS


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print one line for all of it."""
    if COUNTS:
        parts = [
            f"{count.total()} {kind} ({count['refused']} refused, {count['right']} right)"
            for kind, count in sorted(COUNTS.items())
        ]
        terminalreporter.write_line(f"bad input: {', '.join(parts)}")
