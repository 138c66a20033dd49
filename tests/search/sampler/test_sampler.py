"""What Optuna is told and proposes, without Ray."""

import json
import math
from collections import Counter
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from optuna.trial import TrialState
from scipy.stats import qmc

from search.cli.main import main
from search.sampler.sampler import UNTRAINABLE, Sampler
from search.study.config import StudyConfig
from search.study.load import load_study
from search.study.sampler_limits import combinations, warnings
from search.study.space import active
from tests.bench import bench_memory
from tests.search.conftest import Driver, write_study
from trainer.configfile import ConfigError

Event = dict[str, Any]

SPACE: dict[str, dict[str, Any]] = {
    "optimizer.lr": {"type": "float", "low": 1e-5, "high": 1e-1, "log": True},
    "model.width": {"type": "int", "low": 8, "high": 32, "step": 8, "when": {"model.depth": [3]}},
    "data.modalities": {"type": "categorical", "choices": [["ncct"], ["ncct", "tmax"]]},
    "loss.weighting": {"type": "categorical", "choices": ["fixed", "warm_in"]},
    "model.depth": {"type": "int", "low": 2, "high": 3, "when": {"loss.weighting": ["warm_in"]}},
}
"""With a condition of a condition, whose dimension comes before its own, and lists as choices."""

TYPES = ("tpe", "curve_gp", "random", "qmc", "gp", "grid", "nsga2")
SPEED = {"metric": "time/case_s", "mode": "min"}


def make_study(kind: str = "tpe", **settings: Any) -> StudyConfig:
    space = dict(SPACE)
    if kind == "grid":
        space["optimizer.lr"] = {"type": "float", "low": 0.1, "high": 0.3, "step": 0.1}
    return StudyConfig.model_validate(
        {
            "study": "toy",
            "data": {"store": "."},
            "space": space,
            "sampler": {"type": kind, "num_startup_trials": 4, "population_size": 4},
            "scheduler": {"max_t": 9, "smoothing": 2},
            "trials": {"num_trials": 40},
            **settings,
        }
    )


def reported(number: int, epoch: int, value: float, case_s: float = 1.0) -> Event:
    metrics = {"val/dice": value, "time/case_s": case_s}
    about = {"event": "reported", "trial": number, "epoch": epoch}
    return {**about, "value": value, "metrics": metrics}


def story(
    sampler: Sampler, number: int, values: Iterable[float], ending: str | None
) -> list[Event]:
    """Let a sampler propose and hear of one trial; return the events."""
    proposal = sampler.propose(number, given={})
    about = {"trial": number}
    events = [
        {"event": "proposed", **about, "kind": "sampled", "protected": False, **proposal},
        *(reported(number, epoch, value) for epoch, value in enumerate(values, 1)),
        *([{"event": "ended", **about, "ending": ending}] if ending else []),
    ]
    for event in events:
        sampler.observe(event)
    return events


def replayed(study: StudyConfig, events: Iterable[Event]) -> Sampler:
    """Return a sampler that read the events from a file."""
    sampler = Sampler(study)
    for event in json.loads(json.dumps(list(events))):
        sampler.observe(event)
    return sampler


def overlapping(study: StudyConfig, num_trials: int) -> list[Event]:
    """Run trials of which three overlap and which end in every way; return the events."""
    sampler = Sampler(study)
    params: list[dict[str, Any]] = []
    endings = ["completed", "stopped", "completed", "infeasible", "completed", "stalled", "failed"]
    events: list[Event] = []
    for number in range(num_trials):
        proposal = sampler.propose(number, given={})
        params.append(proposal["params"])
        events.append({"event": "proposed", "trial": number, "protected": False, **proposal})
        sampler.observe(events[-1])
        if (ended := number - 2) >= 0:
            lr = params[ended]["optimizer.lr"]
            value = 0.5 - 0.1 * abs(math.log10(lr) + 3)
            for event in (
                reported(ended, 1, value, case_s=lr * ended),
                {"event": "ended", "trial": ended, "ending": endings[ended % len(endings)]},
            ):
                events.append(event)
                sampler.observe(event)
    return events


