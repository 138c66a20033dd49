"""Fixtures shared by all tests."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real images beside the checkout; tests that need it skip where it is missing."""
    path = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"real images are not at {path}")
    return path


@pytest.fixture(scope="session")
def phantom_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small prepared phantom: 10 cases, 32 x 32 pixels."""
    from trainer.data.phantom import write_phantom
    from trainer.data.prepare import prepare

    folder = tmp_path_factory.mktemp("phantom")
    write_phantom(folder / "dataset", num_cases=10, seed=0)
    prepare(folder / "dataset", folder / "store", image_size=32)
    return folder / "store"
