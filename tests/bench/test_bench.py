"""`make bench` prints rows as they come, and one broken benchmark does not lose the others."""

import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from tests.bench import __main__ as bench
from tests.bench.row import Row


def breaks() -> Iterator[Row]:
    yield Row("before", "s", 1.0, 2.0)
    raise ZeroDivisionError("division by zero")


def stays() -> Iterator[Row]:
    yield Row("rate", "1/s", 3.0, 2.0, "more")
    yield Row("nothing measured", "MiB", 0.0, 5.0)


@pytest.fixture
def benches(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, run in (("step", breaks), ("store", stays)):
        module = ModuleType(name)
        module.run = run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, f"tests.bench.bench_{name}", module)


def test_a_broken_benchmark_loses_neither_its_earlier_rows_nor_the_others(benches, capsys):
    assert bench.main(["step", "store"]) == 1
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [
        "before: 1 against 2 s, ratio 2.00",
        "rate: 3 against 2 1/s, ratio 1.50",
        "nothing measured: 0 against 5 MiB, ratio -",
    ]
    assert "step: broken: ZeroDivisionError: division by zero" in shown.err
    assert "Traceback" in shown.err


def test_status_0_where_none_broke(benches):
    assert bench.main(["store"]) == 0


def test_an_unknown_benchmark_is_refused(benches, capsys):
    with pytest.raises(SystemExit):
        bench.main(["stroe"])
    assert "stroe: must be of" in capsys.readouterr().err
