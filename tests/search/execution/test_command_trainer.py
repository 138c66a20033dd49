"""A program as a trainer, without Ray: what it is told, what it says, and how it ends."""

import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from search.execution import command_trainer
from search.execution.own_validations import Record, as_validation, own_fit
from search.study.own_trainer import override_words
from tests.search.execution.own_program import told

__all__ = ["told"]


def test_what_a_program_is_told_and_says(
    told: Callable[..., dict[str, Any]], capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["{config}", "{epochs}", "{seed}", "{trial}", "{cpus}", "{overrides}"]
    spec = told(
        """
config = Path(sys.argv[1]).read_text()
Path(sys.argv[1]).with_name("argv").write_text(json.dumps(sys.argv[2:]))
print("loss 0.3")
for part in (b"\\xc3", b"\\xa9t\\xc3\\xa9\\n"):
    sys.stdout.buffer.write(part)
    sys.stdout.flush()
    time.sleep(0.3)
print("epoch 1", file=sys.stderr)
for epoch in (1, 2, 2, 3):
    print(f"{epoch} of 3\\r", end="")  # a progress bar
    say(epoch, epoch / 10, cases={"b": 0.1 * epoch, "a": 0.5}, **{"train/loss": 1, "note": "x"})
""",
        *words,
    )
    found = list(own_fit(spec)())
    run_dir = Path(spec["run_dir"])
    assert [(v.epoch, v.metrics["val/dice"]) for v in found] == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert found[0].metrics == {"val/dice": 0.1, "train/loss": 1.0}
    assert yaml.safe_load((run_dir / "config.yaml").read_text()) == spec["train"]
    said = json.loads((run_dir / "argv").read_text())
    assert said == ["3", "7", "4", "2", "optimizer.lr=0.001", "optimizer.name='adam w'"]
    cases = pq.read_table(run_dir / "cases.parquet").to_pylist()
    assert [(row["epoch"], row["case_id"], row["dice"]) for row in cases][2:4] == [
        (2, "b", 0.2),
        (2, "a", 0.5),
    ]
    out, err = capfd.readouterr()
    assert "loss 0.3\nété\n" in out and '"epoch": 3' in out and "epoch 1\n" in err
    assert (run_dir / "alive").exists()


def test_the_words_of_hydra_keep_each_value_s_type() -> None:
    settings = {
        "a": {"b": 1e-5, "on": True, "none": None, "list": [1, "x"]},
        "text": "1e3",
        "quote": "it's \\",
        "path": "/data/x.nii",
        "empty": "",
    }
    assert override_words(settings) == [
        "a.b=1e-05",
        "a.on=true",
        "a.none=null",
        "a.list=[1,x]",
        "text='1e3'",
        "quote='it\\'s \\\\'",
        "path=/data/x.nii",
        "empty=''",
    ]


def test_a_program_continues_and_epochs_that_are_known_are_passed_over(
    told: Callable[..., dict[str, Any]],
) -> None:
    text = """
for epoch in range(1, 4):
    say(epoch, epoch / 10)
    Path(sys.argv[1], "begun").open("a").write(f"{epoch} ")
    if epoch == 2 and not Path(sys.argv[1], "again").exists():
        Path(sys.argv[1], "again").touch()
        sys.exit("no such luck")
"""
    spec = told(text, "{run_dir}")
    first = own_fit(spec)()
    assert [next(first).epoch, next(first).epoch] == [1, 2]
    with pytest.raises(RuntimeError, match=r"^python train.py ended with status 1: no such luck$"):
        next(first)
    # Epoch 2 was not heard of: it comes from the run folder, and not again from the program.
    assert [v.epoch for v in own_fit({**spec, "received": 1})()] == [2, 3]
    run_dir = Path(spec["run_dir"])
    before = (run_dir / "begun").read_text()
    assert [v.epoch for v in own_fit({**spec, "received": 2})()] == [3]
    assert (run_dir / "begun").read_text() == before  # all was there: nothing is run
    assert Record(run_dir, "val/dice").last == 3


@pytest.mark.slow  # 3 s: seven programs
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("print('hello')", r'without a validation: a validation is \{"epoch": 1, "val/dice": …\}'),
        ('print(json.dumps({"epoch": 1, "val/dcie": 1}))', "no val/dice; did you mean val/dcie"),
        ('say("one", 0.1)', "epoch is 'one', but must be a whole number"),
        ("say(1, 0.1)", "ended at epoch 1 of 3"),
        ("[say(e, 0.1) for e in range(3)]", "at epoch 2 of 3: its first was epoch 0, but epochs"),
        ("say(1, 0.1); os.kill(os.getpid(), 9)", "train.py was ended by SIGKILL$"),
        ("say(1, 0.1); say(1, 0.1)", "ended at epoch 1 of 3$"),
        ('print(json.dumps({"epoch": 1, "val/dice": True}))', "val/dice: True: must be a number"),
        ("print('\\x1b[31mbad\\x1b[0m', file=sys.stderr); sys.exit(3)", "status 3: bad$"),
    ],
)
def test_a_program_that_ends_too_early_says_why(
    told: Callable[..., dict[str, Any]], text: str, reason: str
) -> None:
    with pytest.raises(RuntimeError, match=reason):
        list(own_fit(told(text))())


