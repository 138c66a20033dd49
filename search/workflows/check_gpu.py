"""What torch and the driver see of this machine's GPUs, and whether they fit together."""

import os
import re
import subprocess
import warnings
from collections.abc import Sequence
from typing import NamedTuple

from search.report.check_table import Row

DRIVERS = {11: 450, 12: 525, 13: 580}
"""Oldest NVIDIA driver by CUDA's major version, whatever its minor one (NVIDIA, "CUDA
Compatibility", minor version compatibility)."""

QUERY = "name,driver_version,memory.total,compute_mode,mig.mode.current"


class Card(NamedTuple):
    """A GPU as nvidia-smi shows it."""

    name: str
    driver: str
    memory_mib: str
    compute_mode: str
    mig: str


class Seen(NamedTuple):
    """What torch and nvidia-smi see."""

    torch: str
    """Version of torch."""
    cuda: str | None
    """Version of CUDA that torch was built for; None for another build."""
    hip: str | None = None
    """The same of ROCm."""
    devices: Sequence[str] = ()
    """Names of the GPUs that torch sees."""
    capabilities: Sequence[tuple[int, int]] = ()
    """Compute capability of each."""
    archs: Sequence[str] = ()
    """What torch has kernels for: sm_90, compute_120."""
    reason: str = ""
    """What torch says where it sees none."""
    cards: Sequence[Card] = ()
    smi_error: str = ""
    """What nvidia-smi says where it is there and fails."""
    visible: str | None = None
    """CUDA_VISIBLE_DEVICES."""


def look() -> Seen:
    """Ask torch and nvidia-smi."""
    import torch

    cards, smi_error = _cards()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        here = torch.accelerator.is_available()
    devices: list[str] = []
    capabilities: list[tuple[int, int]] = []
    archs: list[str] = []
    reason = " ".join(str(said[0].message).split()) if said else ""
    if here and torch.cuda.is_available():
        numbers = range(torch.cuda.device_count())
        devices = [torch.cuda.get_device_name(number) for number in numbers]
        capabilities = [torch.cuda.get_device_capability(number) for number in numbers]
        archs = torch.cuda.get_arch_list()
    elif here:
        accelerator = torch.accelerator.current_accelerator()
        devices = [str(accelerator)] * torch.accelerator.device_count()
    return Seen(
        torch=str(torch.__version__),
        cuda=torch.version.cuda,
        hip=torch.version.hip,
        devices=devices,
        capabilities=capabilities,
        archs=archs,
        reason=reason,
        cards=cards,
        smi_error=smi_error,
        visible=os.environ.get("CUDA_VISIBLE_DEVICES"),
    )


def _cards() -> tuple[list[Card], str]:
    """Return what nvidia-smi shows, and what it says where it fails; neither where it is not."""
    command = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except FileNotFoundError:
        return [], ""
    except (OSError, subprocess.SubprocessError) as error:
        return [], str(error)
    if done.returncode:
        return [], " ".join((done.stdout + done.stderr).split())
    return [Card(*line.split(", ")) for line in done.stdout.splitlines() if line.strip()], ""


def build_rows(seen: Seen) -> list[Row]:
    """Say what is seen, and what does not fit together."""
    rows = [_torch_row(seen)]
    if seen.cards or seen.smi_error:
        rows.append(_driver_row(seen))
    rows.append(_gpus_row(seen))
    if exclusive := [card.name for card in seen.cards if "Exclusive" in card.compute_mode]:
        found = f"{exclusive[0]} takes one process at a time: gpus_per_trial must be 1 or more"
        rows.append(Row("compute mode", found))
    return rows


def _torch_row(seen: Seen) -> Row:
    build = f"CUDA {seen.cuda}" if seen.cuda else f"ROCm {seen.hip}" if seen.hip else "CPUs alone"
    found = f"{seen.torch}, built for {build}"
    if seen.cards and not (seen.cuda or seen.hip):
        return Row("torch", found, "wrong", _other_torch(seen.cards[0].driver))
    return Row("torch", found, "ok")


def _driver_row(seen: Seen) -> Row:
    if not seen.cards:
        remedy = "load the driver's kernel module again, or restart the machine"
        return Row("driver", f"nvidia-smi: {seen.smi_error}", "wrong", remedy)
    driver = seen.cards[0].driver
    needed = DRIVERS.get(_major(seen.cuda)) if seen.cuda else None
    if needed is None:
        return Row("driver", driver, "ok")
    found = f"{driver}; CUDA {seen.cuda} needs {needed} or newer"
    # With NVIDIA's package for forward compatibility an older one does.
    if _major(driver) < needed and not seen.devices:
        return Row("driver", found, "wrong", f"a newer driver, or {_other_torch(driver)}")
    return Row("driver", found, "ok")


def _gpus_row(seen: Seen) -> Row:
    cards = _counted([card.name for card in seen.cards])
    if not seen.devices:
        if not seen.cards:
            return Row("GPUs", "none: trials train on the CPU")
        if seen.visible is not None and not re.match(r"\d|GPU-|MIG-", seen.visible):
            return Row("GPUs", f"CUDA_VISIBLE_DEVICES={seen.visible!r} hides {cards}")
        reason = f": {seen.reason}" if seen.reason else ""
        return Row("GPUs", f"torch sees none of {cards}{reason}", "wrong")
    found = _counted(seen.devices)
    for name, capability in zip(seen.devices, seen.capabilities, strict=False):
        if seen.archs and not supported(capability, seen.archs):
            sm = "sm_{}{}".format(*capability)
            remedy = f"another build of torch; this one has {', '.join(seen.archs)}"
            return Row("GPUs", f"{name}: this torch has nothing for {sm}", "wrong", remedy)
    mig = any(card.mig == "Enabled" for card in seen.cards)
    if len(seen.devices) < len(seen.cards) and seen.visible is None and not mig:
        return Row("GPUs", f"torch sees {found}, the driver {cards}", "wrong")
    return Row("GPUs", found, "ok")


def supported(capability: tuple[int, int], archs: Sequence[str]) -> bool:
    """Say whether torch has kernels for a GPU, or PTX of which the driver makes some."""
    for arch in archs:
        words = re.fullmatch(r"(sm|compute)_(\d+)(\d)[af]?", arch)
        if not words:
            continue
        major, minor = int(words[2]), int(words[3])
        if words[1] == "compute" and (major, minor) <= capability:
            return True
        if words[1] == "sm" and major == capability[0] and minor <= capability[1]:
            return True
    return False


def _other_torch(driver: str) -> str:
    """Say which torch a driver can run."""
    fitting = [major for major, needed in DRIVERS.items() if needed <= _major(driver)]
    if not fitting:
        return f"a driver of {min(DRIVERS.values())} or newer, and torch built for CUDA"
    return f"torch built for CUDA {max(fitting)}: https://pytorch.org/get-started/locally"


def _major(version: str) -> int:
    return int(version.split(".")[0])


def _counted(names: Sequence[str]) -> str:
    """Return names with how many there are of each: `2 x NVIDIA H200`."""
    counts = {name: list(names).count(name) for name in names}
    return ", ".join(f"{count} x {name}" for name, count in counts.items())
