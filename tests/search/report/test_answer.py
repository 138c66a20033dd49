"""What a study has found in one sentence, and what to do next, by the rules that are stated."""

from pathlib import Path
from typing import Any

import pytest

from search.analysis.next_step import next_step
from search.analysis.results import compare
from search.analysis.shortfall import is_far_below
from search.report.answer import answer
from search.report.leaderboard import leaderboard_text
from search.study.search_sections import Budget
from tests.search.analysis.test_results import PARAMS, STUDY, TRIALS, write

Trials = dict[int, tuple[str, list[float], str | None]]
ENDED: Trials = {
    0: ("control", [0.1, 0.2, 0.4], "completed"),
    1: ("reference", [0.1, 0.2, 0.3], "completed"),
    2: ("sampled", [0.2, 0.3], "stopped"),
    3: ("sampled", [0.2, 0.4, 0.5], "completed"),
    4: ("sampled", [0.1, 0.2, 0.45], "completed"),
}


def result_of(folder: Path, trials: Trials, *, searched: int = 3, **changes: Any) -> dict[str, Any]:
    """Return what `compare` finds of a study that is to have so many searched trials."""
    trials_of = STUDY.trials.model_copy(update={"num_trials": searched})
    references = STUDY.model_validate(
        STUDY.model_dump()
        | {"enqueue": (), "references": [{"name": "baseline", "settings": PARAMS}]}
    ).references
    settings = {"trials": trials_of, "enqueue": (), "references": references} | changes
    # In the usual folder, which commands need not name.
    return compare(write(folder / "demo", trials, **settings)) | {"runs": "runs"}


def told(result: dict[str, Any], **ends: tuple[float, float]) -> dict[str, Any]:
    """Return a result in which what `ends` names differs from the best by such an interval."""
    rows = [
        row | {"difference_to_best": {"mean": sum(ends[row["name"]]) / 2, "epoch": 9,
                                      "interval": list(ends[row["name"]])}}
        if row["name"] in ends else row
        for row in result["references"]
    ]  # fmt: skip
    return result | {"references": rows}


def scores(number: int, role: str) -> dict[str, Any]:
    return {"trial": number, "role": role}


def verdict(word: str, **more: Any) -> dict[str, Any]:
    comparison = {"trial": 3, "other": 0, "family": "control", "verdict": word, "mean": 0.1,
                  "interval": [0.02, 0.2]} | more  # fmt: skip
    return {
        "on": "validation",
        "where": "on folds 1, 2, 3, 4",
        "metric": "val/dice",
        "scores": [scores(3, "candidate"), scores(0, "control")],
        "comparisons": [comparison],
    }


def test_what_is_ahead_is_told_with_its_interval(tmp_path: Path) -> None:
    result = result_of(tmp_path, ENDED)
    said = answer(told(result, control=(-0.2, -0.1), baseline=(-0.3, 0.1)))
    assert said == (
        "demo:3 is best with lr=0.0002, target=eps: Dice 0.5000, selected on, optimistic; "
        "it beats the control by Dice 0.150 [0.100, 0.200], "
        "it is not told from baseline (Dice +0.100 [-0.100, +0.300]); "
        "too few trials tell what mattered; "
        "next: `segtune confirm demo`, as one seed on one fold decides nothing"
    )
    said = answer(told(result, control=(0.1, 0.2)))
    assert "it is behind the control by Dice 0.150 [0.100, 0.200]" in said
    assert "`segtune explain demo:3`, as the plain U-Net is better" in said
    assert "Dice +0.200 against baseline (cases too few or too alike to tell)" in answer(result)


def test_what_mattered_is_what_the_importance_is_sure_of(tmp_path: Path) -> None:
    result = result_of(tmp_path, ENDED)
    rows = [{"name": "optimizer.lr", "mattered": True}, {"name": "loss.dice", "mattered": False}]
    sure = result | {"importance": {"missing": 0, "parameters": rows}}
    assert "; optimizer.lr mattered; " in answer(sure)
    unsure = result | {"importance": {"missing": 0, "parameters": rows[1:]}}
    assert "; no setting's effect is told from chance; " in answer(unsure)


@pytest.mark.parametrize(
    ("dice", "control", "settled", "far"),
    [(0.03, 0.47, True, True), (0.03, 0.47, False, False), (0.24, 0.47, True, False),
     (0.01, 0.09, True, False), (None, 0.47, True, False), (0.03, None, True, False)],
)  # fmt: skip
def test_far_below(dice: float | None, control: float | None, settled: bool, far: bool) -> None:
    assert is_far_below(dice, control, settled=settled) is far


def test_far_below_the_control_the_data_is_not_the_reason(tmp_path: Path) -> None:
    """The baseline is looked at first where it is as far below."""
    low: Trials = ENDED | {
        0: ("control", [0.1, 0.3, 0.47], "completed"),
        2: ("sampled", [0.01], "stopped"),
        3: ("sampled", [0.01, 0.02, 0.03], "completed"),
        4: ("sampled", [0.01, 0.02, 0.02], "completed"),
    }
    result = result_of(tmp_path / "a", low)
    said = "the control reaches 0.47 where the best reaches 0.03: the data is not the reason"
    assert said in answer(result)
    assert next_step(result).command == "segtune explain demo:3"
    low[1] = ("reference", [0.01, 0.02, 0.025], "completed")
    assert next_step(result_of(tmp_path / "b", low)).command == "segtune explain demo:1"
    young = {n: low[n] for n in (0, 1)} | {3: ("sampled", [0.01], None)}
    assert "not the reason" not in answer(result_of(tmp_path / "c", young))


