"""For what something waits, said once, and not at once."""

import pytest

from search.ledger.waiting import Wait


def test_each_reason_is_said_once_when_it_has_lasted(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s, said = 0.0, list[tuple[float, str]]()
    monkeypatch.setattr("search.ledger.waiting.time.monotonic", lambda: now_s)
    wait = Wait(lambda why: said.append((now_s, why)), after_s=3)
    for why in ["a"] * 10 + ["b"] * 2 + ["c"] * 5 + [""] * 10 + ["c"] * 5:
        wait.on(why)
        now_s += 1
    assert said == [(3, "a"), (15, "c"), (30, "c")]
