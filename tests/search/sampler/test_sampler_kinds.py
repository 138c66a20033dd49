"""What each kind of sampler makes of a space, and what is refused or warned of before a launch."""

import json
import math
from collections import Counter
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from optuna.trial import TrialState
from scipy.stats import qmc

from search.cli.main import main
from search.sampler.sampler import Sampler
from search.study.config import StudyConfig
from search.study.load import load_study
from search.study.sampler_limits import combinations, warnings
from tests.bench import bench_memory
from tests.search.conftest import write_study
from tests.search.sampler.sampled_study import (
    SMALL,
    SPACE,
    SPEED,
    TYPES,
    make_study,
    overlapping,
    replayed,
    reported,
)
from trainer.configfile import ConfigError


def test_qmc_spreads_over_the_whole_study() -> None:
    """32 trials are one Sobol sequence, also in a dimension whose condition holds sometimes."""
    study = make_study("qmc")

    def points(study: StudyConfig) -> np.ndarray:
        proposed = [e["params"] for e in overlapping(study, 32) if e["event"] == "proposed"]
        return np.array(
            [
                [
                    (math.log10(params["optimizer.lr"]) + 5) / 4,
                    (len(params["data.modalities"]) - 0.5) / 2,
                    (params["loss.weighting"] == "warm_in") / 2 + 0.25,
                ]
                for params in proposed
            ]
        )

    ours = points(study)
    assert {*Counter(ours[:, 1]).values()} == {*Counter(ours[:, 2]).values()} == {16}
    assert {*np.bincount((ours[:, 0] * 32).astype(int))} == {1}
    random = [qmc.discrepancy(points(make_study("random", seed=seed))) for seed in range(5)]
    assert qmc.discrepancy(ours) < min(random)


@pytest.mark.parametrize("given", [{}, {"optimizer.lr": 0.2}, {"loss.weighting": "fixed"}])
def test_a_grid_is_covered_once(given: dict[str, Any]) -> None:
    """3 lr x 2 modalities x (fixed, depth 2, depth 3 x 4 widths), though three trials overlap."""
    study = make_study("grid")
    every = [json.dumps(params, sort_keys=True) for params in combinations(study.space)]
    assert len(every) == len({*every}) == 3 * 2 * (1 + 1 + 4)
    sampler = Sampler(study)
    proposed = []
    for number in range(len(every)):
        proposal = sampler.propose(number, given if number == 0 else {})
        proposed.append(json.dumps(proposal["params"], sort_keys=True))
        sampler.observe({"event": "proposed", "trial": number, "protected": False, **proposal})
        if number >= 3:
            ending = ["failed", "completed"][number % 2]
            sampler.observe(reported(number - 3, 1, 0.5))
            sampler.observe({"event": "ended", "trial": number - 3, "ending": ending})
    assert sorted(proposed) == sorted(every)


@pytest.mark.parametrize("further", [[], [SPEED]], ids=["one", "two"])
def test_nsga2_reaches_later_generations(further: list[Any]) -> None:
    """Also with pruned trials in between, and of one objective it finds better ones by it."""
    study = make_study("nsga2", further_objectives=further)
    events = overlapping(study, 60)
    generations = Counter(
        event["optuna"]["trial"]["NSGAIISampler:generation"]
        for event in events
        if event["event"] == "proposed"
    )
    assert max(generations) >= 5
    trials = replayed(study, events).optuna_study.trials
    values = [t.values[0] for t in trials if t.state == TrialState.COMPLETE]
    assert further or mean(values[-12:]) > mean(values[:12])


def test_learns_what_lacks_memory() -> None:
    """At most 0.3 of the proposals after trial 20, where Ray's stock searcher wastes nearly all."""
    objective = bench_memory.OBJECTIVES["saturates"]
    ours, theirs = (
        mean(bench_memory.share(run(objective, 60, seed)) for seed in range(3))
        for run in (bench_memory.segtune, bench_memory.stock)
    )
    assert ours <= 0.3
    assert theirs >= 0.75


@pytest.mark.parametrize("ending", ["infeasible", "diverged"])
def test_constraints_steer_tpe(ending: str) -> None:
    """Where trials cannot be trained, fewer are proposed, whatever their values were."""

    def share(told_as: str) -> float:
        sampler, beyond = Sampler(make_study()), []
        for number in range(50):
            params = sampler.propose(number, given={})["params"]
            beyond.append(params["optimizer.lr"] > 1e-3)
            sampler.observe(
                {"event": "proposed", "trial": number, "protected": False, "params": params}
            )
            sampler.observe(reported(number, 1, math.log10(params["optimizer.lr"])))
            told = told_as if beyond[-1] else "completed"
            sampler.observe({"event": "ended", "trial": number, "ending": told})
        return sum(beyond[20:]) / len(beyond[20:])

    assert 2 * share(ending) < share("failed")


