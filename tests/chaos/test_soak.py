"""A week in an afternoon (tests/chaos/soak.py); SEGTUNE_SOAK_MIN=10 makes it ten minutes."""

import os
from pathlib import Path

import pytest

from tests.chaos.hosts import obstacle
from tests.chaos.soak import report, slope, soak

MINUTES = float(os.environ.get("SEGTUNE_SOAK_MIN", "120"))
KIB_A_REPORT = 12
"""Of a driver's memory: it keeps what its ledger has."""


@pytest.mark.nightly
@pytest.mark.skipif(bool(reason := obstacle()), reason=reason)
@pytest.mark.timeout(int(60 * MINUTES) + 1800)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_three_studies_use_what_comes_and_goes(phantom_store: Path) -> None:
    found = soak(MINUTES, phantom_store)
    print(report(found))
    assert found.share >= 0.8 and found.ledger_bytes < 1500
    if MINUTES < 60:  # what grows in minutes is still filling
        return
    for name, memory in found.memory.items():
        driver = name.removeprefix("driver-")
        reports = found.reports.get(driver, 0) / (MINUTES / 60)
        allowed = reports * KIB_A_REPORT / 1024 if driver in found.reports else 0.0
        assert memory.per_hour - 2 * memory.error < allowed + 5, f"{name}: {memory}"


def test_a_slope_has_its_error() -> None:
    rising = [(3600.0 * hour, 100 + 7.0 * hour + 0.5 * (-1) ** hour) for hour in range(20)]
    found = slope(rising)
    assert abs(found.per_hour - 7) < 3 * found.error < 0.2
