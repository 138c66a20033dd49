"""How many CPUs a process may use."""

import os
from pathlib import Path

import pytest

import trainer.cpus
from trainer.cpus import num_cpus


def test_affinity_slurm_and_cgroups_limit_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    monkeypatch.setattr(trainer.cpus, "CGROUP", tmp_path)
    monkeypatch.delenv("SLURM_CPUS_ON_NODE", raising=False)
    assert num_cpus() == 16
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "12")
    assert num_cpus() == 12
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert num_cpus() == 12
    (tmp_path / "cpu.max").write_text("350000 100000\n")
    assert num_cpus() == 3
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert num_cpus() == 1