@pytest.mark.parametrize(
    ("kind", "scheduler", "warned"),
    [("gp", "asha", True), ("nsga2", "asha", True), ("gp", "none", False), ("tpe", "asha", False)],
)
def test_warns_of_a_sampler_that_ignores_stopped_trials(
    kind: str, scheduler: str, warned: bool
) -> None:
    space = {"optimizer.lr": SPACE["optimizer.lr"]}
    lines = warnings(make_study(kind, space=space, scheduler={"type": scheduler, "max_t": 9}))
    assert [line.startswith(f"sampler.type: {kind}: ") for line in lines] == [True] * warned


@pytest.mark.parametrize("kind", TYPES)
def test_warns_of_a_prior_that_is_not_drawn_from(kind: str) -> None:
    space = {"model.depth": {"type": "int", "low": 2, "high": 5, "prior": 3}}
    trials, scheduler = {"num_trials": 4}, {"type": "none", "max_t": 9}
    said = [f"space.model.depth.prior: {kind} draws from no prior; tpe, curve_gp and random do"]
    lines = warnings(make_study(kind, space=space, trials=trials, scheduler=scheduler))
    assert lines == ([] if kind in ("tpe", "curve_gp", "random") else said)


@pytest.mark.parametrize(
    ("space", "problem"),
    [
        ({"batch.effective": [4, 8, 16], "model.width": [8, 16]}, "trials.num_trials: 8: the grid "
         "has 6 combinations only"),
        ({"batch.effective": [4, 8, 16], "optimizer.lr": (1e-4, 1e-2)}, "space.optimizer.lr: is "
         "continuous, but a grid needs a step or choices"),
    ],
)  # fmt: skip
def test_a_grid_must_be_finite_and_suffice(
    space: dict[str, Any], problem: str, tmp_path: Path, store: Path
) -> None:
    """Refused when the study is read; with as many trials as combinations it is accepted."""
    dimensions = {
        name: {"type": "categorical", "choices": values}
        if isinstance(values, list)
        else {"type": "float", "low": values[0], "high": values[1]}
        for name, values in space.items()
    }
    settings: dict[str, Any] = {"space": dimensions, "sampler": {"type": "grid"}, "enqueue": []}
    path = write_study(tmp_path, store, **settings)
    with pytest.raises(ConfigError) as error:
        load_study(path)
    assert error.value.lines == [f"{path}: {problem}"]
    if "trials" in problem:
        assert load_study(path, ["trials.num_trials=6"]).trials.num_trials == 6


def test_says_before_a_launch_what_will_not_be_proposed() -> None:
    """A space with fewer combinations than trials, an entry given twice, and clashes."""
    twin = {"loss.weighting": "learned"}
    trials = {"num_trials": 13}
    assert warnings(make_study(space=SMALL, enqueue=[twin, {}, twin], trials=trials)) == [
        "trials.num_trials: 13: the space has 12 combinations, each of which is trained once; then "
        "the study ends",
        "enqueue.2: is enqueue.0 again",
    ]
    [line] = warnings(make_study(space=steps([20, 1000], [10, 50]), trials={"num_trials": 2}))
    number = int(line.split()[4])
    assert line == (
        f"space: the trainer refuses {number} of 100 random combinations, which are no trials; "
        "most often: sampling.timestep_respacing is 50, but must be in 1..num_timesteps (20)"
    )
    assert 10 < number < 40


def steps(timesteps: list[int], respacing: list[int]) -> dict[str, Any]:
    """A space in which more sampling steps than timesteps clash."""
    return {
        "diffusion.num_timesteps": {"type": "categorical", "choices": timesteps},
        "sampling.timestep_respacing": {"type": "categorical", "choices": respacing},
    }


def test_a_space_in_which_everything_clashes_is_refused(tmp_path: Path, store: Path) -> None:
    """Before anything is spent, with the clash; each setting alone is possible."""
    train = {"validation.steps": "sampling"}
    path = write_study(tmp_path, store, train=train, space=steps([20, 30], [40, 50]), enqueue=[])
    with pytest.raises(ConfigError) as error:
        load_study(path)
    [line] = error.value.lines
    assert line.startswith(f"{path}: space: each of 100 random combinations is refused, for ")
    assert "but must be in 1..num_timesteps (" in line


def test_an_entry_that_clashes_however_it_is_completed_is_refused(
    tmp_path: Path, store: Path
) -> None:
    """It would end the study, and its own settings are possible beside the fixed ones."""
    entries = [{"sampling.timestep_respacing": 10}, {"sampling.timestep_respacing": 50}]
    train = {"validation.steps": "sampling"}
    space = steps([20, 30], [10, 50])
    path = write_study(tmp_path, store, train=train, space=space, enqueue=entries)
    with pytest.raises(ConfigError) as error:
        load_study(path)
    [line] = error.value.lines
    assert line.startswith(f"{path}: enqueue.1: each of 100 random combinations is refused, for ")


def test_the_warning_is_printed(tmp_path: Path, store: Path) -> None:
    """In the dry run, as at a launch."""
    scheduler = {"grace_period": 9, "max_t": 9}
    path = write_study(tmp_path, store, sampler={"type": "gp"}, scheduler=scheduler)
    result = CliRunner().invoke(main, ["launch", str(path), "--dry-run"])
    assert result.exit_code == 0, result.output
    assert f"{path}: sampler.type: gp: learns nothing from the trials that ASHA" in result.output
