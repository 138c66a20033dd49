"""Where trials run: on the CPU, or on GPUs that torch can use; never otherwise than was asked."""

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from search.cli.main import main
from search.execution.faults.recovery import Recovery
from search.execution.gpus import automatic, device_for, with_gpus
from search.execution.hardware import gpu_in_use
from search.execution.worker import check_accelerator, on_its_devices
from search.ledger.journal import Ledger
from search.ledger.state import StudyState
from search.study.load import load_study
from search.tuning.scheduler import Scheduler
from search.workflows.confirming.models import _read
from search.workflows.launch import _with_its_gpus
from tests.search import offline
from tests.search.conftest import Driver, write_study
from tests.trainer.fake_torch import pretend
from trainer.configfile import ConfigError

Drive = Callable[..., Driver]

no_driver = pytest.mark.skipif(
    Path("/proc/driver/nvidia/version").exists(), reason="a driver is really here"
)


def test_trials_without_gpus_run_on_the_cpu_where_there_are_some(calm: Driver) -> None:
    """The cluster has a GPU, which Ray would show to every process that asks for none."""
    begun = [path.read_text().split() for path in calm.folder.glob("trials/*/begun")]
    assert begun and {tuple(words[2:]) for words in begun} == {("cpu", "none")}
    note = "note: the trials use none of Ray's 1 GPUs (trials.gpus_per_trial 0); those of a new"
    assert calm.log.read_text().count(note) == 1


@pytest.mark.slow
@no_driver
def test_auto_is_decided_at_the_first_launch_and_kept(
    tmp_path: Path, store: Path, drive: Drive
) -> None:
    """The cluster's GPU is one that torch cannot use."""
    trials = {"num_trials": 1, "gpus_per_trial": "auto"}
    study = write_study(tmp_path, store, trials=trials, scheduler={"type": "none", "max_t": 1})
    first = drive(study)
    out = first.finish()
    assert "note: gpus_per_trial: auto is 0: torch" in out and "finds no NVIDIA driver" in out
    [begun] = first.events("study")
    assert begun["config"]["trials"]["gpus_per_trial"] == 0
    assert "auto" not in (first.folder / "study.yaml").read_text()
    state = StudyState.of(Ledger.open(first.folder / "ledger.jsonl", writer=False))
    again = _with_its_gpus(load_study(study), state, "no address is asked")
    assert again.trials.gpus == 0


@pytest.mark.slow  # 5 s
@no_driver
def test_gpus_that_torch_cannot_use_are_refused_before_the_first_trial(
    tmp_path: Path, store: Path, drive: Drive
) -> None:
    study = write_study(tmp_path, store, trials={"num_trials": 1, "gpus_per_trial": 1})
    driver = drive(study, fit="trainer.loop:fit")
    assert driver.wait() == 2
    line = driver.log.read_text().splitlines()[-1]
    assert line.startswith("node ") and ": trials.gpus_per_trial: 1: torch " in line
    assert not driver.events("proposed")


@no_driver
@pytest.mark.parametrize(("names", "gpus"), [(("NVIDIA H200",), 1), ((), 0)])
def test_auto_on_this_machine(
    tmp_path: Path,
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    names: tuple[str, ...],
    gpus: int,
) -> None:
    """1 where torch can use a GPU, else 0; `--dry-run` says so, and what number is refused."""
    driver = "580.159" if names else "535.1"
    pretend(monkeypatch, tmp_path / "fake", driver=driver, names=names, error="" if names else "-")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    study = write_study(tmp_path, store, trials={"num_trials": 1, "gpus_per_trial": "auto"})
    said: list[str] = []
    assert automatic(load_study(study), "local", said.append) == gpus
    assert said[0].startswith(f"gpus_per_trial: auto is {gpus}: torch 2.13.0+cu130 ")
    runs = ["--runs", str(tmp_path / "runs")]
    assert main(["launch", str(study), "--dry-run", *runs], standalone_mode=False) is None
    out = capsys.readouterr().out
    assert f"1 CPUs, {gpus} GPUs" in out and said[0] in out
    main(
        ["launch", str(study), "--dry-run", "trials.gpus_per_trial=1", *runs], standalone_mode=False
    )
    assert ("`launch` would be refused here" in capsys.readouterr().out) == (not names)


def test_auto_that_a_budget_contradicts(store: Path) -> None:
    study = offline.study(store, trials={"num_trials": 1, "gpus_per_trial": "auto"})
    study = study.model_copy(update={"budget": study.budget.model_copy(update={"gpu_hours": 2.0})})
    assert with_gpus(study, 1, "toy").trials.gpus == 1
    with pytest.raises(ConfigError, match=r"budget\.gpu_hours: 2: trials\.gpus_per_trial is 0"):
        with_gpus(study, 0, "toy")


@pytest.mark.parametrize("gpu", ["NVIDIA H200", ""])
def test_the_ledger_has_the_gpu_on_which_torch_computed(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch, gpu: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: bool(gpu))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: gpu)
    with offline.opened(offline.study(store), tmp_path) as session:
        offline.propose(session)
        trial = SimpleNamespace(config={"trial": 0})
        metrics = [("val/dice", 0.5)]
        result = {"epoch": 1, "metrics": metrics, "gpu": gpu_in_use()}
        Scheduler(session, Recovery(dict)).on_trial_result(None, trial, result)  # type: ignore[arg-type]
        [reported] = [e for e in session.ledger.events if e["event"] == "reported"]
    assert reported.get("gpu", "") == gpu and ("gpu" in reported) == bool(gpu)


SMI = """#!/bin/sh
echo "0, GPU-aaaa, 40960"
echo "1, GPU-bbbb, 3"
echo "2, GPU-cccc, 0"
"""


@pytest.mark.parametrize(
    ("gpus", "visible", "device", "left"),
    [
        (1, None, "auto", "GPU-bbbb"),
        (0.5, "0,2", "auto", "GPU-cccc"),
        (1, "GPU-cc", "auto", "GPU-cccc"),
        (1, "0", "cpu", "0"),
        (1, "", "cpu", ""),
        (0, "1", "cpu", "1"),
    ],
)
def test_work_beside_a_study_takes_a_gpu_that_is_free(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    gpus: float,
    visible: str | None,
    device: str,
    left: str,
) -> None:
    """If the trial had one, and of those that this process may use."""
    (tmp_path / "nvidia-smi").write_text(SMI)
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible or "")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert device_for(gpus) == device
    assert os.environ["CUDA_VISIBLE_DEVICES"] == left


def test_a_process_without_a_gpu_hides_them_from_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert on_its_devices({"device": "auto"}, 0.5) == {"device": "auto"}
    assert on_its_devices({"device": "auto"}, 0) == {"device": "cpu"}
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert on_its_devices({"device": "mps"}, 0) == {"device": "mps"}


def test_a_process_whose_gpu_torch_does_not_see_trains_and_reads_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    with pytest.raises(RuntimeError, match="Ray gave this process GPU 3, but torch sees none"):
        check_accelerator()
    with pytest.raises(RuntimeError, match="torch sees none"):  # and not of the sealed test set
        _read._function({"train": {"device": "auto"}, "gpus": 1})
