"""The confirmed best of several studies, against what one study that has both says of them."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from search.analysis.results import compare_studies
from search.analysis.verdicts.between_studies import between_studies
from search.ledger.line import decode, encode, seal
from search.report.page_html import write_html
from search.report.side_by_side import side_by_side

FEW = "before both have 3 seeds on the same folds"
RESULTS = Path(__file__).resolve().parents[3] / "spaces" / "results"


def unpack(
    root: Path,
    name: str,
    best: int | None = None,
    *,
    as_name: str = "",
    seeds: int = 99,
    change: Callable[[dict], None] = lambda event: None,
) -> Path:
    """Write a shipped study.

    Args:
        root: Below which its folder is written.
        name: What is shipped.
        best: As if that was what it confirmed.
        as_name: The study's name.
        seeds: No more than so many are confirmed with.
        change: Is called with each event.
    """
    folder = root / (as_name or name)
    folder.mkdir(parents=True)
    lines = []
    for line in gzip.decompress((RESULTS / f"{name}.jsonl.gz").read_bytes()).splitlines():
        event = decode(line)
        if event["event"] == "study":
            event["config"]["study"], event["uid"] = folder.name, str(folder)
        if event["event"] == "verdict":
            event["seeds"], event["folds"] = event["seeds"][:seeds], event["folds"][:seeds]
            for row in event["scores"]:
                if best is not None:
                    row["role"] = "candidate" if row["trial"] == best else "reference"
        change(event)
        lines.append(seal(encode(event)))
    (folder / "ledger.jsonl").write_bytes(b"".join(lines))
    return folder


def verdict_of(name: str) -> dict:
    lines = gzip.decompress((RESULTS / f"{name}.jsonl.gz").read_bytes()).splitlines()
    return [event for line in lines if (event := decode(line))["event"] == "verdict"][-1]


def test_as_one_study_that_has_both_says(tmp_path):
    """The second study is the first one's copy whose best is the control."""
    one = unpack(tmp_path, "diffusion_hippocampus")
    other = unpack(tmp_path, "diffusion_hippocampus", 0, as_name="control")
    [found] = between_studies([other, one])
    [known] = [
        row
        for row in verdict_of("diffusion_hippocampus")["comparisons"]
        if (row["family"], row["trial"]) == ("control", 5)
    ]
    assert (found["trial"], found["other"]) == ("diffusion_hippocampus:5", "control:0")
    assert found["verdict"] == known["verdict"] == "better"
    assert (found["seeds"], found["num_different"]) == (known["seeds"], 128)
    for key in ("mean", "std_error", "seed_sd", "case_error"):
        assert found[key] == pytest.approx(known[key], rel=1e-3), "the ledger keeps five digits"
    assert found["p"] == pytest.approx(known["p"], rel=0.02)
    assert found["p_holm"] == found["p"] and found["level"] == 0.95, "alone in its family"
    assert found["units"] == ["cpu_hours"] * 2 and found["hours"][0] > 3 * found["hours"][1]
    assert (found["reason"], found["measured"]) == ("", None)


def test_over_the_seeds_and_folds_that_both_have(tmp_path):
    """The U-Net's study has three seeds, diffusion's eight."""
    unet = unpack(tmp_path, "hippocampus_unet")
    diffusion = unpack(tmp_path, "diffusion_hippocampus")
    [found] = between_studies([diffusion, unet])
    assert found["trial"] == "hippocampus_unet:4" and found["seeds"] == [1, 2, 3]
    means = {
        event["trial"]: sum(event["case_scores"]) / len(event["case_scores"])
        for event in map(json.loads, (diffusion / "ledger.jsonl").read_bytes().splitlines())
        if event["event"] == "reported" and event["epoch"] == 9
    }
    mine = next(row for row in verdict_of("hippocampus_unet")["scores"] if row["trial"] == 4)
    theirs = [means[15], means[19], means[23]]  # trial 5 again with seeds 1, 2 and 3
    expected = sum(mine["by_seed"][:3]) / 3 - sum(theirs) / 3
    assert found["mean"] == pytest.approx(expected, abs=1e-5)


