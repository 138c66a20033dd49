"""ASHA against Ray's own bracket, and what Ray's does not have."""

import json
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.pruning.asha import Asha, rung_levels


def make(**changes) -> Asha:
    config = {
        "grace_period": 1,
        "max_t": 27,
        "reduction_factor": 3,
        "brackets": 1,
        "smoothing": 1,
        "mode": "max",
        "seed": 0,
        "validate_every": 1,
    }
    return Asha(**{**config, **changes})


def run(asha: Asha, reports: list[tuple[int, int, float]]) -> list[tuple]:
    """Feed (trial, epoch, value); reports of trials that ended are left out, as a driver would."""
    decisions, seen, ended = [], set(), set()
    for trial, epoch, value in reports:
        if trial in ended:
            continue
        if trial not in seen:
            asha.add(trial)
            seen.add(trial)
        decision = asha.report(trial, epoch, value)
        decisions.append((trial, epoch, decision))
        if decision.action != "continue":
            ended.add(trial)
    return decisions


@pytest.mark.parametrize(
    ("grace_period", "max_t", "reduction_factor", "bracket", "validate_every", "expected"),
    [
        (1, 1000, 10, 0, 1, [1, 10, 100]),  # in floats int(log(1000)/log(10)) is 2
        (9, 81, 3, 0, 1, [9, 27]),
        (9, 81, 3, 1, 1, [27]),
        (1, 3**7, 3, 0, 1, [3**k for k in range(7)]),
        (1, 27, 3, 0, 2, [2, 4, 10]),  # 1, 3, 9 rounded up to validated epochs
        (1, 9, 2, 0, 4, [4, 8]),  # 1, 2 and 4 fall together
        (5, 5, 3, 0, 1, []),
    ],
)
def test_rungs_of_a_bracket_in_closed_form(
    grace_period, max_t, reduction_factor, bracket, validate_every, expected
):
    levels = rung_levels(
        grace_period=grace_period,
        max_t=max_t,
        reduction_factor=reduction_factor,
        bracket=bracket,
        validate_every=validate_every,
    )
    assert levels == expected


def test_rungs_are_exact_for_every_power():
    for factor in range(2, 11):
        for power in range(1, 8):
            levels = make(max_t=factor**power, reduction_factor=factor).rungs[0]
            assert levels == [factor**k for k in range(power)]


@settings(max_examples=200, deadline=None)
@given(
    grace_period=st.integers(1, 4),
    max_t=st.integers(4, 40),
    reduction_factor=st.integers(2, 5),
    mode=st.sampled_from(["min", "max"]),
    seed=st.integers(0, 2**32),
    values=st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=60),
)
def test_decides_as_rays_own_bracket(grace_period, max_t, reduction_factor, mode, seed, values):
    """Trials interleaved at random, every epoch reported, values with and without ties."""
    from types import SimpleNamespace

    from ray.tune.schedulers.async_hyperband import _Bracket

    asha = make(
        grace_period=grace_period, max_t=max_t, reduction_factor=reduction_factor, mode=mode
    )
    theirs = _Bracket(grace_period, max_t, reduction_factor, 0)
    sign = 1.0 if mode == "max" else -1.0
    draw = random.Random(seed)
    epochs = {trial: 0 for trial in range(8)}
    for trial in epochs:
        asha.add(trial)
    while epochs:
        trial = draw.choice(list(epochs))
        epochs[trial] += 1
        value = draw.choice(values)
        action = asha.report(trial, epochs[trial], value).action
        if epochs[trial] >= max_t:
            assert action == "complete"  # Ray's scheduler stops here without asking the bracket
        else:
            at = [recorded for level, recorded in theirs._rungs if level == epochs[trial]]
            cutoff = theirs.cutoff(at[0]) if at else None
            expected = theirs.on_result(
                SimpleNamespace(trial_id=trial), epochs[trial], sign * value
            )
            # numpy's cutoff is off by a rounding where ours is exact; only ties can tell.
            tie = cutoff is not None and np.isclose(sign * value, cutoff, rtol=1e-9, atol=1e-12)
            assert tie or action == {"CONTINUE": "continue", "STOP": "stop"}[expected]
        if action != "continue":
            del epochs[trial]


def test_a_value_equal_to_the_cutoff_passes():
    """Of ten results at factor 3: numpy's cutoff is 0.6000000000000001, and Ray stops the 0.6."""
    asha = make()
    run(asha, [(trial, 1, trial / 10) for trial in range(10)])
    assert run(asha, [(10, 1, 0.6)])[0][2].action == "continue"
    assert run(asha, [(11, 1, 0.59)])[0][2].action == "stop"


@st.composite
def histories(draw):
    """Settings and a random interleaving of reports, some of them not finite."""
    seed = draw(st.integers(0, 2**32))
    random_ = random.Random(seed)
    validate_every = draw(st.integers(1, 3))
    config = {
        "grace_period": draw(st.integers(1, 3)),
        "max_t": draw(st.integers(3, 30)),
        "reduction_factor": draw(st.integers(2, 4)),
        "brackets": draw(st.integers(1, 3)),
        "smoothing": draw(st.integers(1, 4)),
        "mode": draw(st.sampled_from(["min", "max"])),
        "seed": seed,
        "validate_every": validate_every,
    }
    epochs = dict.fromkeys(range(draw(st.integers(1, 12))), 0)
    reports = []
    for _ in range(draw(st.integers(1, 150))):
        trial = random_.choice(list(epochs))
        epochs[trial] += validate_every
        value = math.nan if random_.random() < 0.01 else random_.gauss(trial / 10, 0.2)
        reports.append((trial, epochs[trial], value))
    return config, reports