def test_the_sampler_sees_smoothed_values_and_infeasible_trials() -> None:
    """Values are smoothed as ASHA's are; what is infeasible is seen, not hidden as a failure."""
    sampler = Sampler(make_study())
    for number, (values, ending) in enumerate(
        [
            ([0.1, 0.3, 0.4], "completed"),
            ([0.4, 0.2, 0.2], "stalled"),
            ([0.1, 0.3], "stopped"),
            ([0.2, math.nan], "diverged"),
            ([], "infeasible"),
            ([0.2], "failed"),
            ([0.2], None),
        ]
    ):
        story(sampler, number, values, ending)
    trials = sampler.optuna_study.trials
    completed, stalled, stopped, diverged, infeasible, failed, running = trials
    assert (completed.state, completed.value) == (TrialState.COMPLETE, pytest.approx(0.35))
    assert (stalled.state, stalled.value) == (TrialState.COMPLETE, pytest.approx(0.2))
    assert stopped.state == TrialState.PRUNED
    assert stopped.intermediate_values == {1: 0.1, 2: pytest.approx(0.2)}
    for trial in (diverged, infeasible):
        assert (trial.state, trial.constraints) == (TrialState.PRUNED, {UNTRAINABLE: 1.0})
    assert failed.state == TrialState.FAIL
    assert running.state == TrialState.RUNNING
    assert not completed.constraints and not stopped.constraints


@pytest.mark.parametrize("kind", ["gp", "nsga2"])
def test_who_learns_from_complete_trials_alone_is_told_of_the_untrainable(kind: str) -> None:
    """As complete with a violated constraint and the worst value, once there is one."""
    sampler = Sampler(make_study(kind))
    for number, (values, ending) in enumerate(
        [([], "infeasible"), ([0.4], "completed"), ([0.3], "completed"), ([0.9], "diverged")]
    ):
        story(sampler, number, values, ending)
        first = sampler.optuna_study.trials[0]
        assert first.state == (TrialState.COMPLETE if number else TrialState.RUNNING)
    trials = sampler.optuna_study.trials
    assert [trial.state for trial in trials] == 4 * [TrialState.COMPLETE]
    assert [trial.value for trial in trials] == [0.4, 0.4, 0.3, 0.3]
    violated = [trial.constraints[UNTRAINABLE] for trial in trials]
    assert violated == [1.0, -1.0, -1.0, 1.0]


def test_a_resumed_trial_is_told_once() -> None:
    """What it does with more epochs is not compared with what others did with fewer."""
    sampler = Sampler(make_study())
    story(sampler, 0, [0.1, 0.3], "completed")
    for event in (
        {"event": "resumed", "trial": 0, "epoch": 2, "epochs": 4},
        reported(0, 3, 0.9),
        {"event": "ended", "trial": 0, "ending": "completed"},
    ):
        sampler.observe(event)
    [trial] = sampler.optuna_study.trials
    assert trial.value == pytest.approx(0.2)


def test_several_objectives_are_told_at_the_end() -> None:
    """Each smoothed; a stopped trial has none, and one that could not be measured neither."""
    sampler = Sampler(make_study(further_objectives=[SPEED]))
    for number, (reports, ending) in enumerate(
        [
            ([(0.1, 9.0), (0.3, 2.0), (0.4, math.nan)], "completed"),
            ([(0.1, 1.0)], "stopped"),
            ([(0.1, math.nan)], "completed"),
            ([], "infeasible"),
        ]
    ):
        story(sampler, number, [], None)
        for epoch, (value, case_s) in enumerate(reports, 1):
            sampler.observe(reported(number, epoch, value, case_s))
        sampler.observe({"event": "ended", "trial": number, "ending": ending})
    states = [trial.state for trial in sampler.optuna_study.trials]
    assert states == [TrialState.COMPLETE] + 3 * [TrialState.PRUNED]
    assert sampler.optuna_study.trials[0].values == pytest.approx([0.35, 2.0])
    assert [d.name for d in sampler.optuna_study.directions] == ["MAXIMIZE", "MINIMIZE"]


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=pytest.mark.slow) if k == "gp" else k for k in TYPES]
)
@pytest.mark.parametrize("further", [[], [SPEED]], ids=["one", "two"])
def test_a_continued_study_proposes_the_same(kind: str, further: list[Any]) -> None:
    """Whatever a sampler notes between its draws is in the ledger; trials overlap and end early."""
    study = make_study(kind, further_objectives=further)
    num_trials = 10 if kind == "gp" else 30
    events = overlapping(study, num_trials)
    proposals = [index for index, event in enumerate(events) if event["event"] == "proposed"]
    # Every one, but for the sampler that takes its time.
    for index in proposals[-2:] if kind == "gp" else proposals:
        number = events[index]["trial"]
        proposal = json.loads(json.dumps(replayed(study, events[:index]).propose(number, {})))
        assert proposal == {key: events[index][key] for key in proposal}
        assert {*events[index]} - {*proposal} == {"event", "trial", "protected"}


