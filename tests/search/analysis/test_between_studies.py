"""The confirmed best of several studies, against what one study that has both says of them."""

import gzip
import json
from pathlib import Path

import pytest

from search.analysis.results import compare_studies
from search.analysis.verdicts.between_studies import between_studies
from search.ledger.line import decode, encode, seal
from search.report.page_html import write_html
from search.report.side_by_side import side_by_side

RESULTS = Path(__file__).resolve().parents[3] / "spaces" / "results"


def unpack(root: Path, name: str, best: int | None = None, *, as_name: str = "", seeds: int = 99):
    """Write a shipped study, as if `best` were what it confirmed, with no more than some seeds."""
    folder = root / (as_name or name)
    folder.mkdir(parents=True)
    lines = []
    for line in gzip.decompress((RESULTS / f"{name}.jsonl.gz").read_bytes()).splitlines():
        event = decode(line)
        if event["event"] == "study":
            event["config"]["study"] = folder.name
        if event["event"] == "verdict":
            event["seeds"], event["folds"] = event["seeds"][:seeds], event["folds"][:seeds]
            for row in event["scores"]:
                if best is not None:
                    row["role"] = "candidate" if row["trial"] == best else "reference"
        lines.append(seal(encode(event)))
    (folder / "ledger.jsonl").write_bytes(b"".join(lines))
    return folder


def verdict_of(name: str) -> dict:
    lines = gzip.decompress((RESULTS / f"{name}.jsonl.gz").read_bytes()).splitlines()
    return [event for line in lines if (event := json.loads(line))["event"] == "verdict"][-1]


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
    assert found["unit"] == "cpu_hours" and found["hours"][0] > 3 * found["hours"][1]


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
    assert (row["verdict"], row["reason"], row["seeds"]) == ("none", "before 3 seeds", [1, 2])
    said = "diffusion_hippocampus:5 against control:0: no verdict before 3 seeds"
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
        "0.053 and 0.025 CPU-hours; 12 seeds would bring"
    ) in side_by_side(folders)
    write_html(folders, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    data = json.loads(text.split('id="data">')[1].split("</script>")[0])
    assert [row["other"] for row in data["between"]] == ["diffusion_hippocampus:5"]
