"""Names in text: found where they stand, and nothing else."""

import json

import pytest

from search.ledger.line import encode, seal
from search.workflows.archive.pseudonymous_files import ledger_lines, names_in_events
from search.workflows.archive.pseudonyms import Pseudonyms, alike_but_for_case

KEY = b"k" * 32


def test_how_much_of_a_name_it_is_says_where_it_is_found() -> None:
    names = ("sub-stroke0001", "sub-stroke00012", "P01", "7", "mueller")
    pseudonyms = Pseudonyms(names, KEY)
    of = pseudonyms.of
    assert len({of(name) for name in names}) == 5 and of("MUELLER") == of("mueller")
    assert pseudonyms.common == ["7"]
    text = "xSub-Stroke00012.nii sub-stroke0001x P01_2 P012 muellers Mueller 7"
    found = pseudonyms.text(text)
    expected = f"x{of('sub-stroke00012')}.nii {of('sub-stroke0001')}x {of('P01')}_2 P012"
    assert found == f"{expected} muellers {of('mueller')} 7"
    assert pseudonyms.text("of 7", prose=True) == f"of {of('7')}"
    assert pseudonyms.text("7", key="case_id") == of("7")


def test_a_value_of_json_is_renamed_in_its_keys_and_sorted_anew() -> None:
    pseudonyms = Pseudonyms(("a1", "b2", "7"), KEY)
    of = pseudonyms.of
    value = {
        "covered": {"7": [7, "7"]},
        "missing": ["a1", "b2", "7"],
        "dice": {"a1": 0.5, "7": 1.0},
        "cases": [{"case_id": "b2", "n": 1}, {"case_id": "a1", "n": 2}],
        "text": "7 is odd",
    }
    assert [*pseudonyms.left_in(value)]
    new = pseudonyms.value(value)
    assert not [*pseudonyms.left_in(new)]
    assert new["covered"] == {"7": [7, "7"]} and new["text"] == f"{of('7')} is odd"
    assert new["missing"] == sorted(map(of, ("a1", "b2", "7")))
    assert new["dice"] == {of("a1"): 0.5, of("7"): 1.0} and [*new["dice"]] == sorted(new["dice"])
    assert {row["case_id"]: row["n"] for row in new["cases"]} == {of("b2"): 1, of("a1"): 2}
    assert [row["case_id"] for row in new["cases"]] == sorted(map(of, ("a1", "b2")))


@pytest.mark.parametrize("left", ["sub-stroke0001", "x/SUB-STROKE0001_y", "P01.nii", "is 7"])
def test_what_is_left_is_found(left: str) -> None:
    pseudonyms = Pseudonyms(("sub-stroke0001", "P01", "7"), KEY)
    assert [*pseudonyms.left_in({"text": [{"deep": left}]})]
    assert not [*pseudonyms.left_in({"text": [{"deep": "nobody, 71 and P011"}]})]


def test_another_key_gives_other_pseudonyms() -> None:
    assert Pseudonyms(["a1"], KEY).of("a1") != Pseudonyms(["a1"], b"o" * 32).of("a1")


def test_scores_go_with_their_cases_though_these_are_sorted_anew() -> None:
    """Also where names may be any number, and where only the ledger has them."""
    names, scores = ["1", "P02", "sub-stroke0001"], [0.1, "NaN", 0.3]
    events = [
        {"event": "cases", "case_list": 0, "names": names, "of": 3},
        {"event": "reported", "trial": 1, "epoch": 1, "case_list": 0, "case_scores": scores},
    ]
    assert [*names_in_events(events[0])] == names
    for key in (KEY, b"o" * 32, b"p" * 32):
        pseudonyms = Pseudonyms(names, key)
        lines = ledger_lines(b"".join(seal(encode(event)) for event in events), pseudonyms)
        cases, reported = (json.loads(line) for line in lines)
        assert cases["names"] == sorted(map(pseudonyms.of, names))
        by_name = dict(zip(cases["names"], reported["case_scores"], strict=True))
        assert by_name == {pseudonyms.of(n): s for n, s in zip(names, scores, strict=True)}


def test_a_name_is_found_as_systems_write_it() -> None:
    pseudonyms = Pseudonyms(["m\u00fcller99x", "sub 7/stroke1", "\u0130stanbul1"], KEY)
    for text in ("mu\u0308ller99x.nii", "sub%207/stroke1", "istanbul1", "M\u00dcLLER99X"):
        assert [*pseudonyms.left_in(text)] and "case-" in pseudonyms.text(text)
    assert pseudonyms.of("mu\u0308ller99x") == pseudonyms.of("m\u00fcller99x")


def test_cases_that_differ_in_capitals_alone_are_told() -> None:
    assert alike_but_for_case(["CASE_1", "case_1", "b"]) == ["CASE_1", "case_1"]