def test_running_trials_count_alike_in_a_replay() -> None:
    """TPE takes a running trial to have what it drew for it, used or not: a note of Optuna's."""
    study = make_study(sampler={"type": "tpe", "num_startup_trials": 1})
    sampler, events = Sampler(study), []
    first: dict[str, Any] = {"loss.weighting": "warm_in", "model.depth": 3}
    for number, given in enumerate([first, *4 * [{"loss.weighting": "fixed"}]]):
        proposal = sampler.propose(number, given)
        events.append({"event": "proposed", "trial": number, "protected": False, **proposal})
        if number == 0:
            events += [reported(0, 1, 0.5), {"event": "ended", "trial": 0, "ending": "completed"}]
        for event in events[-1:] if number else events:
            sampler.observe(event)
    assert replayed(study, events).propose(5, {}) == sampler.propose(5, {})


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=pytest.mark.slow) if k == "gp" else k for k in TYPES]
)
def test_proposals_respect_the_space(kind: str) -> None:
    """Every value lies in the space; a dimension is there only while its conditions hold."""
    study = make_study(kind)
    events = overlapping(study, 12 if kind == "gp" else 24)
    seen = set()
    for event in events:
        if event["event"] == "proposed":
            params = event["params"]
            assert all(study.space[name].contains(value) for name, value in params.items())
            assert {*params} == {*active(study.space, params)}
            assert isinstance(params["data.modalities"], list)
            seen.add(len(params))
    assert seen == {3, 4, 5}


@pytest.mark.parametrize("kind", ["tpe", "qmc", "grid", "nsga2"])
def test_other_trials_change_nothing(kind: str) -> None:
    """References and confirming trials leave holes in the numbers, and no trace in proposals."""
    study = make_study(kind)
    alone, beside, numbers = Sampler(study), Sampler(study), count(7, 3)
    for ordinal in range(16):
        first, second = (sampler.propose(ordinal, {}) for sampler in (alone, beside))
        assert first == second
        for sampler, number in ((alone, ordinal), (beside, next(numbers))):
            about = {"trial": number}
            sampler.observe({"event": "proposed", **about, "protected": False, **first})
            sampler.observe(reported(number, 1, 0.1 * (ordinal % 5)))
            sampler.observe({"event": "ended", **about, "ending": "completed"})
        other = {"trial": next(numbers)}
        params = {"loss.weighting": "warm_in"}
        beside.observe({"event": "proposed", **other, "params": params, "protected": True})
        beside.observe(reported(other["trial"], 1, 0.99))
        beside.observe({"event": "ended", **other, "ending": "completed"})


@pytest.mark.parametrize("kind", TYPES)
def test_enqueued_is_filled_in(kind: str) -> None:
    """What an enqueued trial leaves open is drawn; a choice may be a list."""
    given = {"data.modalities": ["ncct", "tmax"], "loss.weighting": "warm_in", "model.depth": 3}
    params = Sampler(make_study(kind)).propose(2, given)["params"]
    assert given.items() <= params.items()
    assert {*params} == {*SPACE}


def test_equal_choices_of_other_types() -> None:
    """Optuna takes True for 1; the trainer does not."""
    choices = [1, True, "1", None]
    space = {"model.depth": {"type": "categorical", "choices": choices}}
    sampler = Sampler(make_study(space=space))
    for number, choice in enumerate(choices):
        params = sampler.propose(number, {"model.depth": choice})["params"]
        assert params == {"model.depth": choice}
        assert type(params["model.depth"]) is type(choice)


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


