"""`segtune check` here, without a GPU, and on machines as torch and drivers show them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from search.cli.main import main
from search.report.check_table import Row
from search.workflows import check, check_step
from search.workflows.check_gpu import Card, Seen, build_rows, supported

CPU = torch.device("cpu")
H200 = Card("NVIDIA H200", "580.159", "143771", "Default", "Disabled")
FITS = Seen("2.13.0", "13.0", devices=[H200.name], capabilities=[(9, 0)], cards=[H200])


def found(seen: Seen) -> dict[str, Row]:
    return {row.what: row for row in build_rows(seen)}


def test_a_machine_whose_parts_fit_together():
    rows = found(FITS)
    assert [(name, row.state) for name, row in rows.items()] == [
        ("torch", "ok"),
        ("driver", "ok"),
        ("GPUs", "ok"),
    ]
    assert rows["driver"].found == "580.159; CUDA 13.0 needs 580 or newer"
    assert rows["GPUs"].found == "1 x NVIDIA H200"


@pytest.mark.parametrize(
    ("seen", "what", "words"),
    [
        (
            FITS._replace(torch="2.13.0+cpu", cuda=None, devices=[]),
            "torch",
            "torch built for CUDA 13",
        ),
        (
            FITS._replace(devices=[], cards=[H200._replace(driver="535.183.01")]),
            "driver",
            "a newer driver, or torch built for CUDA 12",
        ),
        (
            FITS._replace(devices=[], cards=[H200._replace(driver="390.157")]),
            "driver",
            "a driver of 450 or newer",
        ),
        (
            FITS._replace(devices=[], cards=[], smi_error="Driver/library version mismatch"),
            "driver",
            "restart the machine",
        ),
        (FITS._replace(devices=[], reason="CUDA error 802"), "GPUs", "CUDA error 802"),
        (FITS._replace(capabilities=[(6, 1)], archs=["sm_75", "sm_90"]), "GPUs", "sm_61"),
        (FITS._replace(cards=[H200, H200]), "GPUs", "the driver 2 x NVIDIA H200"),
    ],
    ids=["cpu build", "old driver", "older", "no driver", "error", "old card", "one of two"],
)
def test_what_does_not_fit_is_wrong_and_says_what_would(seen, what, words):
    row = found(seen)[what]
    assert row.state == "wrong"
    assert words in f"{row.found}; {row.remedy}"


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (FITS._replace(devices=[], cards=[]), "trials train on the CPU"),
        (FITS._replace(devices=[], visible=""), "hides 1 x NVIDIA H200"),
        (FITS._replace(devices=[], visible="-1"), "hides 1 x NVIDIA H200"),
    ],
)
def test_a_machine_without_a_gpu_is_not_wrong(seen, words):
    row = found(seen)["GPUs"]
    assert row.state == "note" and words in row.found


def test_an_older_driver_that_works_all_the_same_is_not_wrong():
    """As with NVIDIA's package for forward compatibility."""
    older = FITS._replace(cards=[H200._replace(driver="535.183.01")])
    assert {row.state for row in build_rows(older)} == {"ok"}


def test_fewer_gpus_are_not_wrong_where_they_are_chosen_or_parts_of_one():
    assert found(FITS._replace(cards=[H200, H200], visible="1"))["GPUs"].state == "ok"
    parts = [H200._replace(mig="Enabled")] * 2
    assert found(FITS._replace(cards=parts))["GPUs"].state == "ok"


def test_a_gpu_that_takes_one_process_is_noted():
    exclusive = H200._replace(compute_mode="Exclusive_Process")
    assert (
        "gpus_per_trial must be 1" in found(FITS._replace(cards=[exclusive]))["compute mode"].found
    )


@pytest.mark.parametrize(
    ("capability", "archs", "expected"),
    [
        ((9, 0), ["sm_80", "sm_90"], True),
        ((8, 9), ["sm_80", "sm_90"], True),
        ((8, 0), ["sm_86", "sm_90"], False),
        ((12, 1), ["sm_90", "compute_120"], True),
        ((10, 3), ["sm_90a", "sm_100f"], True),
        ((7, 0), ["sm_75", "compute_75"], False),
    ],
)
def test_kernels_run_within_a_major_version_and_ptx_on_what_is_newer(capability, archs, expected):
    assert supported(capability, archs) is expected


def test_a_step_in_bf16_agrees_with_the_cpu():
    [row] = check.step_rows(CPU)
    assert (row.what, row.state) == ("step in bf16", "ok"), row


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
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    *rows, _, end = done.stdout.splitlines()
    assert end == "nothing is wrong"
    assert any(row.startswith("ok ") and "CPUs and 0 GPUs" in row for row in rows) or (
        torch.cuda.is_available()
    )