def test_below_a_threshold_the_best_is_explained(tmp_path: Path) -> None:
    """The threshold of `write` has Dice 0.31."""
    low = {
        n: (kind, [v / 2 for v in values], ending) for n, (kind, values, ending) in ENDED.items()
    }
    assert next_step(result_of(tmp_path, low)).why == "a single threshold scores more (Dice 0.3100)"


def test_a_search_goes_on_before_it_is_judged(tmp_path: Path) -> None:
    result = result_of(tmp_path / "a", ENDED, searched=9)
    assert next_step(result) == ("", "the search is not finished")
    assert answer(result).endswith("; the search is not finished")
    spent = Budget(epochs=9)
    assert (
        "confirm" in next_step(result_of(tmp_path / "b", ENDED, searched=9, budget=spent)).command
    )
    assert result_of(tmp_path / "c", ENDED | {5: TRIALS[6]}, searched=4)["over"] is None


def test_few_trials_that_nothing_is_told_from_become_more(tmp_path: Path) -> None:
    result = told(result_of(tmp_path, ENDED), control=(-0.2, 0.1), baseline=(-0.2, 0.1))
    command = f"segtune launch {tmp_path}/demo/study.yaml --runs {tmp_path} trials.num_trials=12"
    assert next_step(result).command == command
    assert "confirm" in next_step(result | {"exhausted": "all were tried"}).command
    many = result | {"trials": result["trials"] * 4}
    assert next_step(many).command == "segtune confirm demo"


def test_with_fewer_than_three_confirm_takes_those_that_there_are(tmp_path: Path) -> None:
    few = {n: ENDED[n] for n in (0, 1, 2, 3)}
    result = told(result_of(tmp_path, few, searched=2), control=(-0.2, -0.1))
    assert next_step(result).command == "segtune confirm demo --top 2"


def test_after_a_verdict(tmp_path: Path) -> None:
    result = told(result_of(tmp_path, ENDED), control=(-0.2, -0.1))
    assert result["respaceable"] and result["confirmable"]

    def after(*verdicts: dict[str, Any], **changes: Any) -> str:
        return next_step(result | {"verdicts": list(verdicts), **changes}).command

    assert after(verdict("better")) == "segtune respace demo:3"
    assert after(verdict("better"), respaceable=False) == "segtune export demo:3 model"
    assert after(verdict("worse")) == "segtune explain demo:3"
    more = {"seeds": 8, "half_width": 0.1, "half_width_now": 0.2}
    assert after(verdict("not distinguishable", more_seeds=more)) == (
        "segtune confirm demo --seeds 8 --top 1"
    )
    assert after(verdict("better"), trainer="python train.py") == "", "segtune cannot take it out"
    other = verdict("better") | {"scores": [scores(2, "candidate")]}
    assert after(other) == "segtune confirm demo", "another was best then"
    said = answer(result | {"verdicts": [verdict("better")]})
    assert (
        "confirmed on folds 1, 2, 3, 4: better than the control (trial 0) "
        "(Dice +0.1000 [+0.0200, +0.2000])" in said
    )


def test_without_a_result(tmp_path: Path) -> None:
    nothing: Trials = {0: TRIALS[0]}
    assert answer(result_of(tmp_path / "a", nothing)) == "no trial has a result yet"
    failed: Trials = {0: TRIALS[0], 2: ("sampled", [], "failed"), 3: ("sampled", [], None)}
    assert next_step(result_of(tmp_path / "b", failed)) == ("segtune retry demo", "1 failed: why")
    diverged: Trials = {0: TRIALS[0], 2: ("sampled", [float("nan")], "diverged")}
    assert next_step(result_of(tmp_path / "c", diverged)).command == "segtune explain demo:2"


def test_commands_name_another_folder_of_studies(tmp_path: Path) -> None:
    result = told(result_of(tmp_path, ENDED), control=(-0.2, -0.1)) | {"runs": "my runs"}
    assert next_step(result).command == "segtune confirm demo --runs 'my runs'"


def test_a_study_that_nothing_can_confirm(tmp_path: Path) -> None:
    """Its weights were trained on the folds that would."""
    result = result_of(tmp_path, ENDED) | {"confirmable": False}
    result = told(result, control=(-0.2, -0.1))
    assert next_step(result) == ("segtune respace demo", "nothing can confirm it")


def test_the_leaderboard_ends_with_it_and_its_command_is_in_one_piece(tmp_path: Path) -> None:
    result = told(result_of(tmp_path, ENDED), control=(-0.2, -0.1))
    for width in (60, 80, 100):
        last = leaderboard_text(result, width).rpartition("\n\n")[2]
        assert " ".join(last.split()) == answer(result)
        assert any("`segtune confirm demo`" in line for line in last.splitlines())
        assert max(map(len, last.splitlines())) <= width
