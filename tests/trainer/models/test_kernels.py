"""The Triton kernels without a GPU: their numbers against float64, and what they compile to."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is for Linux"
)


def printed(module: str) -> Any:
    command = [sys.executable, "-m", f"tests.trainer.models.{module}"]
    root = Path(__file__).parents[3]
    run = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=1120)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.slow  # 9 s
def test_kernels_agree_with_float64():
    found = printed("interpreted")
    assert len(found["norm"]) == 6
    for errors in found["norm"]:
        # y and x's gradient are rounded to their own precision, sums are float32.
        own = 5e-3 if errors.pop("bf16") else 2e-6
        assert errors.pop("layout") == 0
        assert errors.pop("y") < own
        assert errors.pop("x") < own
        assert max(errors.values()) < 3e-6, errors
    assert [max(errors.values()) < 1e-6 for errors in found["conv"]] == [True] * 3, found["conv"]


@pytest.mark.slow
def test_kernels_compile_for_three_generations_of_gpus_with_128_bit_loads():
    found = printed("compiled")
    assert len(found) == 30
    for each in found:
        assert each["atomics"] == 0, each
        assert each["local"] == 0, each
        if each["map"]:
            assert each["wide_loads"] >= 4, each
            assert each["wide_stores"] >= 4 or each["kernel"] in {"_moments", "_reduce", "_sum"}
