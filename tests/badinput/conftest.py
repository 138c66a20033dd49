"""Hands on how much bad input there was, and what became of it; tests/conftest.py prints it."""

import pytest

from tests.badinput.judge import COUNTS
from tests.conftest import BAD_INPUT


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Give it to the process that prints, where that is another one."""
    worker = getattr(session.config, "workeroutput", None)  # of pytest-xdist
    if worker is None:
        BAD_INPUT.append(COUNTS)
    else:
        worker["bad_input"] = {kind: dict(count) for kind, count in COUNTS.items()}
