"""A torch that answers as one on a GPU machine would, and a driver beside it, for subprocesses."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

TORCH = """
__version__ = "{torch}"
class version:
    cuda, hip = {cuda!r}, None
class accelerator:
    is_available = staticmethod(lambda: False)
class cuda:
    names = {names!r}
    @classmethod
    def init(cls):
        if {error!r}:
            raise RuntimeError({error!r})
    device_count = classmethod(lambda cls: len(cls.names))
    get_device_name = classmethod(lambda cls, index: cls.names[index])
    get_device_capability = staticmethod(lambda index: {capability!r})
    get_arch_list = staticmethod(lambda: ["sm_75", "sm_80", "sm_90"])
"""


def pretend(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    *,
    driver: str,
    torch: str = "2.13.0+cu130",
    cuda: str | None = "13.0",
    names: tuple[str, ...] = (),
    error: str = "",
    capability: tuple[int, int] = (9, 0),
) -> None:
    """Let what this process starts find such a torch and such a driver; Ray is not asked."""
    (folder / "torch").mkdir(parents=True)
    text = TORCH.format(torch=torch, cuda=cuda, names=names, error=error, capability=capability)
    (folder / "torch" / "__init__.py").write_text(text)
    smi = folder / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\necho {driver}\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{ROOT}")
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
