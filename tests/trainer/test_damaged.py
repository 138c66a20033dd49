"""Small files of a run that are damaged beside an intact checkpoint cost no training."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.trainer.tiny import tiny_config
from trainer.config import TrainConfig
from trainer.files.damaged import cases_in, clear, settings_in, validations_in
from trainer.loop import fit


@pytest.fixture(scope="module")
def config(phantom_store: Path) -> TrainConfig:
    return tiny_config(phantom_store)


@pytest.fixture(scope="module")
def begun(config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch of more."""
    run_dir = tmp_path_factory.mktemp("begun") / "run"
    next(fit(config, run_dir))
    return run_dir


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("metrics.jsonl", cut),
        ("metrics.jsonl", zeroed),
        ("cases.parquet", emptied),
        ("cases.parquet", zeroed),
        ("config.yaml", emptied),
        ("config.yaml", zeroed),
        ("owner", folder),
    ],
)
def test_the_run_goes_on_from_its_checkpoint(
    config: TrainConfig, begun: Path, tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(begun, run_dir)
    damage(run_dir / name)
    run = fit(config, run_dir)
    again = next(run)
    if name == "cases.parquet":  # which is not read before it grows
        next(run)
    run.close()
    told, _ = validations_in(begun / "metrics.jsonl")
    path = again.path
    first = {"epoch": 1, **again.metrics, **({"path": path} if path else {})}
    assert again.epoch == 1 and without(first) == without(told[0])
    assert (run_dir / f"{name}.damaged-1").exists()
    assert settings_in(run_dir / "config.yaml") and (run_dir / "owner").is_file()


def without(line: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in line.items() if not key.startswith("time/")}


def test_a_folder_that_is_called_stop_stops_nothing_for_ever(tmp_path: Path) -> None:
    stop = tmp_path / "stop"
    stop.mkdir()
    clear(stop)
    assert not stop.exists() and (tmp_path / "stop.damaged-1").is_dir()
    stop.touch()
    clear(stop)
    clear(stop)
    assert not stop.exists()


def test_lines_too_deep_for_python_cost_only_themselves(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"epoch": 1}}\n{"[" * 100_000}\n{{"epoch": 2}}\n')
    assert validations_in(path) == ([{"epoch": 1}, {"epoch": 2}], False)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 10_000,
        "at: 2026-13-45",
        "a: !!timestamp x",
        "a: !!int ''",
        "a: !!bool x",
        "{? [a] : 1}",
    ],
)
def test_settings_that_no_yaml_can_be_are_damaged(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    assert settings_in(path) is None


def test_a_wrong_byte_anywhere_in_a_table_is_damage_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "cases.parquet"
    pq.write_table(pa.table({"epoch": [1, 2], "dice": [0.5, 0.25]}), path)
    whole = path.read_bytes()
    found = []
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x1C]) + whole[at + 1 :])
        found.append(cases_in(path))
    assert None in found and any(found)