def test_a_family_is_corrected_for_its_number(tmp_path):
    folders = [
        unpack(tmp_path, "diffusion_hippocampus"),
        unpack(tmp_path, "diffusion_hippocampus", 0, as_name="control"),
        unpack(tmp_path, "diffusion_hippocampus", 1, as_name="baseline"),
    ]
    rows = between_studies(folders)
    assert [row["other"] for row in rows] == ["control:0", "baseline:1"]
    assert [row["level"] for row in rows] == [0.95, 0.975]
    assert rows[1]["p_holm"] == pytest.approx(2 * rows[1]["p"])


def test_too_few_that_both_have(tmp_path):
    one = unpack(tmp_path, "diffusion_hippocampus")
    other = unpack(tmp_path, "diffusion_hippocampus", 0, as_name="control", seeds=2)
    [row] = compare_studies([one, other])["between"]
    assert (row["verdict"], row["reason"], row["seeds"]) == ("none", FEW, [1, 2])
    said = f"diffusion_hippocampus:5 against control:0: no verdict {FEW}"
    assert said in side_by_side([one, other])


def on_one_fold(event: dict) -> None:
    """As a study that trains nothing confirms: other seeds on one fold."""
    if event["event"] == "verdict":
        event["folds"] = [1] * len(event["folds"])
    elif event.get("kind") == "confirm":
        event["fold"] = 1
    elif event["event"] == "cases":
        event["names"], event["of"] = [f"case{number:02d}" for number in range(32)], 32
    elif event["event"] == "reported":
        event["case_scores"] = event["case_scores"][:32]


def test_a_third_study_changes_nothing_but_the_correction(tmp_path):
    """Two that vary their seeds on one fold, and one that varies its folds."""
    one = unpack(tmp_path, "diffusion_hippocampus", as_name="one", change=on_one_fold)
    other = unpack(tmp_path, "diffusion_hippocampus", 0, as_name="other", change=on_one_fold)
    [alone] = between_studies([one, other])
    assert alone["num_different"] == 32 and len(alone["seeds"]) == 8, "a unit a seed"
    third = unpack(tmp_path, "diffusion_hippocampus", 1, as_name="third")
    beside, apart = between_studies([third, one, other])
    assert (beside["mean"], beside["p"]) == (alone["mean"], alone["p"])
    assert (apart["other"], apart["verdict"], apart["reason"]) == ("third:1", "none", FEW)


def test_a_verdict_of_one_trial_alone_hides_no_better_one(tmp_path):
    """`confirm STUDY:1` after the best was confirmed."""
    folder = unpack(tmp_path, "diffusion_hippocampus")
    verdict = verdict_of("diffusion_hippocampus")
    for row in verdict["scores"]:
        row["role"] = "candidate" if row["trial"] == 1 else "reference"
    with (folder / "ledger.jsonl").open("ab") as file:
        file.write(seal(encode(verdict)))
    [row] = between_studies([folder, unpack(tmp_path, "hippocampus_unet")])
    assert row["other"] == "diffusion_hippocampus:5"


def test_the_best_is_that_of_the_seeds_which_all_have(tmp_path):
    """Lucky with the seeds that the other has not."""

    def lucky(event: dict) -> None:
        if event["event"] == "reported" and event["trial"] > 25:
            event["case_scores"] = [0.999] * len(event["case_scores"])
        if event["event"] == "verdict":
            for row in event["scores"]:
                row["mean"] = max(row["mean"], 0.9)

    one = unpack(tmp_path, "diffusion_hippocampus", as_name="lucky", change=lucky)
    [row] = between_studies([one, unpack(tmp_path, "hippocampus_unet")])
    assert row["trial"] == "hippocampus_unet:4" and row["mean"] > 0.07


