"""How many CPUs this process may use."""

import os
from contextlib import suppress
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def num_cpus() -> int:
    """Return the CPUs that this process may use: by affinity, Slurm's allotment and cgroups."""
    limits = [os.cpu_count() or 1]
    if hasattr(os, "sched_getaffinity"):
        limits.append(len(os.sched_getaffinity(0)))
    if (allotted := os.environ.get("SLURM_CPUS_ON_NODE", "")).isdigit():
        limits.append(int(allotted))
    with suppress(OSError, ValueError):  # "max 100000" where there is no quota
        quota, period = (CGROUP / "cpu.max").read_text().split()
        limits.append(int(quota) // int(period))
    return max(1, min(limits))
