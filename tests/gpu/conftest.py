"""Every test of this folder needs a CUDA device; `--dry` runs most of them on the CPU."""

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.gpu.noise import write_store

if TYPE_CHECKING:
    import torch


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--dry", action="store_true", help="Run on the CPU, to try the tests.")


@pytest.fixture(autouse=True)
def _device_is_here(request: pytest.FixtureRequest) -> None:
    import torch

    dry = request.config.getoption("--dry", default=False)
    if not torch.cuda.is_available() and not (dry and "device" in request.fixturenames):
        pytest.skip("no CUDA device is here")


@pytest.fixture
def device() -> "Iterator[torch.device]":
    """The device that is tried; what a test took of its memory goes with it."""
    import torch

    yield torch.device("cuda" if torch.cuda.is_available() else "cpu")
    gc.collect()
    torch.cuda.empty_cache()


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise of 64 x 64 pixels."""
    return write_store(tmp_path_factory.mktemp("noise") / "store", image_size=64)


@pytest.fixture(scope="session")
def large_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise of 256 x 256 pixels."""
    return write_store(tmp_path_factory.mktemp("noise") / "large", image_size=256)
