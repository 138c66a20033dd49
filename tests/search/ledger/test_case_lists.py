"""What a report keeps of its cases: bounded, in an order written once, and what compare reads."""

import json
import math

import pytest

from search.ledger.case_lists import MAX_CASES, kept_cases, with_cases
from search.ledger.shapes import shape_problem
from search.ledger.state import StudyState

REPORTED = {"event": "reported", "trial": 0, "epoch": 1, "value": 0.5, "metrics": {}}
PROPOSED = {"event": "proposed", "trial": 0, "params": {}, "kind": "sampled", "protected": False}


def test_a_list_is_written_once_and_told_apart_from_another_folds():
    state = StudyState.replay([PROPOSED])
    kinds = []
    for epoch, names in enumerate(("ab", "ab", "cd", "ab"), start=1):
        cases = kept_cases(dict(zip(reversed(names), (0.123456789, 0.25), strict=True)))
        events = with_cases(REPORTED | {"epoch": epoch}, cases, state.case_lists)
        kinds.append([event["event"] for event in events])
        for event in events:
            state.apply(json.loads(json.dumps(event)))
    assert kinds == [["cases", "reported"], ["reported"], ["cases", "reported"], ["reported"]]
    reports = state.trials[0].reports
    assert [report.cases.names for report in reports] == [("a", "b")] * 2 + [("c", "d"), ("a", "b")]
    assert reports[0].scores == [0.25, 0.12346]


def test_of_many_cases_the_same_ones_are_kept_in_every_trial():
    one = kept_cases({f"case {i}": 1e-5 * i for i in range(1000)})
    other = kept_cases({f"case {i}": -1.23456789e-10 for i in reversed(range(1000))})
    assert one and other and one[0] == other[0]
    assert len(one[0].names) == MAX_CASES and one[0].of == 1000 and not one[0].is_whole
    assert len(json.dumps(other[1], separators=(",", ":"))) <= 12 * MAX_CASES + 1


def test_what_cannot_be_compared_is_left_out():
    assert kept_cases({"a": 0.5, "b": math.nan}) is None
    assert kept_cases({}) is None
    assert with_cases(REPORTED, None, []) == [REPORTED]


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"case_scores": [0.1, "0.2"]}, "case_scores: "),
        ({"case_scores": {"a": 1}}, "a list of numbers"),
        ({"case_list": -1}, "a whole number"),
    ],
)
def test_shapes_that_no_driver_writes(about, said):
    assert said in shape_problem(REPORTED | about)


def test_scores_of_a_list_that_is_not_there_contradict_the_ledger():
    with pytest.raises((AssertionError, LookupError)):
        StudyState.replay([PROPOSED, REPORTED | {"case_list": 0, "case_scores": [0.5]}])
    lists = {"event": "cases", "case_list": 0, "names": ["a", "b"], "of": 2}
    with pytest.raises(AssertionError, match="1 scores of 2 cases"):
        StudyState.replay([lists, PROPOSED, REPORTED | {"case_list": 0, "case_scores": [0.5]}])