SMALL: dict[str, Any] = {
    "loss.weighting": {"type": "categorical", "choices": ["fixed", "learned"]},
    "loss.dice": {
        "type": "float", "low": 0.1, "high": 0.3, "step": 0.1,
        "when": {"loss.weighting": ["fixed"]},
    },
    "batch.effective": {"type": "int", "low": 2, "high": 6, "step": 2},
}  # fmt: skip
"""(3 + 1) x 3 combinations."""


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=pytest.mark.slow) if k == "gp" else k for k in TYPES]
)
def test_no_configuration_is_proposed_twice(kind: str) -> None:
    """All 12 come once, also those that failed, and then nothing; a rebuilt sampler agrees."""
    study = make_study(kind, space=SMALL)
    sampler, events, seen = Sampler(study), [], set()
    for number in range(12):
        proposal = sampler.propose(number, {})
        assert proposal is not None
        if kind != "gp" or number > 9:
            assert replayed(study, events).propose(number, {}) == proposal
        ending = ["completed", "failed", "infeasible"][number % 3]
        about = {"trial": number}
        for event in (
            {"event": "proposed", **about, "protected": False, **proposal},
            reported(number, 1, 0.5 - 0.1 * proposal["params"]["batch.effective"]),
            {"event": "ended", **about, "ending": ending},
        ):
            events.append(event)
            sampler.observe(event)
        params = proposal["params"]
        seen.add(
            tuple(
                f"{params.get(name, 0):.9g}" if name != "loss.weighting" else params[name]
                for name in SMALL
            )
        )
    assert len(seen) == 12
    assert sampler.propose(12, {}) is None


def test_what_is_given_again_is_honoured_and_says_as_which_trial() -> None:
    """An entry that leaves something open is filled in otherwise, while that is possible."""
    sampler = Sampler(make_study(space=SMALL))
    whole = {"loss.weighting": "learned", "batch.effective": 4}
    proposed = []
    for number, given in enumerate([whole, whole, *4 * [{"loss.weighting": "learned"}]]):
        proposal = sampler.propose(number, given)
        assert proposal is not None and given.items() <= proposal["params"].items()
        sampler.observe({"event": "proposed", "trial": number, "protected": False, **proposal})
        proposed.append((proposal["params"]["batch.effective"], proposal.get("same_as")))
    assert proposed[:2] == [(4, None), (4, 0)]
    assert {batch for batch, _ in proposed[2:4]} == {2, 6}
    assert [same is None for _, same in proposed[2:]] == [True, True, False, False]


def test_neither_references_nor_earlier_studies_count_as_tried() -> None:
    """They are no results of the search; the sampler may propose the same."""
    sampler = Sampler(make_study("grid", space=SMALL))
    imported = {"event": "imported", "params": {"loss.weighting": "learned", "batch.effective": 2}}
    sampler.observe({**imported, "values": [[9, 0.5]], "ending": "completed"})
    reference = {"event": "proposed", "trial": 1, "protected": True}
    sampler.observe({**reference, "params": {"loss.weighting": "learned", "batch.effective": 4}})
    for number in range(12):
        proposal = sampler.propose(number, {})
        assert proposal is not None
        sampler.observe({"event": "proposed", "trial": number + 2, "protected": False, **proposal})
    assert sampler.propose(12, {}) is None


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


def test_proposals_depend_on_the_events_alone(calm: Driver) -> None:
    """A driver that starts anywhere in a study proposes what the uninterrupted one proposed."""
    study = load_study(calm.study)
    events = calm.events()
    sampled = [i for i, e in enumerate(events) if e["event"] == "proposed" and not e["protected"]]
    for ordinal, index in enumerate(sampled, study.num_protected):
        given = study.enqueue[0] if events[index]["kind"] == "enqueued" else {}
        proposal = replayed(study, events[:index]).propose(ordinal, given)
        assert proposal["params"] == events[index]["params"]
        assert proposal.get("optuna") == events[index].get("optuna")


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
