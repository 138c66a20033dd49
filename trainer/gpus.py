"""What torch sees of this machine's GPUs, or why it sees none: `python -m trainer.gpus`.

torch is asked in a process of its own, so that whoever wants to know has neither torch nor a CUDA
context for it.
"""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import segtune_start
from trainer.exceptions import first_line

LEAST_DRIVER = {13: 580, 12: 525, 11: 450}
"""Oldest driver, by the major version of the CUDA that torch was built for (NVIDIA's minor version
compatibility)."""
INDEX = "https://download.pytorch.org/whl"
DEVICES = ("/dev/nvidiactl", "/dev/nvhost-ctrl", "/dev/dxg", "/dev/kfd")
"""Of NVIDIA's driver, on its own boards and in WSL too, and of AMD's."""
FREE_MIB = 512
"""Less memory in use than by any process that computes: a context takes more."""
ANSWER_S = 120.0


@dataclass(frozen=True)
class Gpus:
    """What torch and the driver say of themselves; text is empty for what is not there."""

    torch: str
    """Version, with its build: 2.13.0+cu130."""
    build: str
    """What it was built for: `CUDA 13.0`, `HIP 6.4`."""
    names: tuple[str, ...]
    """Models of the GPUs that torch can compute on, in its order."""
    driver: str
    """Version of NVIDIA's."""
    reason: str = ""
    """What torch said where it has GPUs and cannot use them."""

    @property
    def problem(self) -> str:
        """Why torch has no GPU, what is needed and what to do, in a line; empty if it has one."""
        if self.names:
            return ""
        if not self.driver and not self.build.startswith("HIP"):
            return f"torch {self.torch} finds no NVIDIA driver"
        if not self.build:
            return (
                f"torch {self.torch} is a build without CUDA, and the driver is {self.driver}: "
                f"{install(self.torch, self.driver)}"
            )
        cuda = _numbers(self.build)
        least = LEAST_DRIVER.get(cuda[0], 0)
        if self.driver and _numbers(self.driver)[0] < least and self.build.startswith("CUDA"):
            return (
                f"torch {self.torch} is built for CUDA {cuda[0]}.{cuda[1]}, which needs a driver "
                f"of {least} or newer, and the driver is {self.driver}: update it, or "
                f"{install(self.torch, self.driver)}"
            )
        reason = self.reason or "CUDA_VISIBLE_DEVICES hides them, or there are none"
        driver = f" (driver {self.driver})" if self.driver else ""
        return f"torch {self.torch}, built for {self.build}{driver}, can use no GPU: {reason}"

    def __str__(self) -> str:
        if not self.names:
            return self.problem
        models = {name: self.names.count(name) for name in self.names}
        found = ", ".join(f"{count} x {name}" for name, count in models.items())
        return f"torch {self.torch} computes on {found} (driver {self.driver or 'unknown'})"


def install(torch: str, driver: str) -> str:
    """Return how the same version of torch is installed in the build for a driver."""
    major = _numbers(driver)[0] if driver else 0
    for cuda, index in ((13, "cu130"), (12, "cu126")):
        if major >= LEAST_DRIVER[cuda]:
            version = torch.partition("+")[0]
            return f"pip install torch=={version}+{index} --extra-index-url {INDEX}/{index}"
    return f"no torch of today takes a driver below {LEAST_DRIVER[12]}"


def look() -> Gpus:
    """Ask torch in a process of its own, which takes seconds; none where there is no driver.

    Raises:
        RuntimeError: torch cannot be imported, or did not answer within ANSWER_S.
    """
    has_none = not driver_version() and not any(map(os.path.exists, DEVICES))
    if has_none and sys.platform == "linux":
        return Gpus(importlib.metadata.version("torch"), "", (), "")
    command = segtune_start.command("trainer.gpus", "--json")
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_S)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"torch did not answer within {ANSWER_S:.0f} s") from None
    if child.returncode:
        last = (child.stderr.strip().splitlines() or ["ended without a word"])[-1]
        raise RuntimeError(f"torch cannot be asked for GPUs: {last}")
    values = json.loads(child.stdout.splitlines()[-1])
    return Gpus(**values | {"names": tuple(values["names"])})


def driver_version() -> str:
    """Return the version of NVIDIA's driver; empty where there is none."""
    with suppress(OSError):
        text = Path("/proc/driver/nvidia/version").read_text()
        if found := re.search(r"\s(\d+\.\d+(\.\d+)?)\s", text):
            return found[1]
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    with suppress(OSError, subprocess.SubprocessError):
        said = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
        return said.stdout.strip().splitlines()[0] if said.stdout.strip() else ""
    return ""


def free_gpu() -> str:
    """Return the UUID of a GPU that this process may use and nobody uses now; empty without one."""
    query = ["--query-gpu=index,uuid,memory.used", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(
            ["nvidia-smi", *query], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    allowed = None if visible is None else [word for word in visible.split(",") if word]
    for line in said.stdout.splitlines():
        index, uuid, used_mib = (cell.strip() for cell in line.split(","))
        mine = allowed is None or index in allowed or any(uuid.startswith(w) for w in allowed)
        if mine and used_mib.isdigit() and int(used_mib) < FREE_MIB:
            return uuid
    return ""


def has_kernels(capability: tuple[int, int], architectures: Sequence[str]) -> bool:
    """Say whether a build has code for a GPU: of its generation, or to be translated for it.

    Args:
        capability: The GPU's, (8, 6).
        architectures: As torch.cuda.get_arch_list: `sm_80`, `compute_90` for what the driver
            translates, or AMD's `gfx90a`, which a capability says nothing about.
    """
    for architecture in architectures:
        if architecture.startswith("gfx"):
            return True
        kind, _, number = architecture.partition("_")
        digits = re.sub(r"\D", "", number)
        major, minor = int(digits[:-1]), int(digits[-1])
        translated = kind == "compute" and (major, minor) <= capability
        if translated or (kind == "sm" and major == capability[0] and minor <= capability[1]):
            return True
    return not architectures


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def _ask() -> Gpus:
    import torch

    version, hip = str(torch.__version__), getattr(torch.version, "hip", None)
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else f"HIP {hip}" if hip else ""
    names: tuple[str, ...] = ()
    reason = ""
    if build:
        try:
            torch.cuda.init()
            names, reason = _usable(torch.cuda)
        except (RuntimeError, AssertionError) as error:
            reason = first_line(error)
    elif torch.accelerator.is_available():
        kind = torch.accelerator.current_accelerator()
        names = (kind.type if kind else "",) * torch.accelerator.device_count()
    return Gpus(version, build, names, driver_version(), reason)


def _usable(cuda: Any) -> tuple[tuple[str, ...], str]:
    """Return the models for which this torch has code, and what is said of the others."""
    architectures, names, reason = cuda.get_arch_list(), [], ""
    for index in range(cuda.device_count()):
        name, capability = cuda.get_device_name(index), cuda.get_device_capability(index)
        if has_kernels(capability, architectures):
            names.append(name)
        else:
            has = ", ".join(architectures)
            reason = (
                f"{name} is sm_{capability[0]}{capability[1]}, and this build has {has}; that for "
                f"CUDA 12.6 ({INDEX}/cu126) has older ones"
            )
    return tuple(names), reason


if __name__ == "__main__":
    if sys.argv[1:] == ["--json"]:
        print(json.dumps(asdict(_ask())))
    else:
        print(_ask())