def test_a_study_given_twice_counts_once(tmp_path):
    one = unpack(tmp_path, "diffusion_hippocampus")
    other = unpack(tmp_path, "hippocampus_unet")
    assert between_studies([one, one]) == []
    assert between_studies([one, other, one]) == between_studies([one, other])


def test_early_studies_have_no_uid_and_are_two_nevertheless(tmp_path):
    def early(event: dict) -> None:
        event.pop("uid", None)

    folders = [
        unpack(tmp_path, "diffusion_hippocampus", 7, as_name=name, change=early) for name in "ab"
    ]
    [row] = between_studies(folders)
    assert {row["trial"], row["other"]} == {"a:7", "b:7"}
    assert between_studies([folders[0], folders[0]]) == []


def test_the_lower_is_better_where_the_study_says_so(tmp_path):
    def to_lower(event: dict) -> None:
        if event["event"] == "study":
            event["config"]["objective"] = {"metric": "val/hd95_mm", "mode": "min"}

    one = unpack(tmp_path, "diffusion_hippocampus", change=to_lower)
    other = unpack(tmp_path, "diffusion_hippocampus", 0, as_name="control", change=to_lower)
    [row] = between_studies([one, other])
    assert (row["trial"], row["verdict"]) == ("control:0", "better") and row["mean"] < 0
    high = unpack(tmp_path, "hippocampus_unet")
    assert compare_studies([one, high])["incomparable"] == ["objectives"]


def test_cases_that_are_not_at_hand_or_others(tmp_path):
    def without(event: dict) -> None:
        event.pop("case_scores", None)
        event.pop("case_list", None) if event["event"] == "reported" else None

    def renamed(event: dict) -> None:
        if event["event"] == "cases":
            event["names"] = [f"pseudonym{number:03d}" for number in range(len(event["names"]))]

    one = unpack(tmp_path, "diffusion_hippocampus")
    for change, reason in {
        without: "since the cases of their trainings are not all at hand",
        renamed: "since they share too few folds with the same cases",
    }.items():
        other = unpack(tmp_path, "diffusion_hippocampus", 0, as_name=change.__name__, change=change)
        [row] = between_studies([one, other])
        assert (row["verdict"], row["reason"]) == ("none", reason)


def test_studies_that_measure_otherwise_are_said_to(tmp_path):
    def in_25_steps(event: dict) -> None:
        if event["event"] == "study":
            event["config"]["train"]["validation.steps"] = 25

    one = unpack(tmp_path, "diffusion_hippocampus")
    other = unpack(tmp_path, "diffusion_hippocampus", 7, as_name="slow", change=in_25_steps)
    said = "measured by a mask of ddim in 1 steps and by a mask of ddim in 25 steps"
    assert said in side_by_side([one, other])


def test_what_cannot_be_compared_is_not(tmp_path):
    """Another store; and a study that has confirmed nothing."""
    one = unpack(tmp_path, "diffusion_hippocampus")
    far = unpack(tmp_path, "diffusion")
    result = compare_studies([one, far])
    assert result["incomparable"] and result["between"] == []
    assert "between studies" not in side_by_side([one, far])
    young = unpack(tmp_path, "hippocampus_unet")
    lines = (young / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["event"] != "verdict"]
    (young / "ledger.jsonl").write_bytes(b"".join(kept))
    assert compare_studies([one, young])["between"] == []


def test_in_words_and_on_the_page(tmp_path):
    folders = [unpack(tmp_path, name) for name in ("diffusion_hippocampus", "hippocampus_unet")]
    assert (
        "  hippocampus_unet:4 and diffusion_hippocampus:5 are not distinguishable: Dice +0.0768, "
        "95 % interval [-0.0013, +0.1541], p 0.052 (Holm), 3 seeds, 96 cases; a training took "
        "0.024 and 0.024 CPU-hours; 4 seeds would bring the 95 % interval from about 0.078 to 0.049"
    ) in side_by_side(folders)
    write_html(folders, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    data = json.loads(text.split('id="data">')[1].split("</script>")[0])
    assert [row["other"] for row in data["between"]] == ["diffusion_hippocampus:5"]
