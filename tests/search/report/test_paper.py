"""`segtune paper`: what stands in it, and that LaTeX takes it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from search.analysis.results import compare
from search.analysis.verdicts.contrasts import verdict_event
from search.cli.main import main
from search.ledger.journal import Ledger
from search.report.paper.bibliography import PAPERS, bibliography
from search.report.paper.figures import importance_points
from search.report.paper.latex import Tex, escape
from search.report.paper.tables import by_volume, score
from tests.search.analysis.test_contrasts import evidence
from tests.search.analysis.test_results import write
from tests.search.report.page_study import write_study

HOSTILE = r"\input{/etc/passwd}$x_1^2$%&#~<|>`'\write18{ls}" "\x1b[31m\u202eé中ŵ\n\\end{document}"


def paper(folder: Path, out: Path, status: int = 0) -> str:
    words = ["paper", folder.name, str(out), "--runs", str(folder.parent)]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == status, result.output
    return result.output


def study(folder: Path, num_trials: int, hostile: str = "") -> Path:
    """Write a study that was confirmed on other folds and on the test set.

    Args:
        folder: Of the study.
        num_trials: Searched ones.
        hostile: Ends whatever people and files name.
    """
    write_study(folder, num_trials=num_trials, pictured=0)
    found = verdict_event(evidence(t0=0.4, t3=0.45, t4=0.4), None)
    found["comparisons"][0]["reason"] = hostile
    where = f"on folds 1, 2, 3, 4, which did not select them{hostile}"
    data = {
        "event": "data", "layout": "isles24", "image_size": 64, "modalities": [f"tmax{hostile}"],
        "num_slices": 90, "num_cases": 12, "num_test": 2, "num_in_folds": [2] * 5,
        "drawn_by": None, "said": [], "notes": [f"a note{hostile}"], "skipped": 0, "ceiling": None,
    }  # fmt: skip
    threshold = {"modality": f"tmax{hostile}", "above": True, "threshold": 6.0, "dice": 0.3}
    with Ledger.open(folder / "ledger.jsonl", writer=True) as ledger:
        ledger.append({"event": "threshold", **threshold}, data)
        ledger.append({**found, "on": "validation", "where": where})
        ledger.append({**found, "on": "test", "where": "on the sealed test set"})
        ledger.append({"event": "test_read", "trial": 3, "dice": {}, "metrics": {}})
    return folder


@pytest.mark.parametrize(
    ("text", "tex"),
    [
        ("a_b", r"a\_b"),
        (r"\end{document}", r"\textbackslash{}end\{document\}"),
        ("100 % of $5 & #3", r"100 \% of \$5 \& \#3"),
        ("x^2~y", r"x\textasciicircum{}2\textasciitilde{}y"),
        ("a--b", "a{-}{-}b"),
        ("<a|b>", r"\textless{}a\textbar{}b\textgreater{}"),
        ("Zürich, São, Łódź", r"Z\"{u}rich, S\~{a}o, \L{}\'{o}d\'{z}"),
        ("µ ≥ \u03b1", r"\ensuremath{\mu} \ensuremath{\geq} \ensuremath{\alpha}"),
        ("中", r"\texttt{U+4E2D}"),
        ("a\x1b[31mb\u202ec\nd", "abc d"),
        (Tex(r"\dag"), r"\dag"),
        (0.5, "0.5"),
    ],
)
def test_text_is_shown_and_never_run(text: object, tex: str) -> None:
    assert escape(text) == tex


def test_every_sign_is_escaped() -> None:
    """What is left of each sign is ASCII whose commands are ours."""
    for number in range(0x3000):
        shown = escape(chr(number) * 2)
        assert (shown.isascii() and shown.isprintable()) or not shown
        commands = re.findall(r"\\[A-Za-z]+|\\.", shown)
        assert not {"\\input", "\\write", "\\end"} & {*commands}
        braces = re.sub(r"\\[{}]", "", shown)
        assert braces.count("{") == braces.count("}"), shown


def test_a_score_has_its_interval_or_says_that_there_is_none() -> None:
    assert score(0.4712, [0.4, 0.5431]) == "0.471 [0.400, 0.543]"
    assert score(-0.1, [-0.2, 0.1], "+.3f") == "$-$0.100 [$-$0.200, +0.100]"
    assert score(0.4712, None) == "0.471 [--]"
    assert score(None, None) == ""


def test_masks_of_some_cases_say_of_how_many(tmp_path: Path) -> None:
    result = compare(study(tmp_path / "runs/demo", num_trials=4))
    [*others, large] = sorted(result["subgroups"][0]["groups"], key=lambda g: g["name"] != "empty")
    masks = [large | {"num_cases": large["num_cases"] - 1}, *others]
    result["subgroups"].append({"name": "ours", "trial": None, "groups": masks})
    [line] = [line for line in by_volume(result).splitlines() if line.startswith("ours")]
    assert line.count("cases)") == 1
    assert f"({large['num_cases'] - 1} of {large['num_cases']} cases)" in line


def test_the_parts_have_what_compare_says_and_how_it_was_selected(tmp_path: Path) -> None:
    folder, out = study(tmp_path / "runs/demo", num_trials=4), tmp_path / "out"
    said = paper(folder, out)
    assert f"wrote      {out}" in said
    result = compare(folder)
    best, control = result["trials"][0], result["references"][0]
    ranking, beside = ((out / f"table_{n}.tex").read_text() for n in ("ranking", "references"))
    for text in (ranking, beside):
        assert score(best["dice"], best["dice_interval"]) in text
        assert "the best of 4 on validation fold 0 (selected on, optimistic)" in text
    assert score(control["dice"], control["dice_interval"]) in beside
    assert "not selected by the search" in beside
    [row] = [row for row in result["subgroups"] if row["role"] == "best"]
    assert score(best["lesion_f1"], row["intervals"]["val/lesion_f1"]) in beside
    small = row["groups"][1]
    assert score(small["dice"], small["dice_interval"]) in (out / "table_volume.tex").read_text()
    confirmed = (out / "table_confirmed_validation.tex").read_text()
    [first, *_] = result["verdicts"][0]["comparisons"]
    assert f"{score(first['mean'], first['interval'], '+.3f')} (" in confirmed
    assert "which did not select them" in confirmed
    assert "the test set has been read 1 time" in (out / "table_confirmed_test.tex").read_text()

    methods = (out / "methods.tex").read_text()
    assert "The sealed test set has been read 1 time." in methods
    assert "Of 4 configurations 2 completed and 2 stopped." in methods
    assert "Splits: 2 test, folds of 2, 2, 2, 2, 2." in methods
    assert "22222222\\allowbreak{}" in methods, "the hash of the data"
    assert "33333333\\allowbreak{}" in methods, "the commit"
    keys = re.findall(r"@\w+\{(\w+),", (out / "references.bib").read_text())
    cited = {key for words in re.findall(r"\\cite\{([^}]+)\}", methods) for key in words.split(",")}
    assert cited == {*keys}
    inputs = re.findall(r"\\input\{(\w+)\}", (out / "paper.tex").read_text())
    pictures = {f"{name}.pdf" for name in inputs if name.startswith("figure")}
    files = {f"{name}.tex" for name in [*inputs, "paper"]} | pictures
    assert files | {"references.bib", "trials.csv"} == {path.name for path in out.iterdir()}
    assert all((out / name).read_bytes().startswith(b"%PDF") for name in pictures)


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "runs/demo", num_trials=1, pictured=0)
    (tmp_path / "out").mkdir()
    for out in (tmp_path / "out", tmp_path / "no" / "folder"):
        said = paper(folder, out, status=2)
        assert said.startswith(f"{out}: ") and len(said.splitlines()) == 1
    folder = write(tmp_path / "runs/empty", {})
    assert "no trial has reported" in paper(folder, tmp_path / "new", status=2)
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("runs", "out")] == []


def test_importance_is_drawn_where_there_is_any() -> None:
    groups = [
        {"choice": "v", "num_trials": 7, "diverged": 0, "mean": 0.4, "interval": None},
        {"choice": "eps", "num_trials": 0, "diverged": 0, "mean": None, "interval": None},
    ]
    found = {"parameters": [{"name": "diffusion.target", "p": 0.012, "groups": groups}]}
    points = [("diffusion.target, p 0.012", None, None), ("v (7)", 0.4, None)]
    assert importance_points({"importance": found}) == points
    for nothing in ({}, {"importance": None}, {"importance": {"parameters": []}}):
        assert importance_points(nothing) == []


def test_the_bibliography_has_unique_keys_and_whole_entries() -> None:
    text = bibliography(["segtune", *PAPERS], "1.0")
    assert re.findall(r"^@\w+\{(\w+),$", text, re.M) == ["segtune", *PAPERS]
    for entry in text.split("\n\n"):
        assert entry.count("{") == entry.count("}")
        assert {"title", "author"} <= {*re.findall(r"^  (\w+) = ", entry, re.M)}


@pytest.mark.slow  # 5 s
@pytest.mark.parametrize("hostile", ["", HOSTILE], ids=["plain", "hostile"])
def test_it_compiles(tmp_path: Path, hostile: str) -> None:
    if not (shutil.which("pdflatex") and shutil.which("bibtex")):
        pytest.skip("needs Debian's texlive-latex-base and texlive-latex-recommended")
    out = tmp_path / "out"
    paper(study(tmp_path / "runs/demo", num_trials=14, hostile=hostile), out)
    latex = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper"]
    for command in (latex, ["bibtex", "paper"], latex, latex):
        done = subprocess.run(command, cwd=out, capture_output=True, errors="replace")
        assert done.returncode == 0, done.stdout[-3000:]
    assert ("passwd" in (out / "methods.tex").read_text()) == bool(hostile)
    log = (out / "paper.log").read_text(errors="replace")
    assert "undefined" not in log and "Missing character" not in log
    assert (out / "paper.pdf").read_bytes().startswith(b"%PDF")
