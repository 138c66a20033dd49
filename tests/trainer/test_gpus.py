"""What torch sees of a machine's GPUs, and the line that says why it sees none."""

from pathlib import Path

import pytest

from tests.trainer.fake_torch import pretend
from trainer.gpus import Gpus, has_kernels, look

pytestmark = pytest.mark.skipif(
    Path("/proc/driver/nvidia/version").exists(), reason="a driver is really here"
)

WAY = "pip install torch==2.13.0+{0} --extra-index-url https://download.pytorch.org/whl/{0}"


def test_a_torch_that_computes_on_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(monkeypatch, tmp_path, driver="580.159", names=("NVIDIA H200", "NVIDIA H200"))
    found = look()
    assert (found.names, found.problem) == (("NVIDIA H200", "NVIDIA H200"), "")
    assert str(found) == "torch 2.13.0+cu130 computes on 2 x NVIDIA H200 (driver 580.159)"


def test_a_driver_that_is_older_than_the_wheel_needs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old = "The NVIDIA driver on your system is too old (found version 12020).\nPlease update"
    pretend(monkeypatch, tmp_path, driver="535.183.01", error=old)
    assert look().problem == (
        "torch 2.13.0+cu130 is built for CUDA 13.0, which needs a driver of 580 or newer, and the "
        f"driver is 535.183.01: update it, or {WAY.format('cu126')}"
    )


def test_a_wheel_for_the_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(monkeypatch, tmp_path, driver="580.159", torch="2.13.0+cpu", cuda=None)
    line = "torch 2.13.0+cpu is a build without CUDA, and the driver is 580.159"
    assert look().problem == f"{line}: {WAY.format('cu130')}"


def test_a_card_that_is_older_than_the_wheel_has_code_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend(monkeypatch, tmp_path, driver="580.1", names=("Tesla V100",), capability=(7, 0))
    assert "Tesla V100 is sm_70, and this build has sm_75, sm_80, sm_90" in look().problem


def test_another_cause_is_told_in_torchs_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend(monkeypatch, tmp_path, driver="580.159", error="CUDA unknown error - this may be due")
    assert look().problem.endswith(
        "(driver 580.159), can use no GPU: CUDA unknown error - this may be due"
    )


def test_a_torch_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(monkeypatch, tmp_path, driver="580.159")
    monkeypatch.setattr("trainer.gpus.ANSWER_S", 0.001)
    with pytest.raises(RuntimeError, match="torch did not answer within 0 s"):
        look()


def test_no_driver() -> None:
    assert look().problem.endswith("finds no NVIDIA driver")
    assert "no torch of today" in Gpus("2.13.0+cpu", "", (), "470.1").problem


@pytest.mark.parametrize(
    ("capability", "runs"),
    [((8, 0), True), ((8, 6), True), ((9, 0), False), ((7, 5), False), ((12, 0), True)],
)
def test_code_for_a_card(capability: tuple[int, int], runs: bool) -> None:
    """Of its generation and no newer, or PTX; AMD's are not compared."""
    assert has_kernels(capability, ["sm_80", "compute_100"]) == runs
    assert has_kernels(capability, ["gfx90a", "gfx1100"])
