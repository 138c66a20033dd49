"""What may change between two launches of a study."""

from typing import Any

import pytest

from search.study.changes import COMPUTED, LIMITS, changes, frozen_beside
from search.study.config import StudyConfig
from search.study.frozen import birth
from trainer.loop import MAY_CHANGE


def study(train: dict[str, Any] | None = None, **trials: Any) -> StudyConfig:
    return StudyConfig.model_validate(
        {
            "study": "toy",
            "data": {"store": "."},
            "space": {"optimizer.lr": {"type": "float", "low": 1e-5, "high": 1e-1, "log": True}},
            "train": train or {},
            "trials": {"num_trials": 4, **trials},
        }
    )


@pytest.mark.parametrize(
    ("settings", "note"),
    [
        ({"cpus_per_trial": 4}, "trials.cpus_per_trial: 4, was 1"),
        ({"num_trials": 9}, "trials.num_trials: 9, was 4"),
        ({"workers_per_trial": 2, "cpus_per_trial": 2}, "trials.workers_per_trial: 2, was 1: sums "
         "are rounded otherwise, so no trial repeats one from before to the last bit"),
        ({"gpus_per_trial": 1}, "trials.gpus_per_trial: 1.0, was 0.0: a GPU draws other noise than "
         "a CPU, and `precision: auto` is bf16 there"),
        ({"train": {"num_threads": 2}}, "train.num_threads: 2, was not given: sums are rounded "
         "otherwise, so no trial repeats one from before to the last bit"),
        ({"train": {"device": "cpu"}}, "train.device: cpu, was not given: a GPU draws other noise "
         "than a CPU, and `precision: auto` is bf16 there"),
    ],
)  # fmt: skip
def test_where_and_how_trials_run_may_change_with_a_note(
    settings: dict[str, Any], note: str
) -> None:
    refused, notes = changes(study(), study(**settings))
    assert not refused and note in notes


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            {"num_trials": 3},
            "trials.num_trials: 3: this study was begun with 4; can only be raised",
        ),
        (
            {"train": {"precision": "bf16"}},
            "train.precision: 'bf16': this study was begun with None; give the study another name "
            "to change it",
        ),
    ],
)  # fmt: skip
def test_all_else_is_refused(settings: dict[str, Any], line: str) -> None:
    assert changes(study(), study(**settings)) == ([line], [])


def test_a_prior_stays_as_it_is() -> None:
    """What is proposed depends on it."""
    begun = study()
    values = begun.model_dump()
    values["space"]["optimizer.lr"]["prior"] = 1e-3
    stated = StudyConfig.model_validate(values)
    refused, notes = changes(begun, stated)
    rule = "this study was begun with None; give the study another name to change it"
    assert f"space.optimizer.lr.prior: 0.001: {rule}" in refused and not notes
    assert changes(stated, stated) == ([], [])
    assert begun.config_hash() != stated.config_hash()


def test_a_trial_goes_on_under_every_setting_that_may_change() -> None:
    """The trainer continues a checkpoint under another value of each."""
    names = {key.removeprefix("train.") for key in LIMITS | COMPUTED if key.startswith("train.")}
    assert names and names <= MAY_CHANGE


def test_a_setting_that_is_no_longer_given_has_its_default() -> None:
    """What was frozen at the study's birth was its own; other frozen settings stay."""
    begun, now = study({"num_threads": 3, "precision": "fp32"}), study({"precision": "fp32"})
    frozen = frozen_beside(birth(begun), begun, now)
    config = now.under(frozen).train_config({})
    assert (config.num_threads, config.precision) == (1, "fp32")
    assert birth(begun).settings.keys() - frozen.settings.keys() == {"num_threads"}
