"""A reference that does well is suggested as the prior of a next study."""

from typing import Any

import pytest

from search.analysis.prior_hint import prior_hint
from search.study.config import StudyConfig

SPACE: dict[str, dict[str, Any]] = {
    "optimizer.lr": {"type": "float", "low": 1e-5, "high": 1e-3, "log": True},
    "diffusion.target": {"type": "categorical", "choices": ["x_start", "eps"]},
}


def study(**settings: Any) -> StudyConfig:
    values = {"study": "demo", "data": {"store": "."}, "space": SPACE, "trials": {"num_trials": 6}}
    return StudyConfig.model_validate(values | settings)


def result(reference: float | None, **params: Any) -> dict[str, Any]:
    trials = [{"rank": rank, "value": 0.5 - rank / 100} for rank in range(1, 7)]
    trials.append({"rank": None, "value": None})
    control = {"name": "control", "value": 0.9, "params": {"model.family": "unet"}}
    baseline = {"name": "baseline", "value": reference, "params": params}
    return {"trials": trials, "references": [control, baseline]}


GOOD = {"optimizer.lr": 1e-4, "diffusion.target": "eps"}


def test_what_is_better_than_most_and_in_the_space_is_suggested() -> None:
    assert prior_hint(study(), result(0.475, **GOOD)) == (
        "baseline lies in the space and is better than 4 of 6 searched trials; a next study can "
        "begin around it, with this in its space: optimizer.lr: {prior: 0.0001}, "
        'diffusion.target: {prior: "eps"}'
    )
    minimised = study(objective={"metric": "train/loss", "mode": "min"})
    assert "better than 6 of 6" in prior_hint(minimised, result(0.1, **GOOD))


@pytest.mark.parametrize(
    ("config", "found"),
    [
        (study(), result(0.465, **GOOD)),
        (study(), result(None, **GOOD)),
        (study(), result(0.475, **GOOD | {"optimizer.lr": 0.1})),
        (study(), result(0.475, **GOOD, **{"model.width": 8})),
        (study(), result(0.475, **GOOD) | {"trials": []}),
        (study(sampler={"type": "qmc"}), result(0.475, **GOOD)),
        (
            study(space=SPACE | {"optimizer.lr": SPACE["optimizer.lr"] | {"prior": 1e-4}}),
            result(1.0),
        ),
    ],
    ids=["middling", "not measured", "outside", "other width", "few trials", "qmc", "has one"],
)
def test_nothing_else_is(config: StudyConfig, found: dict[str, Any]) -> None:
    assert prior_hint(config, found) == ""
