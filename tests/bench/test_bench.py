"""`make bench` prints rows as they come, and one broken benchmark does not lose the others."""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
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


def test_what_a_gpu_makes_of_the_trainer_is_refused_without_one(capsys):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("a CUDA device is here")
    with pytest.raises(SystemExit):
        bench.main(["gpu"])
    assert "--dry tries the lines on the CPU" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        bench.main(["gpu", "--dry", "--only", "stp"])
    assert "stp: must be of about, step" in capsys.readouterr().err


@pytest.mark.slow
def test_rows_of_a_gpu_are_tried_on_the_cpu_and_kept(tmp_path: Path, capfd):
    path = tmp_path / "rows.jsonl"
    assert bench.main(["gpu", "--dry", "--only", "about,data,epoch", "--out", str(path)]) == 0
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert {row["group"] for row in rows} == {"about", "data", "epoch"}
    assert all(f"{row['what']}: {row['found']}" in capfd.readouterr().out for row in rows[:1])


@pytest.mark.slow
def test_a_group_of_a_gpu_that_hangs_costs_its_own_rows_only(tmp_path: Path, capfd):
    from tests.bench.bench_gpu import start_group

    asked = argparse.Namespace(dry=True, out=None)
    assert start_group("step", str(tmp_path), asked, 0.5) == 1
    assert "step: ended at its limit of 0 s" in capfd.readouterr().out
