"""Everything that a paper needs of a study, as files of one folder: paper.tex shows them all."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search.analysis.results import compare
from search.ledger.journal import Ledger
from search.report.csv_table import csv_table
from search.report.learning_curves import draw_study
from search.report.mattered import mattered_method, mattered_sentence
from search.report.paper import figures, tables
from search.report.paper.bibliography import bibliography, cited
from search.report.paper.latex import Tex, capital, code, escape, filled_in
from search.report.paper.methods import methods
from search.storage.studies import display_path, read_study
from search.study.config import StudyConfig
from trainer.configfile import ConfigError


def write_paper(folder: Path, out: Path) -> None:
    """Write a study's tables, figures, methods and bibliography.

    Args:
        folder: The study's.
        out: An empty folder.

    Raises:
        ConfigError: No trial has reported yet.
        OSError: The study cannot be read, or the folder written.
    """
    result = compare(folder)
    study, state = read_study(folder)
    if not any(trial.reports for trial in state.trials.values()):
        raise ConfigError([f"{display_path(folder)}: no trial has reported: nothing to write of"])
    events = Ledger.open(folder / "ledger.jsonl", writer=False).events
    keys = cited(study, result)
    version = (state.study or {}).get("versions", {}).get("segtune", "unknown")
    parts = {f"table_{name}": text for name, text in _tables(study, result).items()}
    with figures.as_vectors():
        draw_study(study, state, out / "figure_curves.pdf")
        captions = {"curves": _curves(result)} | _draw(result, out)
    parts |= {f"figure_{name}": _figure(name, caption) for name, caption in captions.items()}
    texts = {f"{name}.tex": text for name, text in parts.items()} | {
        "methods.tex": methods(study, state, events, result, keys),
        "references.bib": bibliography(keys, escape(version)),
        "trials.csv": csv_table([result]),
        "paper.tex": filled_in(
            "paper.tex.jinja", code=code, study=study.study, parts=[Tex(part) for part in parts]
        ),
    }
    for name, text in texts.items():
        (out / name).write_text(text, encoding="utf-8")


def _tables(study: StudyConfig, result: Mapping[str, Any]) -> dict[str, Tex]:
    """Return the tables by name, those for which there is anything."""
    found = {"space": tables.space(study, result)}
    ranked = any(row["rank"] for row in result["trials"])
    if ranked:
        found["ranking"] = tables.ranking(result)
    if ranked or result["references"] or result["masks"]:
        found["references"] = tables.references(result)
    if result["subgroups"] and tables.volume_names(result):
        found["volume"] = tables.by_volume(result)
    return found | {f"confirmed_{e['on']}": tables.verdict(e, result) for e in result["verdicts"]}


def _draw(result: Mapping[str, Any], out: Path) -> dict[str, Tex]:
    """Draw the figures for which there is anything, and return their captions by name."""
    captions = {}
    how = f"validation fold {result['fold']}: {result['label']}"
    if figures.draw_importance(result, out / "figure_importance.pdf"):
        found = result["importance"]
        captions["importance"] = escape(
            f"{tables.name_of(found['metric'])} by the values of each searched setting, with 95 % "
            f"intervals over trials; open where there are too few ({mattered_method(found)}). "
            f"{capital(mattered_sentence(found))}."
        )
    if figures.draw_references(result, out / "figure_references.pdf"):
        captions["references"] = escape(
            "Dice of the best searched configuration and of what it is compared with, with 95 % "
            f"intervals over cases; open where there is none. Of the best, {how}; the others were "
            "not selected by the search."
        )
    if result["subgroups"] and tables.volume_names(result):
        figures.draw_volumes(result, out / "figure_volume.pdf")
        captions["volume"] = escape(
            "Dice by lesion volume at the last epoch, with 95 % intervals where there are enough "
            f"cases to tell. Of the best, {how}."
        )
    return captions


def _curves(result: Mapping[str, Any]) -> Tex:
    where = "" if result["fold"] is None else f" on validation fold {result['fold']}"
    return escape(
        f"{tables.name_of(result['objective']['metric'])} by epoch of every trial{where} "
        f"({result['label']}). Single validations, without intervals."
    )


def _figure(name: str, caption: Tex) -> Tex:
    return Tex(
        "\\begin{figure}[tbp]\n\\centering\n"
        f"\\includegraphics[width=\\linewidth]{{figure_{name}}}\n"
        f"\\caption{{{caption}}}\\label{{fig:{name}}}\n\\end{{figure}}\n"
    )