def test_a_program_that_fails_says_why(told: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(RuntimeError, match=r"^python train.py ended with status 1: KeyError: 'x'$"):
        list(own_fit(told("raise KeyError('x')"))())


def test_what_is_not_finite_is_a_validation_that_diverged(
    told: Callable[..., dict[str, Any]],
) -> None:
    validations = own_fit(told("say(1, float('nan')); time.sleep(60)"))()
    assert math.isnan(next(validations).metrics["val/dice"])
    validations.close()
    null, _ = as_validation({"epoch": 2.0, "val/dice": None}, "val/dice")
    assert null and null.epoch == 2 and math.isnan(null.metrics["val/dice"])


def test_numbers_of_numpy_and_torch_are_numbers_and_cases_without_one_are_left_out() -> None:
    cases = {"a": np.float32(0.5), "b": torch.tensor(0.25), "c": None, "d": math.nan, "e": "0.1"}
    told = {"epoch": np.int64(3), "val/dice": torch.tensor(0.5), "n": np.float16(2), "cases": cases}
    found, why = as_validation(told, "val/dice")
    assert why == "epoch 3: cases: e: '0.1': left out: must be a number, or null for none"
    assert found and (found.epoch, found.metrics) == (3, {"val/dice": 0.5, "n": 2.0})
    assert found.cases == {"a": 0.5, "b": 0.25}
    assert "must be a number" in as_validation({"epoch": 1, "val/dice": [0.5]}, "val/dice")[1]
    found, _ = as_validation({"epoch": 1, "val/dice": 0.5, "n": 10**400}, "val/dice")
    assert found and found.metrics == {"val/dice": 0.5}


@pytest.mark.parametrize(("value", "case"), [(90, 0.9), (0.9, 90), (-0.1, 0.1)])
def test_a_metric_out_of_its_range_is_refused(value: float, case: float) -> None:
    with pytest.raises(ValueError, match=r"but val/dice lies in \[0, 1\]: give what has another"):
        as_validation({"epoch": 1, "val/dice": value, "cases": {"a": case}}, "val/dice")
    found, _ = as_validation({"epoch": 1, "score": value, "cases": {"a": case}}, "score")
    assert found and found.cases == {"a": case}


def test_a_progress_bar_does_not_fill_the_disk(
    told: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_trainer, "LINE_BYTES", 1000)
    text = """
for step in range(40):
    print(f"\\r{step} of 40" + " " * 90, end="", flush=True)
    time.sleep(0.01)
size = os.path.getsize(sys.argv[1] + "/.program.read")
print()
[say(epoch, epoch / 10, size=size) for epoch in (1, 2, 3)]
"""
    found = [*own_fit(told(text, "{run_dir}"))()]
    assert [v.epoch for v in found] == [1, 2, 3]
    assert 0 < found[0].metrics["size"] < 2000


def test_a_line_that_is_said_before_the_newline_of_another_is_not_lost(
    told: Callable[..., dict[str, Any]],
) -> None:
    text = """
begun = '{"epoch": 1, "val/dice": 0.1}'
sys.stdout.write(begun)  # as unbuffered Python writes a line: its newline comes after
time.sleep(0.2)
say(2, 0.2)
print()
print(begun.replace("1", "3") + "and more")
print('{"epoch": 2, "val/dice": 0.2} {"epoch": 3, "val/dice": 0.3}')
"""
    assert [v.epoch for v in own_fit(told(text))()] == [1, 2, 3]


def test_an_epoch_beyond_the_last_is_none(told: Callable[..., dict[str, Any]]) -> None:
    validations = own_fit(told("for epoch in (1, 2, 7): say(epoch, 0.1)"))()
    assert [next(validations).epoch, next(validations).epoch] == [1, 2]
    with pytest.raises(RuntimeError, match=r"at epoch 2 of 3: epoch 7 is beyond the last, 3$"):
        next(validations)


def test_the_stop_file_ends_a_program_with_sigterm(told: Callable[..., dict[str, Any]]) -> None:
    text = """
def end(*_):
    say(2, 0.2)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
say(1, 0.1)
time.sleep(60)
"""
    spec = told(text)
    validations = own_fit(spec)()
    assert next(validations).epoch == 1
    (Path(spec["run_dir"]) / "stop").touch()
    begun_s = time.monotonic()
    assert [v.epoch for v in validations] == [2]  # what it says on its way out counts
    assert time.monotonic() - begun_s < 10


def test_a_program_may_finish_after_its_last_epoch(told: Callable[..., dict[str, Any]]) -> None:
    text = """
signal.signal(signal.SIGTERM, lambda *_: os._exit(9))
[say(epoch, 0.1) for epoch in (1, 2, 3)]
time.sleep(0.3)
Path(sys.argv[1], "model").touch()
"""
    spec = told(text, "{run_dir}")
    validations = own_fit(spec)()
    assert [next(validations).epoch for _ in range(3)] == [1, 2, 3]
    validations.close()
    assert (Path(spec["run_dir"]) / "model").exists()


def test_a_process_without_gpus_shows_its_program_none(
    told: Callable[..., dict[str, Any]],
) -> None:
    from search.execution.worker import load

    text = 'say(3, float(os.environ["CUDA_VISIBLE_DEVICES"] == ""))'
    [validation] = load(told(text))()
    assert validation.metrics["val/dice"] == 1
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
