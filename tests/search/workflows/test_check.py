"""`segtune check` here, without a GPU, and on machines as torch and drivers show them."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from search.cli.main import main
from search.report.check_table import Row
from search.workflows.check import installation as check
from search.workflows.check import step as check_step
from search.workflows.check.gpu import Card, Seen, build_rows
from trainer.gpus import Gpus

CPU = torch.device("cpu")
H200 = Card("NVIDIA H200", "Default", "Disabled")
TORCH = Gpus("2.13.0+cu130", "CUDA 13.0", (H200.name,), "580.159")
FITS = Seen(TORCH, [H200])
BLIND = replace(TORCH, names=())


def found(seen: Seen) -> dict[str, Row]:
    return {row.what: row for row in build_rows(seen)}


def test_a_machine_whose_parts_fit_together():
    assert [(row.what, row.found, row.state) for row in build_rows(FITS)] == [
        ("torch", "2.13.0+cu130, built for CUDA 13.0", "ok"),
        ("driver", "580.159", "ok"),
        ("GPUs", "1 x NVIDIA H200", "ok"),
    ]


@pytest.mark.parametrize(
    ("seen", "what", "words"),
    [
        (
            FITS._replace(gpus=Gpus("2.13.0+cpu", "", (), "580.159")),
            "GPUs",
            "a build without CUDA",
        ),
        (FITS._replace(gpus=replace(BLIND, driver="535.183.01")), "GPUs", "580 or newer"),
        (FITS._replace(cards=[], smi_error="library mismatch"), "driver", "restart the machine"),
        (FITS._replace(gpus=replace(BLIND, reason="CUDA error 802")), "GPUs", "CUDA error 802"),
        (FITS._replace(gpus=replace(TORCH, reason="GTX 1080 is sm_61")), "GPUs", "sm_61"),
        (FITS._replace(cards=[H200, H200]), "GPUs", "the driver 2 x NVIDIA H200"),
    ],
    ids=["cpu build", "old driver", "no driver", "error", "an old card beside", "one of two"],
)
def test_what_does_not_fit_is_wrong_and_says_why(seen, what, words):
    row = found(seen)[what]
    assert row.state == "wrong"
    assert words in f"{row.found}; {row.remedy}"


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (Seen(Gpus("2.13.0+cpu", "", (), "")), "trials train on the CPU"),
        (FITS._replace(gpus=BLIND, visible=""), "hides 1 x NVIDIA H200"),
        (FITS._replace(gpus=BLIND, visible="-1"), "hides 1 x NVIDIA H200"),
    ],
)
def test_a_machine_without_a_gpu_is_not_wrong(seen, words):
    row = found(seen)["GPUs"]
    assert row.state == "note" and words in row.found


def test_fewer_gpus_are_not_wrong_where_they_are_chosen_or_parts_of_one():
    assert found(FITS._replace(cards=[H200, H200], visible="1"))["GPUs"].state == "ok"
    parts = [H200._replace(mig="Enabled")] * 2
    assert found(FITS._replace(cards=parts))["GPUs"].state == "ok"


def test_a_gpu_that_takes_one_process_is_noted():
    exclusive = H200._replace(compute_mode="Exclusive_Process")
    assert (
        "gpus_per_trial must be 1" in found(FITS._replace(cards=[exclusive]))["compute mode"].found
    )


def test_a_step_in_bf16_agrees_with_the_cpu():
    [row] = check.step_rows(CPU)
    assert (row.what, row.state) == ("step in bf16", "ok"), row


@pytest.mark.slow
def test_a_device_that_computes_something_else_is_wrong(monkeypatch):
    take_step = check_step.take_step

    def faulty(config, device):
        step = take_step(config, device)
        if config.precision == "bf16":
            step.gradient[::100] = 0
        return step

    monkeypatch.setattr(check_step, "take_step", faulty)
    [row] = check.step_rows(CPU)
    assert row.state == "wrong" and "do not train here" in row.remedy


@pytest.mark.slow
def test_two_processes_sum_their_numbers():
    assert check_step.exchange_bytes_per_s([CPU, CPU]) > 1e6


def test_a_process_that_does_not_come_is_waited_for_no_longer_than_said(monkeypatch):
    monkeypatch.setattr(check_step, "NCCL_S", 0.0)
    with pytest.raises(TimeoutError, match="2 processes"):
        check_step.exchange_bytes_per_s([CPU, CPU])


def test_a_disk_is_measured_and_left_as_it_was(tmp_path):
    row = check.disk_row(check.Place("disk", tmp_path))
    assert row.state == "ok" and "MB/s written" in row.found
    assert not [*tmp_path.iterdir()]


def test_a_folder_that_is_not_there_yet_is_measured_above(tmp_path):
    first, *_ = check.places(tmp_path / "none" / "runs")
    assert first.folder == tmp_path


def test_a_folder_that_takes_no_file_is_wrong():
    row = check.disk_row(check.Place("disk", Path("/proc")))
    assert row.state == "wrong" and row.found.startswith("/proc: ")


def test_a_check_that_breaks_is_a_row_and_the_status(monkeypatch, tmp_path):
    """A process has one Ray, and this one may have it: Ray's own part is tested apart."""

    def broken(device):
        raise RuntimeError("first\nCUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(check, "step_rows", broken)
    monkeypatch.setattr(check, "ray_row", lambda gpus: Row("Ray", "as said", "ok"))
    result = CliRunner().invoke(main, ["check", "--runs", str(tmp_path), "--json"])
    assert result.exit_code == 1
    rows = {row["what"]: row for row in json.loads(result.stdout)["checks"]}
    assert rows["step"]["state"] == "wrong"
    assert rows["step"]["found"].endswith("an illegal memory access was encountered")
    assert {"torch", "GPUs", "speed", "Ray", "disk of --runs"} <= rows.keys()


@pytest.mark.slow
def test_a_machine_that_trains_as_it_should(tmp_path):
    """With a Ray of its own."""
    command = [sys.executable, "-m", "search.cli.main", "check", "--runs", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=720)
    assert done.returncode == 0, done.stdout + done.stderr
    *rows, _, end = done.stdout.splitlines()
    assert end == "nothing is wrong"
    assert any(row.startswith("ok ") and "CPUs and 0 GPUs" in row for row in rows) or (
        torch.cuda.is_available()
    )
