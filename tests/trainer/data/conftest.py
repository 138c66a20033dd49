"""Fixtures shared by the tests of data."""

import pytest

from trainer.data.making import case_workers


@pytest.fixture
def count_cases(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the cases that are really prepared from now on."""
    done: list[str] = []
    real = case_workers.prepare_case

    def counted(case, *rest):
        done.append(case.case_id)
        return real(case, *rest)

    monkeypatch.setattr(case_workers, "prepare_case", counted)
    return done
