"""What a process computes on: other processors round otherwise."""

import os
import platform
import subprocess
from contextlib import suppress
from pathlib import Path


def cpu_model() -> str:
    """Return the processor's name; empty where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def gpu_model() -> str:
    """Return the model of the first GPU that this process may use, without importing torch."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0]
    if not first:
        return ""
    command = ["nvidia-smi", f"--id={first}", "--query-gpu=name", "--format=csv,noheader"]
    with suppress(OSError, subprocess.SubprocessError):
        names = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        return names.stdout.splitlines()[0].strip() if names.stdout else ""
    return ""
