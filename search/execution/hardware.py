"""What a process computes on: other processors round otherwise."""

import platform
import sys
from pathlib import Path


def cpu_model() -> str:
    """Return the processor's name; empty where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def gpu_in_use() -> str:
    """Return the model of the GPU on which torch computes in this process; empty for none."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return ""
    name: str = torch.cuda.get_device_name()
    return name
