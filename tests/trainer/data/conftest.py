"""Fixtures shared by the tests of data."""

import pytest

from trainer.data import prepare as prepare_module


@pytest.fixture
def count_cases(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the cases that are really prepared from now on."""
    done: list[str] = []
    real = prepare_module.prepare_case

    def counted(case, *rest):
        done.append(case.case_id)
        return real(case, *rest)

    monkeypatch.setattr(prepare_module, "prepare_case", counted)
    return done