@settings(max_examples=100, deadline=None)
@given(history=histories(), cut=st.floats(0, 1))
def test_a_snapshot_through_json_continues_equally(history, cut):
    config, reports = history
    whole = make(**config)
    expected = run(whole, reports)

    first = make(**config)
    at = int(cut * len(reports))
    before = run(first, reports[:at])
    restored = Asha.restore(json.loads(json.dumps(first.snapshot(), allow_nan=False)))
    ended = {trial for trial, _, decision in before if decision.action != "continue"}
    after = run(restored, [report for report in reports[at:] if report[0] not in ended])

    assert before + after == expected
    assert restored.snapshot() == whole.snapshot()


def test_a_snapshot_does_not_share_state():
    asha = make()
    run(asha, [(0, 1, 0.5)])
    snapshot = asha.snapshot()
    text = json.dumps(snapshot)
    run(asha, [(1, 1, 0.4)])
    asha.report(0, 2, 0.1)
    assert json.dumps(snapshot) == text


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("epoch", [2, 27])  # between rungs, and at max_t
def test_not_finite_stops_and_leaves_no_result(value, epoch):
    asha = make()
    run(asha, [(0, 1, 0.5)])
    before = asha.snapshot()["results"]
    decision = asha.report(0, epoch, value)
    assert decision.action == "stop"
    assert str(value) in decision.reason
    assert asha.snapshot()["results"] == before


def test_rungs_are_walked_upwards():
    """A first report beyond two rungs is judged at both, the lower one first."""
    asha = make()
    run(asha, [(0, 1, 0.9), (1, 1, 0.2)])  # rung 1 has 0.9 and 0.2
    decision = run(asha, [(2, 9, 0.95)])[0][2]
    assert (decision.action, decision.rung) == ("continue", 9)
    decision = run(asha, [(3, 9, 0.1)])[0][2]  # fails at the lowest: recorded there alone
    assert (decision.action, decision.rung) == ("stop", 1)
    assert [len(results) for results in asha.snapshot()["results"][0]] == [4, 1, 1]


def test_ranks_the_mean_of_the_last_values():
    asha = make(grace_period=3, smoothing=3)
    steady = [(0, epoch, 0.5) for epoch in (1, 2, 3)]
    lucky = [(1, 1, 0.1), (1, 2, 0.1), (1, 3, 0.9)]  # mean 0.37: one lucky draw does not pass
    assert run(asha, steady + lucky)[-1][2].action == "stop"
    asha = make(grace_period=3, smoothing=1)
    assert run(asha, steady + lucky)[-1][2].action == "continue"


def test_smaller_is_better_with_min():
    asha = make(mode="min")
    decisions = run(asha, [(0, 1, 5.0), (1, 1, 4.0), (2, 1, 9.0)])
    assert [decision.action for _, _, decision in decisions] == ["continue", "continue", "stop"]
    assert decisions[2][2].reason == "rung 1: 9 above cutoff 4.333 of 2"


def test_reasons_say_where_and_by_what():
    asha = make(grace_period=9, max_t=81)
    reports = [(0, 9, 0.2), (1, 9, 0.3), (2, 9, 0.1), (3, 9, 0.3), (3, 10, 0.0), (3, 81, 0.4)]
    assert [decision.reason for _, _, decision in run(asha, reports)] == [
        "rung 9: 0.2 is the first",
        "rung 9: 0.3 above cutoff 0.2 of 1",
        "rung 9: 0.1 below cutoff 0.2667 of 2",
        "rung 9: 0.3 above cutoff 0.2333 of 3",
        "",
        "epoch 81 is its last",
    ]


def test_brackets_are_drawn_from_seed_and_number_alone():
    config = {"max_t": 27, "brackets": 3}
    asha, other = make(**config, seed=1), make(**config, seed=2)
    drawn = [asha.add(trial) for trial in range(2000)]
    backwards = make(**config, seed=1)
    assert [backwards.add(trial) for trial in reversed(range(2000))] == drawn[::-1]
    assert [other.add(trial) for trial in range(2000)] != drawn
    # Softmax of the number of rungs, 3, 2 and 1, as in Ray.
    shares = np.exp([3, 2, 1]) / np.exp([3, 2, 1]).sum()
    assert np.bincount(drawn) / 2000 == pytest.approx(shares, abs=0.03)


def test_protected_trials_leave_no_trace():
    asha = make()
    run(asha, [(0, 1, 0.5)])
    before = asha.snapshot()
    assert asha.report_protected(1, -9.0, 27).action == "continue"
    assert asha.report_protected(27, -9.0, 27).action == "complete"
    assert asha.report_protected(3, math.nan, 27).action == "stop"
    assert asha.snapshot() == before
