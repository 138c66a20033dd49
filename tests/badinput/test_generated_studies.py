"""Study files that nobody would think of: a sound one, with anything at all in some places."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from search.study.config import StudyConfig
from tests.badinput import study_files as bad
from tests.badinput.judge import judge, run
from trainer.config import TrainConfig

pytestmark = pytest.mark.timeout(960, func_only=True)

SOUND: dict[str, Any] = {
    "study": "mine",
    "data": {"store": "STORE", "fold": 0},
    "train": {"model.width": 8, "epoch_images": 100, "optimizer.warmup_images": 0},
    "space": {
        "optimizer.lr": {"type": "float", "low": 1e-5, "high": 1e-3, "log": True},
        "batch.effective": {"type": "categorical", "choices": [4, 8]},
        "loss.weighting": {"type": "categorical", "choices": ["fixed", "warm_in"]},
        "loss.dice": {
            "type": "float",
            "low": 0.1,
            "high": 2.0,
            "when": {"loss.weighting": ["fixed"]},
        },
        "diffusion.num_timesteps": {"type": "int", "low": 100, "high": 1000, "step": 100},
    },
    "objective": {"metric": "val/dice", "mode": "max"},
    "sampler": {"type": "tpe", "num_startup_trials": 3},
    "scheduler": {"type": "asha", "grace_period": 3, "max_t": 9, "reduction_factor": 3},
    "stall": {"patience": 3, "min_delta": 0.01},
    "trials": {"num_trials": 3, "cpus_per_trial": 1},
    "budget": {"epochs": 100},
    "enqueue": [{"optimizer.lr": 1e-4, "protected": True}],
    "seed": 0,
}

WORDS = sorted(
    {*StudyConfig.model_fields, *TrainConfig.model_fields}
    | {"type", "low", "high", "step", "log", "choices", "when", "protected", "max_t", "store"}
    | {
        "optimizer.lr",
        "batch.effective",
        "loss.weighting",
        "model.family",
        "float",
        "asha",
        "val/dice",
    }
)
"""Names that mean something somewhere, so that they come up where they do not."""

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.integers(-3, 30)
    | st.floats()
    | st.sampled_from(WORDS)
    | st.text(max_size=12)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return where something stands in a study."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, item in inner:
        found.append((*path, key))
        if isinstance(item, dict | list):
            found += places(item, (*path, key))
    return found


@st.composite
def studies(draw: st.DrawFn) -> dict[str, Any]:
    """A sound study in which one to three places have another value, another name or nothing."""
    study: dict[str, Any] = yaml.safe_load(yaml.safe_dump(SOUND))
    for _ in range(draw(st.integers(1, 3))):
        *path, key = draw(st.sampled_from(places(study)))
        section: Any = study
        for step in path:
            section = section[step]
        match draw(st.sampled_from(["value", "value", "name", "nothing"])):
            case "value":
                section[key] = draw(VALUES)
            case "name" if isinstance(section, dict):
                section[draw(st.sampled_from(WORDS) | st.text(max_size=8))] = section.pop(key)
            case _:
                del section[key]
    return study


def judge_generated(study: dict[str, Any], path: Path, store: Path) -> None:
    """One line for each problem, or a dry run to the end."""
    text = yaml.safe_dump(study, allow_unicode=True).replace("STORE", str(store))
    path.write_text(text, encoding="utf-8")
    judge("study files", run("launch", path, "--dry-run"), f"{path}: ", may_work=True)


def examples(number: int) -> settings:
    return settings(
        max_examples=number,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


def test_what_they_begin_with_is_sound(tmp_path: Path, phantom_store: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(SOUND).replace("STORE", str(phantom_store)))
    assert not judge("study files", run("launch", path, "--dry-run"), may_work=True)


@examples(150)
@given(study=studies())
def test_a_generated_study_is_taken_or_refused_in_a_line(
    study: dict[str, Any], tmp_path: Path, phantom_store: Path
) -> None:
    judge_generated(study, tmp_path / "study.yaml", phantom_store)


@pytest.mark.nightly
@examples(3000)
@given(study=studies())
def test_many_generated_studies(study: dict[str, Any], tmp_path: Path, phantom_store: Path) -> None:
    judge_generated(study, tmp_path / "study.yaml", phantom_store)


@examples(100)
@given(content=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_as_a_study_file_are_refused_in_a_line(content: bytes, tmp_path: Path) -> None:
    """A file that has nothing to do with a study."""
    path = tmp_path / "study.yaml"
    path.write_bytes(content)
    judge("study files", run("launch", path, "--dry-run"), f"{path}: ")


@examples(100)
@given(
    key=st.sampled_from([".".join(map(str, path)) for path in places(SOUND)])
    | st.text(max_size=12),
    value=SCALARS.map(str) | st.text(max_size=20),
)
def test_any_override_is_taken_or_refused_in_a_line(
    key: str, value: str, tmp_path: Path, phantom_store: Path
) -> None:
    path = tmp_path / "study.yaml"
    path.write_bytes(bad.BASE.encode().replace(b"STORE", str(phantom_store).encode()))
    answer = run("launch", path, "--dry-run", "--", f"{key}={value}")
    judge("study files", answer, "command line: ", f"{path}: ", may_work=True)
